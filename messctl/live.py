"""Live: a request goes through the policy to a model, and what comes of it back into the state.

    prompt → decide → complete → learn the costs → grade or wait for feedback → learn → store

Deciding and learning are transactions of the store, answering is not: two shells may ask at once.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from messctl.backends.base import Backend, OnText
from messctl.errors import BackendError, UnknownNameError, UsageError
from messctl.features import Encoder
from messctl.graders import Grader
from messctl.ledger import Standing
from messctl.meters import Meter
from messctl.policies import LivePolicy, live_build
from messctl.records import Completion, Decision, Feedback, Question, Request
from messctl.snapshot import Snapshot, cost_source
from messctl.store import Circumstances, LoggedRequest, Store
from messctl.trace import Outcome
from messctl.zoo import ModelSpec, Settings, Zoo

OnDecision = Callable[[Decision], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of one request: its decision, the served `completion`, its cost, and its grade, if there is one.

    `cost` is everything that was paid for the request, `failures` are the models that were queried beside the
    served one and could not answer.
    """

    decision: Decision
    completion: Completion
    cost: float
    cost_unit: str
    meter: str
    forced: bool
    satisfied: float | None
    standing: Standing
    failures: Mapping[str, str]


class Router:
    """The live router over a zoo of models, a backend that runs them, a meter, and a store of its state.

    `grader` judges every answer, unless a request brings one of its own; the policy sees prompts as the `encoder` does,
    by default by their words.
    """

    def __init__(
        self,
        models: Mapping[str, ModelSpec],
        settings: Settings,
        backend: Backend,
        meter: Meter,
        store: Store,
        grader: Grader | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        self._build = live_build(settings.policy)
        self._encoder = encoder
        self._models = models
        self._settings = settings
        self._backend = backend
        self._meter = meter
        self._store = store
        self._grader = grader
        self._zoo = Zoo.of(models, settings.reference or _costliest(models, meter))

    @property
    def settings(self) -> Settings:
        """What is promised, and how it is kept."""
        return self._settings

    @property
    def zoo(self) -> Zoo:
        """The models' names, and the reference among them."""
        return self._zoo

    @property
    def encoder(self) -> Encoder | None:
        """What the policy sees of prompts; None: their words."""
        return self._encoder

    @property
    def cost_source(self) -> str:
        """Where costs come from: the unit, and the meter."""
        return cost_source(self._meter.unit, self._meter.source)

    def ask(
        self,
        question: Question,
        *,
        model: str | None = None,
        grader: Grader | None = None,
        on_text: OnText | None = None,
        on_decision: OnDecision | None = None,
        request_id: str | None = None,
    ) -> Asked:
        """Route one question, have it answered, and learn what it cost, and how good it was where `grader` tells.

        `model` overrides the policy. `on_decision` hears the decision before any model runs, `on_text` the served
        answer as it comes. Raises BackendError where the served model cannot answer, StoreError, UsageError.
        """
        grader = grader or self._grader
        gradable = grader is not None and model is None
        request = Request(request_id or secrets.token_hex(6), question.prompt, gradable)
        decision = self._decide(request, model)
        if on_decision:
            on_decision(decision)
        served = self._backend.complete(self._models[decision.served], question, on_text)
        answered = {decision.served: served}
        failures: dict[str, str] = {}
        if len(decision.queried) > 1:
            # What somebody has seen already is kept before the others are asked, which may take long.
            self._settle(decision, answered, {})
            answered, failures = self._complete_others(decision, question)
        grades = (
            {name: grader(got.answer) for name, got in ({decision.served: served} | answered).items()} if grader else {}
        )
        costs = self._settle(decision, answered, grades)
        if len(decision.queried) > 1:
            costs[decision.served] = self._meter.cost(self._models[decision.served], served)
        return Asked(
            decision=decision,
            completion=served,
            cost=sum(costs[name] for name in sorted(costs)),
            cost_unit=self._meter.unit,
            meter=self._meter.source,
            forced=model is not None,
            satisfied=grades.get(decision.served),
            standing=self.standing(),
            failures=failures,
        )

    def feedback(self, request_id: str, satisfied: float) -> tuple[LoggedRequest, float | None]:
        """Take a user's judgement, 0..1, of the answer served to a request: an id, the start of one, or `last`.

        Returns the request, and the earlier judgement that this one corrects. A correction keeps the earlier one's
        place in the order, and queue and balance are recomputed from there; the policy, which cannot unlearn, learns
        the new judgement as one more label. Raises UsageError, StoreError.
        """
        if not 0.0 <= satisfied <= 1.0:
            raise UsageError(f"feedback is {satisfied:g}; it must lie in 0..1")
        with self._store.transaction(synced=True):
            logged = self._store.find(request_id)
            if not logged.answers:
                raise UsageError(f"request {logged.decision.request.request_id} was never answered; nothing to judge")
            judged = {logged.decision.served: satisfied}
            corrected = self._store.set_feedback(logged.decision.request.request_id, judged, logged.decision.served)
            policy = self._policy(logged.circumstances.alpha)
            if corrected != satisfied:
                policy.learn(logged.decision, Feedback(satisfied=judged))
            snapshot = policy.snapshot()
            if corrected is not None:
                snapshot = replace(snapshot, queue=self._store.queue(), balance=self._store.balance())
            self._save(snapshot)
        return logged, corrected

    def start_from(self, learned: Snapshot, *, overwrite: bool = False) -> None:
        """Take what was learned elsewhere in place of what was learned here.

        Requests, judgements and the debt stay as they are. Raises UsageError where there are requests already, unless
        `overwrite` is wanted.
        """
        with self._store.transaction(synced=True):
            if not overwrite:
                self.check_unused()
            known = self._store.snapshot().costs_from(self.cost_source)
            learned = learned.costs_from(self.cost_source)
            models = {
                name: replace(model, mean_cost=known.models[name].mean_cost, cost_count=known.models[name].cost_count)
                if name in known.models and not model.cost_count
                else model
                for name, model in learned.models.items()
            }
            self._store.forget(learned.policy)
            self._save(replace(learned, decided=known.decided, queue=known.queue, balance=known.balance, models=models))

    def check_unused(self) -> None:
        """Raise UsageError where there are requests already."""
        if self._store.newest(1):
            raise UsageError(f"{self._store.path}: has requests, and has learned from them; give --overwrite")

    def standing(self) -> Standing:
        """Return where the promise stands now."""
        return Standing.of(self._store)

    def _decide(self, request: Request, model: str | None) -> Decision:
        if model is not None and model not in self._models:
            raise UnknownNameError("model", model, self._zoo.models)
        with self._store.transaction():
            if model is None:
                policy = self._policy()
                decision = policy.decide(request)
                self._save(policy.snapshot())
            else:
                state = self._store.snapshot()
                decision = Decision(request, state.decided, model, (model,), queue=state.queue)
            self._store.add_request(decision, self._circumstances(forced=model is not None))
        return decision

    def _complete_others(self, decision: Decision, question: Question) -> tuple[dict[str, Completion], dict[str, str]]:
        """Have the models answer that were queried beside the served one; one that fails is left out."""
        completions: dict[str, Completion] = {}
        failures: dict[str, str] = {}
        for name in decision.queried:
            if name != decision.served:
                try:
                    completions[name] = self._backend.complete(self._models[name], question)
                except BackendError as error:
                    failures[name] = str(error)
        return completions, failures

    def _settle(
        self, decision: Decision, completions: Mapping[str, Completion], grades: Mapping[str, float]
    ) -> dict[str, float]:
        """Log answers, learn what they cost and how they were graded, and return their costs, all at once."""
        costs = {name: self._meter.cost(self._models[name], got) for name, got in completions.items()}
        request_id = decision.request.request_id
        outcomes = {
            name: Outcome(None, costs[name], got.latency_s, got.tokens_in, got.tokens_out, got.answer)
            for name, got in completions.items()
        }
        with self._store.transaction(synced=bool(grades)):
            self._store.add_answers(request_id, outcomes)
            policy = self._policy()
            policy.learn(decision, Feedback(costs=costs))
            if grades:
                self._store.set_feedback(request_id, grades, decision.served)
                policy.learn(decision, Feedback(satisfied=grades))
            self._save(policy.snapshot())
        return costs

    def _policy(self, alpha: float | None = None) -> LivePolicy:
        """Return the policy as it stands; `alpha` is what was aimed at when an answer was given that is judged now."""
        settings = self._settings if alpha is None else replace(self._settings, alpha=alpha, margin=0.0)
        snapshot = self._store.snapshot(settings.policy).costs_from(self.cost_source)
        return self._build(self._zoo, settings, snapshot, self._encoder)

    def _save(self, snapshot: Snapshot) -> None:
        self._store.save(snapshot.with_source(self.cost_source))

    def _circumstances(self, *, forced: bool) -> Circumstances:
        meter = self._meter
        return Circumstances(self._settings.policy, self._settings.aim, meter.unit, meter.source, forced)


def _costliest(models: Mapping[str, ModelSpec], meter: Meter) -> str:
    """Return the model with the dearest tokens; a tie goes to the last by name."""

    def price(name: str) -> float:
        try:
            per_token = meter.per_token(models[name])
        except BackendError:
            return -1.0  # a model that cannot be read is no reference; it is told when it is to answer
        return per_token.prompt + per_token.generated

    return max(sorted(models), key=price)
