"""The policy with its state: it decides, learns, is saved, and plays recorded rounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from messctl.learning.features import Encoder, WordEncoder
from messctl.learning.predictor import Weights
from messctl.learning.random_streams import stream
from messctl.learning.snapshot import Arrays, ModelSnapshot, Snapshot, restore
from messctl.policies.bandit.balance import limit_credit
from messctl.policies.bandit.calls import choose, learn_cost, learn_satisfaction, record_balance
from messctl.policies.bandit.choice import Choice, Prices
from messctl.policies.bandit.costs import BY_MEAN
from messctl.policies.bandit.prompt import features_of
from messctl.policies.bandit.rounds import Outcomes, Steps, empty_steps, play
from messctl.policies.bandit.satisfaction import linear_weights
from messctl.policies.bandit.state import AUTO_V, UNKNOWN_DELAY, Promise, fresh, memory_of, stored_arrays
from messctl.policies.bandit.tuning import Tuning, constants_of
from messctl.policies.base import Played, PolicyKind, Rounds, reading_costs, surcharges
from messctl.records import GUARDED, HELD_BACK, SURCHARGE, TRIED, Decision, Feedback, Request, Weighed
from messctl.zoo import Settings, Zoo

STATE_VERSION = 3
"""Changes whenever stored arrays would mean something else."""
EARLIER_VERSION = 2
"""Its plain means, counts and costs mean the same; what it knew of prompts has other names, and is learned anew."""

# The stored arrays, by what they are valid for. A model has its own part in each of the first four groups.
TALLIES = ("good", "answers")
"""Valid under any encoder."""
SERVED = ("served_at",)
"""Valid under any encoder: the requests that a model served."""
WEIGHTS = ("own_weight", "own_covariance")
"""Valid for one encoder."""
COSTS = ("cost_weight", "cost_cov", "costs", "recent_known")
"""Valid for one encoder, and in the unit of the costs."""
COUNTS = ("counts", "lateness", "forgone", "elsewhere", "variance")
"""Shared by all models; valid under any encoder."""
AMOUNTS = ("tried", "base_price")
"""Shared by all models, and in the unit of the costs, as λ₀ is."""
SHARED_WEIGHTS = ("shared_weight", "shared_covariance", "recent_prompts", "trust")
"""Shared by all models; valid for one encoder."""


class Bandit:
    """The policy with its state.

    `snapshot` is a state to go on from, `tuning` replaces constants, and `encoder` is the one by words unless given.
    """

    name = "bandit"

    def __init__(
        self,
        zoo: Zoo,
        settings: Settings,
        snapshot: Snapshot | None = None,
        tuning: Tuning | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        self._zoo = zoo
        self._encoder = encoder or WordEncoder()
        self._settings = settings
        self._tuning = tuning or Tuning()
        self._constants = constants_of(self._tuning)
        self._promise = _promise(zoo, settings)
        self._coin = stream(settings.seed, "exploration")
        self._state = fresh(len(zoo.models), self._promise.alpha, self._tuning)
        self._memory = memory_of(self._state)
        self._arrays = stored_arrays(self._state)
        if snapshot:
            self._restore(snapshot)

    @property
    def queue(self) -> float:
        """The virtual queue Q, ≥ 0."""
        return float(self._state.ledger.queue)

    @property
    def _decided(self) -> int:
        """The number of requests under this promise, those of other policies included."""
        return int(self._state.tally.decided + self._state.tally.elsewhere)

    @property
    def weights(self) -> Weights:
        """The prediction of satisfaction, as one linear function of z per model."""
        return linear_weights(self._state, self._promise, self._tuning)

    def decide(self, request: Request) -> Decision:
        """Serve the model with the best of cost and satisfaction, a trial, or one that can pay the debt."""
        state, models = self._state, self._zoo.models
        mean_cost = {
            model: float(mean)
            for model, mean, count in zip(models, state.mean_cost, state.cost_count, strict=True)
            if count
        }
        z, coin = features_of(self._encoder.one(request.prompt)), float(self._coin.random())
        prices = Prices(reading_costs(self._zoo, request), surcharges(self._zoo, request))
        choice = choose(self._memory, self._promise, self._constants, z, prices, coin)
        return Decision(
            request=request,
            request_number=self._decided,
            served=models[choice.model],
            queried=(models[choice.model],),
            propensity=float(choice.odds[choice.model]),
            queue=self.queue,
            predicted=dict(zip(models, choice.predicted.tolist(), strict=True)),
            mean_cost=mean_cost,
            weighed=self._weighed(choice, request.surcharge),
            odds={model: chance for model, chance in zip(models, choice.odds.tolist(), strict=True) if chance},
        )

    def _weighed(self, choice: Choice, surcharge: Mapping[str, float]) -> Weighed:
        models, price = self._zoo.models, float(choice.price)
        value = dict(zip(models, (0.0 - price * choice.value).tolist(), strict=True))
        return Weighed(
            terms={
                "expected cost": dict(zip(models, choice.cost.tolist(), strict=True)),
                **({SURCHARGE: {model: surcharge.get(model, 0.0) for model in models}} if surcharge else {}),
                "−λ·(s̄ + b)" if choice.guarded else "−λ·(ŝ + b)": value,
            },
            figures={"λ": price, "balance": float(choice.balance), "Q": self.queue, "α": self._promise.alpha},
            note=_note(choice),
        )

    def learn(self, decision: Decision, feedback: Feedback) -> None:
        """Learn costs, and the feedback on the served answer: in the balance, in the queue and in the weights."""
        served, state = decision.served, self._state
        satisfied = feedback.satisfied.get(served)
        if satisfied is not None and not feedback.corrects:
            number = max(0, decision.request_number - int(state.tally.elsewhere))
            record_balance(self._memory, self._constants, self._promise.alpha, number, satisfied)
        # Nothing can be learned about a model that is gone; its answer counts in the balance all the same.
        if served not in self._zoo.models or (served not in feedback.costs and satisfied is None):
            return
        index, z = self._zoo.index(served), features_of(self._encoder.one(decision.request.prompt))
        if served in feedback.costs:
            reading = decision.request.prompt_cost.get(served, 0.0)
            learn_cost(self._memory, self._constants, index, z, reading, feedback.costs[served])
        if satisfied is not None:
            learn_satisfaction(self._memory, self._promise, self._constants, index, z, satisfied)

    def snapshot(self) -> Snapshot:
        """Return a copy of the state, for a later instance to go on from."""
        state = self._state
        return Snapshot(
            decided=self._decided,
            queue=self.queue,
            balance=float(state.ledger.balance),
            policy=self.name,
            version=STATE_VERSION,
            encoder=self._encoder.version,
            shared=_copies(self._parts((*COUNTS, *SHARED_WEIGHTS))),
            cost_shared=_copies(self._parts(AMOUNTS)),
            models={
                model: ModelSnapshot(
                    mean_cost=float(state.mean_cost[index]),
                    cost_count=int(state.cost_count[index]),
                    arrays=_copies(self._parts((*TALLIES, *SERVED, *WEIGHTS), index)),
                    cost_arrays=_copies(self._parts(COSTS, index)),
                )
                for index, model in enumerate(self._zoo.models)
            },
        )

    def _parts(self, names: Iterable[str], index: int | None = None) -> Arrays:
        """Return stored arrays, or the part that one model has in them, as views."""
        return {name: self._arrays[name] if index is None else self._arrays[name][index, ...] for name in names}

    def _restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot, with whatever part of it is valid here."""
        if snapshot.version == EARLIER_VERSION:
            snapshot = replace(snapshot, version=STATE_VERSION)
        known = snapshot.learned_by(self.name, STATE_VERSION)
        same_features = known.encoder == self._encoder.version
        # One by one: states of earlier versions do not have all of these.
        for name in COUNTS:
            restore(known.shared, self._parts((name,)))
        for name in AMOUNTS:
            restore(known.cost_shared, self._parts((name,)))
        self._restore_promise(known)
        if not (same_features and restore(known.shared, self._parts(SHARED_WEIGHTS))):
            self._state.tally.prompts = 0
        for index, name in enumerate(self._zoo.models):
            self._restore_model(index, known.models.get(name, ModelSnapshot()), bool(known.decided), same_features)

    def _restore_promise(self, known: Snapshot) -> None:
        """Go on with balance, queue, numbers and coins."""
        ledger, tally = self._state.ledger, self._state.tally
        if not known.decided:
            # What was learned before the first request of this promise is known, but not part of the promise.
            tally.decided = tally.with_feedback = tally.latest = tally.elsewhere = 0
            ledger.trial_cost = ledger.forfeited = 0.0
            ledger.delay = UNKNOWN_DELAY
        missing = known.decided - self._decided
        tally.elsewhere += max(0, missing)
        tally.decided += min(0, missing)  # the newest decision was taken back
        ledger.balance, ledger.queue = known.balance, known.queue
        limit_credit(self._state, self._tuning)
        self._coin.bit_generator.advance(known.decided)  # type: ignore[attr-defined]  # PCG64 has it

    def _restore_model(self, index: int, model: ModelSnapshot, decided: bool, same_features: bool) -> None:
        """Go on with what is known of one model."""
        state = self._state
        state.mean_cost[index], state.cost_count[index] = model.mean_cost, model.cost_count
        restore(model.arrays, self._parts(TALLIES, index))
        if decided:
            restore(model.arrays, self._parts(SERVED, index))
        if same_features:
            restore(model.arrays, self._parts(WEIGHTS, index))
        if not (same_features and restore(model.cost_arrays, self._parts(COSTS, index))):
            # The running mean is used until the other methods have proved better.
            state.cost_weight[index, 0] = state.cost_records[index].rest = model.mean_cost
            state.cost_records[index].errors[:BY_MEAN] = model.mean_cost

    def play(self, rounds: Rounds) -> Played:
        """Start afresh and play all rounds in one compiled loop."""
        return Bandit(self._zoo, self._settings, tuning=self._tuning).play_on(rounds)

    def play_on(self, rounds: Rounds) -> Played:
        """Play rounds from where this instance is, and end with all feedback learned."""
        n, models = len(rounds), len(self._zoo.models)
        reading = np.empty((0, models)) if rounds.prompt_cost is None else rounds.prompt_cost
        steps = empty_steps(n, models)
        play(
            self._state,
            self._promise,
            self._tuning,
            rounds.arrivals,
            self._coin.random(n),
            rounds.features.sparse_rows,
            Outcomes(rounds.satisfied, rounds.cost, reading),
            steps,
        )
        return self._played(rounds, steps)

    def _played(self, rounds: Rounds, steps: Steps) -> Played:
        """Return what was done, if each request was answered by the model that served it alone."""
        n, models = len(rounds), len(self._zoo.models)
        return Played(
            zoo=self._zoo,
            alpha=self._settings.aim,
            order=rounds.order,
            share=np.bincount(steps.served, minlength=models) / n,
            cost=rounds.cost[rounds.order, steps.served],
            satisfied=steps.satisfied,
            satisfied_all=rounds.satisfied[rounds.order, steps.served],
            queue_before=steps.queue_before,
            queue_after=steps.queue_after,
            served=steps.served,
            propensity=steps.propensity,
            explored=np.zeros(n, dtype=np.bool_),
            p_explore=np.zeros(n),
            predicted=steps.predicted,
            mean_cost=steps.mean_cost,
            weights=self.weights,
            latency_s=None if rounds.latency_s is None else rounds.latency_s[rounds.order, steps.served],
        )


