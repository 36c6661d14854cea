"""Decisions for models that somebody else runs: the policy decides and learns, and nothing is asked here."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import replace

from messctl.errors import UnknownNameError, UsageError
from messctl.learning.features import Encoder
from messctl.learning.snapshot import cost_source
from messctl.live.stored_policy import StoredPolicy
from messctl.records import Decision, Feedback, Outcome, Request
from messctl.state.request_log import Circumstances, LoggedRequest
from messctl.state.store import Store
from messctl.zoo import Settings, Zoo


class Decisions:
    """The decisions of the `settings`' policy over a `zoo`, logged in a `store`; costs are in `unit`, from `meter`.

    Raises UsageError for settings by which several models may be asked.
    """

    def __init__(
        self, zoo: Zoo, settings: Settings, store: Store, unit: str, meter: str, encoder: Encoder | None = None
    ) -> None:
        if settings.asks > 1:
            raise UsageError(f"asks is {settings.asks}; one model is decided on per request here: leave it at 1")
        self._zoo = zoo
        self._store = store
        self._policy = StoredPolicy(zoo, settings, store, cost_source(unit, meter), encoder)
        self._circumstances = Circumstances(settings.policy, settings.aim, unit, meter)

    def decide(self, prompt: str, request_id: str | None = None, without: Iterable[str] = ()) -> Decision:
        """Decide which model is to answer a prompt, and log the decision. The models `without` are left out.

        Raises UnknownNameError, UsageError for an id that is logged already or if no model is left, StoreError.
        """
        excluded = frozenset(without)
        for name in excluded:
            if name not in self._zoo.models:
                raise UnknownNameError("model", name, self._zoo.models)
        if excluded.issuperset(self._zoo.models):
            raise UsageError("every model is left out; leave one that can answer")
        request = Request(request_id or secrets.token_hex(6), prompt, gradable=False, excluded=excluded, looks=False)

        def decide_and_log() -> Decision:
            if self._store.requests.has(request.request_id):
                raise UsageError(f"request id {request.request_id!r} is logged already; give each request its own")
            decision = self._policy.decide(request)
            self._store.requests.add(decision, replace(self._circumstances, characters=len(prompt)))
            return decision

        return self._store.together(decide_and_log)

    def learn(self, request_id: str, satisfied: float | None, cost: float | None, answer: str | None) -> None:
        """Learn what the answer to a request cost, and how good it is, 0..1; either may come first, or later.

        The first call needs the cost. A second satisfaction corrects the first. Raises UsageError, StoreError.
        """
        if satisfied is not None and not 0.0 <= satisfied <= 1.0:
            raise UsageError(f"satisfied is {satisfied:g}; it must lie in 0..1")

        def learn() -> None:
            logged = self._store.requests.find(request_id)
            if not logged.answers:
                logged = self._add_answer(logged, cost, answer)
            elif cost is not None or answer is not None:
                raise UsageError(f"request {request_id}: its answer and cost are stored already; state satisfied alone")
            if satisfied is not None:
                decision = logged.decision
                of_model = {decision.served: satisfied}
                corrected = self._store.requests.set_feedback(decision.request.request_id, of_model, decision.served)
                self._policy.learn_feedback(logged, satisfied, corrected)

        self._store.together(learn, synced=satisfied is not None)

    def _add_answer(self, logged: LoggedRequest, cost: float | None, answer: str | None) -> LoggedRequest:
        """Store the answer and learn its cost, within a transaction. Return the request as it is logged then."""
        decision = logged.decision
        request_id = decision.request.request_id
        if cost is None:
            raise UsageError(f"request {request_id}: the cost of its answer is unknown; give cost, in {self.unit}")
        if not 0.0 <= cost < float("inf"):
            raise UsageError(f"cost is {cost:g}; it must be finite and not negative")
        outcome = Outcome(cost=cost, tokens_in=0, tokens_out=0, answer=answer, cost_quality="stated")
        self._store.requests.add_answers(request_id, {decision.served: outcome})
        self._policy.learn(decision, Feedback(costs={decision.served: cost}))
        return self._store.requests.find(request_id)

    @property
    def unit(self) -> str:
        """The unit of the costs."""
        return self._circumstances.cost_unit
