"""The policy of a live router, as the store keeps it: it is read, decides and learns, and is saved once after that."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace

from messctl.learning.compiled import at_once
from messctl.learning.features import Encoder
from messctl.learning.snapshot import Snapshot
from messctl.live.shared_learning import joined
from messctl.policies import LivePolicy, live_build
from messctl.policies.base import Looking
from messctl.records import Decision, Evidence, Feedback, Request
from messctl.state.policy_arrays import Reading
from messctl.state.request_log import LoggedRequest
from messctl.state.store import Store
from messctl.zoo import Settings, Zoo


class StoredPolicy:
    """The policy of the `settings` over a `zoo`. It is read from the `store` before it decides or learns, then saved.

    Call every method but `rehearse` within a transaction of the store. As long as nobody else saves anything, the
    policy stays in memory, and is not read again. What changes in a transaction is saved once, at its end. The policy
    sees prompts through the `encoder`, by default their words.
    `cost_source` says where costs come from; what was learned from costs of another source is forgotten.
    What is learned of models is kept in the store `shared`, too, if there is one, and others learn from it.
    """

    def __init__(
        self,
        zoo: Zoo,
        settings: Settings,
        store: Store,
        cost_source: str,
        encoder: Encoder | None = None,
        shared: Store | None = None,
    ) -> None:
        self._zoo = zoo
        self._settings = settings
        self._store = store
        self._shared = shared
        self._cost_source = cost_source
        self._encoder = encoder
        self._build = live_build(settings.policy)
        self._kept: _Kept | None = None
        self._read: Reading | None = None
        self._last = Snapshot()

    @property
    def last_known(self) -> Snapshot:
        """What was read or saved last. Nothing is read for it."""
        return self._last

    def decide(self, request: Request) -> Decision:
        """Return the policy's decision on a request."""
        policy = self._present()
        decision = policy.decide(request)
        self._save_later(policy)
        return decision

    def queue(self) -> float:
        """Return the virtual queue as it is now, ≥ 0."""
        kept = self._kept
        if kept is not None and kept.stamp[0] == self._store.policy.stamp:
            return kept.policy.queue
        return self._store.policy.queue()

    def rehearse(self) -> None:
        """Decide and learn once, without storing anything, so that whatever is compiled is compiled, or loaded, now.

        That may take a minute, so it is called outside of a transaction: nobody else waits for it.
        """
        with self._store.unchanging(), nullcontext() if self._shared is None else self._shared.unchanging():
            known = self._known()
        policy = self._from(known, self._settings)
        with at_once():
            decision = policy.decide(Request("", "rehearsal"))
            if isinstance(policy, Looking):
                decision = replace(policy.look(decision, {decision.served: Evidence(0)}), served=decision.served)
            satisfied, costs = {decision.served: 1.0}, {decision.served: 0.0}
            policy.learn(decision, Feedback(costs=costs, satisfied=satisfied))

    def decide_again(self, lost: Decision, request: Request) -> Decision:
        """Return a new decision in place of `lost`, whose model failed: the two count as one decision.

        The policy goes back to its state before `lost`, with the same coin. If others have decided since then, the new
        decision is made from the present state, and the policy does not count it.
        """
        self._hold_shared()
        known = self._known()
        newest = known.decided == lost.request_number
        if newest:
            known = replace(known, decided=known.decided - 1)
        policy = self._from(known, self._settings)
        decision = policy.decide(request)
        if newest:
            self._save(policy.snapshot())
        return replace(decision, request_number=lost.request_number)

    def look(self, decision: Decision, answers: Mapping[str, Evidence]) -> Decision:
        """Return how a request goes on after `answers`; see `Looking`."""
        policy = self._present()
        decision = policy.look(decision, answers) if isinstance(policy, Looking) else replace(decision, answers=answers)
        self._save_later(policy)
        return decision

    def overridden(self, request: Request, model: str) -> Decision:
        """Return the user's decision for `model`; the policy does not count it.

        The policy is read all the same: nobody should pay for an answer from which a damaged one cannot learn.
        """
        policy, read, kept = self._present(), self._read, self._kept
        assert read is not None
        saved = kept is None or kept.policy is not policy or kept.saved
        self._kept = _Kept(self._stamp(), policy, read, saved)
        return Decision(request, 0, model, (model,), queue=policy.queue)

    def learn_feedback(self, logged: LoggedRequest, satisfied: float, corrected: float | None) -> None:
        """Learn the feedback on a logged answer, 0..1, which may have `corrected` an earlier one.

        The policy counts its own decisions as if those that another policy made since then had come before all of
        them.
        """
        decision, circumstances = logged.decision, logged.circumstances
        number = 0
        if decision.request_number and circumstances.policy == self._settings.policy:
            request_id = decision.request.request_id
            others = self._store.requests.decided_by_others_since(request_id, circumstances.policy)
            number = decision.request_number + others
        feedback = Feedback(satisfied={decision.served: satisfied}, corrects=corrected is not None)
        self.learn(
            replace(decision, request_number=number),
            *(() if corrected == satisfied else (feedback,)),
            alpha=circumstances.alpha,
            corrected=corrected is not None,
        )

    def learn(
        self, decision: Decision, *feedback: Feedback, alpha: float | None = None, corrected: bool = False
    ) -> None:
        """Learn all feedback on a decision, in order.

        `alpha` is the aim under which the answer was given, if that may not be the present one. If an earlier feedback
        was `corrected`, queue and balance are computed from the stored log.
        """
        same = alpha is None or alpha == self._settings.aim
        settings = self._settings if same or alpha is None else replace(self._settings, alpha=alpha, margin=0.0)
        self._hold_shared()
        policy = self._present() if same else self._from(self._known(), settings)
        for each in feedback:
            policy.learn(decision, each)
        if same and not corrected and self._shared is None:
            self._save_later(policy)
            return
        learned = policy.snapshot()
        if corrected:
            requests = self._store.requests
            learned = replace(learned, queue=requests.queue(), balance=requests.balance())
        self._share(learned)
        self._save(learned, policy if same and not corrected else None)

    def start_from(self, learned: Snapshot) -> None:
        """Replace what the policy has learned by what was learned elsewhere; queue, balance and counts stay.

        Costs that come from another source than `cost_source` are left out, and those known here stay instead.
        """
        known = self._store.policy.snapshot().costs_from(self._cost_source)
        learned = learned.costs_from(self._cost_source)
        models = {
            name: replace(model, mean_cost=known.models[name].mean_cost, cost_count=known.models[name].cost_count)
            if name in known.models and not model.cost_count
            else model
            for name, model in learned.models.items()
        }
        self._store.policy.forget(learned.policy)
        self._read = None
        self._save(replace(learned, decided=known.decided, queue=known.queue, balance=known.balance, models=models))

    def _hold_shared(self) -> None:
        """Keep others from learning what is shared, until the transaction ends. An undone one has taught nothing."""
        if self._shared is not None:
            self._store.database.join(self._shared.transaction)

    def _present(self) -> LivePolicy:
        """Return the policy as it is now: the one in memory if nothing else was saved since, or one that is read.

        Then it may change, so that the transaction must be undone if anything fails before the policy is kept or saved.
        """
        self._hold_shared()
        kept, stamp = self._kept, self._stamp()
        if kept is not None and kept.stamp == stamp:
            policy, self._read = kept.policy, kept.reading
        else:
            # What this process saved last may have been undone; if not, what others saved since is read on top of it.
            stands = kept is not None and kept.stamp[0][1] == stamp[0][1]
            policy = self._from(self._known(kept.reading if kept and stands else None), self._settings)
        self._store.policy.later(self._save_kept)
        return policy

    def _known(self, earlier: Reading | None = None) -> Snapshot:
        """Return what is known now. What was not saved since an `earlier` reading is not read again."""
        self._read = self._store.policy.read(self._settings.policy, earlier)
        own = self._read.snapshot.costs_from(self._cost_source)
        if self._shared is not None:
            others = self._shared.policy.snapshot(self._settings.policy)
            own = joined(own, others.costs_from(self._cost_source))
        self._last = own
        return own

    def _share(self, learned: Snapshot) -> None:
        """Let others learn from what was learned here."""
        if self._shared is not None:
            others = self._shared.policy.snapshot(self._settings.policy).costs_from(self._cost_source)
            self._shared.policy.save(joined(others, learned).with_source(self._cost_source))

    def _stamp(self) -> tuple[tuple[int, int], ...]:
        stores = [self._store] if self._shared is None else [self._store, self._shared]
        return tuple(store.policy.stamp for store in stores)

    def _from(self, known: Snapshot, settings: Settings) -> LivePolicy:
        return self._build(self._zoo, settings, known, self._encoder)

    def _save(self, learned: Snapshot, policy: LivePolicy | None = None) -> None:
        """Save what was learned, and keep the `policy` in memory that knows it."""
        learned, read = learned.with_source(self._cost_source), self._read
        self._read = self._kept = None
        self._store.policy.save(learned, None if read is None else read.snapshot)
        self._last = learned
        if policy and read:
            self._kept = _Kept(self._stamp(), policy, read.then(learned))
            self._store.policy.expect(self._settings.policy, self._kept.reading)

    def _save_later(self, policy: LivePolicy) -> None:
        """Keep the `policy` in memory, and save what it knows at the end of the transaction, or when others read it."""
        read, self._read = self._read, None
        assert read is not None
        self._kept = _Kept(self._stamp(), policy, read, saved=False)

    def _save_kept(self) -> None:
        kept = self._kept
        if kept is not None and not kept.saved:
            self._read = kept.reading
            self._save(kept.policy.snapshot(), kept.policy)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A policy in memory, the stamps of the stores that hold the same, and what reading them would give.

    If it is not `saved`, they will hold the same at the end of the transaction.
    """

    stamp: tuple[tuple[int, int], ...]
    policy: LivePolicy
    reading: Reading
    saved: bool = True
