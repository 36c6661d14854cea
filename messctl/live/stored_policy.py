"""The policy of a live router, as the store keeps it: it lives from one decision, or one lesson, to the next."""

from __future__ import annotations

from dataclasses import replace

from messctl.learning.features import Encoder
from messctl.learning.snapshot import Snapshot
from messctl.policies import LivePolicy, live_build
from messctl.records import Decision, Feedback, Request
from messctl.state.request_log import LoggedRequest
from messctl.state.store import Store
from messctl.zoo import Settings, Zoo


class StoredPolicy:
    """The policy of the `settings` over a `zoo`, taken from the `store` whenever it decides or learns, and saved.

    Every method is called within a transaction of the store. The policy sees prompts as the `encoder` does, by default
    by their words. `cost_source` says where costs come from; what was learned from those of another is forgotten.
    """

    def __init__(
        self, zoo: Zoo, settings: Settings, store: Store, cost_source: str, encoder: Encoder | None = None
    ) -> None:
        self._zoo = zoo
        self._settings = settings
        self._store = store
        self._cost_source = cost_source
        self._encoder = encoder
        self._build = live_build(settings.policy)

    def decide(self, request: Request) -> Decision:
        """Have it decide on a request."""
        policy = self._from(self._known(), self._settings)
        decision = policy.decide(request)
        self._save(policy.snapshot())
        return decision

    def decide_again(self, lost: Decision, request: Request) -> Decision:
        """Have it decide on the `request` of a decision whose model failed: it is one decision, not two.

        It goes back to where it stood before that decision, with the same coin; where others have been taken since,
        the new one is taken beside them, and it does not count it.
        """
        known = self._known()
        newest = known.decided == lost.request_number
        if newest:
            known = replace(known, decided=known.decided - 1)
        policy = self._from(known, self._settings)
        decision = policy.decide(request)
        if newest:
            self._save(policy.snapshot())
        return replace(decision, request_number=lost.request_number)

    def overridden(self, request: Request, model: str) -> Decision:
        """Return the decision that somebody else has taken, for `model`: the policy does not count it."""
        return Decision(request, 0, model, (model,), queue=self._store.snapshot().queue)

    def judge(self, logged: LoggedRequest, satisfied: float, corrected: float | None) -> None:
        """Have it learn the judgement of a logged answer, which may have `corrected` an earlier one.

        It counts decisions as it does now: what another policy decided since then came before all of its own.
        """
        decision, circumstances = logged.decision, logged.circumstances
        number = 0
        if decision.request_number and circumstances.policy == self._settings.policy:
            request_id = decision.request.request_id
            number = decision.request_number + self._store.decided_by_others_since(request_id, circumstances.policy)
        told = Feedback(satisfied={decision.served: satisfied}, corrects=corrected is not None)
        self.learn(
            replace(decision, request_number=number),
            *(() if corrected == satisfied else (told,)),
            alpha=circumstances.alpha,
            corrected=corrected is not None,
        )

    def learn(
        self, decision: Decision, *feedback: Feedback, alpha: float | None = None, corrected: bool = False
    ) -> None:
        """Have it learn what became known about a decision, in this order.

        `alpha` is what was aimed at when the answer was given, where that may be another than now. Where an earlier
        judgement was `corrected`, queue and balance are those of the store's log.
        """
        settings = self._settings if alpha is None else replace(self._settings, alpha=alpha, margin=0.0)
        policy = self._from(self._known(), settings)
        for each in feedback:
            policy.learn(decision, each)
        learned = policy.snapshot()
        if corrected:
            learned = replace(learned, queue=self._store.queue(), balance=self._store.balance())
        self._save(learned)

    def start_from(self, learned: Snapshot) -> None:
        """Take what was learned elsewhere in place of what it had learned; where the promise stands, stays.

        Costs that come from another source than `cost_source` are left out, and those known here stay instead.
        """
        known = self._store.snapshot().costs_from(self._cost_source)
        learned = learned.costs_from(self._cost_source)
        models = {
            name: replace(model, mean_cost=known.models[name].mean_cost, cost_count=known.models[name].cost_count)
            if name in known.models and not model.cost_count
            else model
            for name, model in learned.models.items()
        }
        self._store.forget(learned.policy)
        self._save(replace(learned, decided=known.decided, queue=known.queue, balance=known.balance, models=models))

    def _known(self) -> Snapshot:
        return self._store.snapshot(self._settings.policy).costs_from(self._cost_source)

    def _from(self, known: Snapshot, settings: Settings) -> LivePolicy:
        return self._build(self._zoo, settings, known, self._encoder)

    def _save(self, learned: Snapshot) -> None:
        self._store.save(learned.with_source(self._cost_source))