def _promise(zoo: Zoo, settings: Settings) -> Promise:
    v = AUTO_V if settings.v is None else settings.v
    budget = np.inf if settings.trial_budget is None else settings.trial_budget
    return Promise(settings.aim, zoo.index(zoo.reference), v, budget)


def _note(choice: Choice) -> str:
    """Return what decided, if it was not the least sum of the terms alone."""
    if choice.model != choice.best:
        return TRIED
    if choice.guarded:
        return GUARDED
    return HELD_BACK if choice.held_back else ""


def _copies(arrays: Arrays) -> Arrays:
    return {name: array.copy() for name, array in arrays.items()}


def build(_argument: str | None, rounds: Rounds, settings: Settings) -> Bandit:
    """Build the policy; of the rounds it uses the zoo alone."""
    return _kind(settings)(rounds.zoo, settings)


def live(zoo: Zoo, settings: Settings, snapshot: Snapshot, encoder: Encoder | None = None) -> Bandit:
    """Build the policy to go on from a snapshot."""
    return _kind(settings)(zoo, settings, snapshot, encoder=encoder)


def _kind(settings: Settings) -> type[Bandit]:
    """Return the class of the policy: a cascade if it may ask several models."""
    if settings.asks == 1:
        return Bandit
    from messctl.policies.cascade.policy import Cascade  # noqa: PLC0415  # it stands on this module

    return Cascade


POLICY = PolicyKind(
    "bandit",
    35,
    "one model per request, learns from its answer alone",
    build,
    learns=True,
    live=live,
    streams=True,
)
