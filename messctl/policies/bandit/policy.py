"""The policy with its state: it decides, learns, is saved, and plays recorded rounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from messctl.learning.features import Encoder, WordEncoder
from messctl.learning.predictor import Weights
from messctl.learning.random_streams import stream
from messctl.learning.snapshot import Arrays, ModelSnapshot, Snapshot, restore
from messctl.policies.bandit.choice import (
    WEIGHED_BALANCE,
    WEIGHED_BEST,
    WEIGHED_GUARDED,
    WEIGHED_HELD_BACK,
    WEIGHED_PRICE,
    WEIGHED_SEARCHED,
    Weighing,
    choose,
    weighing,
)
from messctl.policies.bandit.costs import BY_MEAN, pay
from messctl.policies.bandit.debt import forgo, owe
from messctl.policies.bandit.prompt import features_of
from messctl.policies.bandit.rounds import play
from messctl.policies.bandit.satisfaction import hear, linear_weights
from messctl.policies.bandit.state import (
    AUTO_V,
    BALANCE,
    DECIDED,
    ERRORS,
    HEARD,
    LATEST,
    QUEUE,
    RECALLED,
    RECENT,
    REST,
    SHARED,
    UNKNOWN_LATENESS,
    Promise,
    State,
    Tuning,
    fresh,
)
from messctl.policies.base import Played, PolicyKind, Rounds, known_costs, surcharges
from messctl.records import SURCHARGE, Decision, Feedback, Request, Weighed
from messctl.zoo import Settings, Zoo

STATE_VERSION = 2
"""Changes whenever arrays that were saved would mean something else."""

# What the fields of the state mean something under. Those that are named nowhere here are weights: of the encoder.
TALLIES = ("good", "answers")
"""Mean the same under any encoder."""
COSTS = ("cost_weight", "cost_cov", "costs", "recent_known")
"""Of the encoder, and in the unit of the costs."""
MEANS = ("mean_cost", "cost_count")
"""In the unit of the costs; all policies share them."""
SERVICES = ("served_at",)
"""Which decisions served a model; means the same under any encoder."""
WEIGHTS = tuple(name for name in State._fields if name not in (*SHARED, *TALLIES, *SERVICES, *COSTS, *MEANS))
BOOKS = ("counts", "lateness", "forgone", "elsewhere")
"""Shared, and mean the same under any encoder."""
PRICED = ("tried", "ledger")
"""Shared, and in the unit of the costs, as λ₀ in the ledger is."""
SHARED_WEIGHTS = tuple(name for name in SHARED if name not in (*PRICED, *BOOKS))


class Bandit:
    """The policy with its state."""

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
        self._promise = _promise(zoo, settings)
        self._coin = stream(settings.seed, "exploration")
        self._state = fresh(len(zoo.models), self._tuning)
        if snapshot:
            self._restore(snapshot)

    @property
    def queue(self) -> float:
        """The virtual queue Q, ≥ 0."""
        return float(self._state.ledger[QUEUE])

    @property
    def _decided(self) -> int:
        """How many requests of the promise were decided, here or elsewhere."""
        return int(self._state.counts[DECIDED] + self._state.elsewhere[0])

    @property
    def weights(self) -> Weights:
        """What is predicted, as one linear function per model."""
        return linear_weights(self._state, self._promise, self._tuning)

    def decide(self, request: Request) -> Decision:
        """Serve what promises most for its cost at the price of satisfaction, a trial, or what can pay the debt."""
        state, models = self._state, self._zoo.models
        predicted, weighed = np.empty(len(models)), weighing(len(models))
        mean_cost = {
            model: float(mean)
            for model, mean, count in zip(models, state.mean_cost, state.cost_count, strict=True)
            if count
        }
        odds, z = weighed[2], features_of(self._encoder.one(request.prompt))
        coin = float(self._coin.random())
        prices = (known_costs(self._zoo, request), surcharges(self._zoo, request))
        index = int(choose(state, self._promise, self._tuning, z, prices, coin, predicted, weighed))
        return Decision(
            request=request,
            request_number=self._decided,
            served=models[index],
            queried=(models[index],),
            propensity=float(odds[index]),
            queue=self.queue,
            predicted=dict(zip(models, predicted.tolist(), strict=True)),
            mean_cost=mean_cost,
            weighed=self._weighed(index, weighed, request.surcharge),
            odds={model: chance for model, chance in zip(models, odds.tolist(), strict=True) if chance},
        )

    def _weighed(self, chosen: int, weighed: Weighing, surcharge: Mapping[str, float]) -> Weighed:
        """Return what a decision weighed."""
        models = self._zoo.models
        cost, worth, _, figures = weighed
        price = float(figures[WEIGHED_PRICE])
        searched = bool(figures[WEIGHED_SEARCHED])
        note = "another would be asked, but of its answers too few are judged yet" if figures[WEIGHED_HELD_BACK] else ""
        if searched:
            note = "the search for a cheap model chose"
        if figures[WEIGHED_GUARDED]:
            note = ""
        if chosen != figures[WEIGHED_BEST]:
            note = "the debt guard chose" if figures[WEIGHED_GUARDED] else "a trial"
        return Weighed(
            terms={
                "expected cost": dict(zip(models, cost.tolist(), strict=True)),
                **({SURCHARGE: {model: surcharge.get(model, 0.0) for model in models}} if surcharge else {}),
                "−λ·(s̄ + b)" if searched else "−λ·ŝ": dict(zip(models, (0.0 - price * worth).tolist(), strict=True)),
            },
            figures={
                "λ": price,
                "balance": float(figures[WEIGHED_BALANCE]),
                "Q": self.queue,
                "α": self._promise.alpha,
            },
            note=note,
        )

    def learn(self, decision: Decision, feedback: Feedback) -> None:
        """Take costs into the means, the served answer's feedback into balance, queue and weights."""
        served = decision.served
        satisfied = feedback.satisfied.get(served)
        if satisfied is not None and not feedback.corrects:
            number = max(0, decision.request_number - int(self._state.elsewhere[0]))
            owe(self._state, self._tuning, self._promise.alpha, number, satisfied)
        # Of a model that is gone nothing can be learned; its answer was owed all the same.
        if served not in self._zoo.models or (served not in feedback.costs and satisfied is None):
            return
        index, z = self._zoo.index(served), features_of(self._encoder.one(decision.request.prompt))
        if served in feedback.costs:
            known = decision.request.prompt_cost.get(served, 0.0)
            pay(self._state, self._tuning, index, z, known, feedback.costs[served])
        if satisfied is not None:
            hear(self._state, self._promise, self._tuning, index, z, satisfied)

    def snapshot(self) -> Snapshot:
        """Return the state as it stands, for a later instance to go on from."""
        state = self._state
        return Snapshot(
            decided=self._decided,
            queue=self.queue,
            balance=float(state.ledger[BALANCE]),
            policy=self.name,
            version=STATE_VERSION,
            encoder=self._encoder.version,
            shared=_copies(self._parts((*BOOKS, *SHARED_WEIGHTS))),
            cost_shared=_copies(self._parts(PRICED)),
            models={
                model: ModelSnapshot(
                    mean_cost=float(state.mean_cost[index]),
                    cost_count=int(state.cost_count[index]),
                    arrays=_copies(self._parts((*TALLIES, *SERVICES, *WEIGHTS), index)),
                    cost_arrays=_copies(self._parts(COSTS, index)),
                )
                for index, model in enumerate(self._zoo.models)
            },
        )

    def _parts(self, names: Iterable[str], index: int | None = None) -> Arrays:
        """Return fields of the state, or the part that one model has in them, as views."""
        fields = self._state._asdict()
        return {name: fields[name] if index is None else fields[name][index, ...] for name in names}

    def _restore(self, snapshot: Snapshot) -> None:
        state, known = self._state, snapshot.learned_by(self.name, STATE_VERSION)
        same_features = known.encoder == self._encoder.version
        # One by one: states of earlier versions have not all of them.
        for name in BOOKS:
            restore(known.shared, self._parts((name,)))
        for name in PRICED:
            restore(known.cost_shared, self._parts((name,)))
        if not known.decided:
            # What was learned before the first request of this promise is known, and not owed.
            state.counts[[DECIDED, HEARD, LATEST]] = state.elsewhere[0] = 0
            state.ledger[RECENT] = 0.0
            state.lateness[:] = UNKNOWN_LATENESS
            state.tried[:] = state.forgone[:] = 0.0
        missing = known.decided - self._decided
        state.elsewhere[0] += max(0, missing)
        state.counts[DECIDED] += min(0, missing)  # the newest decision, taken back
        state.ledger[[BALANCE, QUEUE]] = known.balance, known.queue
        forgo(state, self._tuning)
        self._coin.bit_generator.advance(known.decided)  # type: ignore[attr-defined]  # PCG64 has it
        if not (same_features and restore(known.shared, self._parts(SHARED_WEIGHTS))):
            state.counts[RECALLED] = 0
        for index, name in enumerate(self._zoo.models):
            model = known.models.get(name, ModelSnapshot())
            state.mean_cost[index], state.cost_count[index] = model.mean_cost, model.cost_count
            restore(model.arrays, self._parts(TALLIES, index))
            if known.decided:
                restore(model.arrays, self._parts(SERVICES, index))
            if same_features:
                restore(model.arrays, self._parts(WEIGHTS, index))
            if not (same_features and restore(model.cost_arrays, self._parts(COSTS, index))):
                # The mean is trusted until the other ways have shown better.
                state.cost_weight[index, 0] = state.costs[index, REST] = model.mean_cost
                state.costs[index, ERRORS : ERRORS + BY_MEAN] = model.mean_cost

    def play(self, rounds: Rounds) -> Played:
        """Start afresh and play all rounds in one compiled loop."""
        return Bandit(self._zoo, self._settings, tuning=self._tuning).play_on(rounds)

    def play_on(self, rounds: Rounds) -> Played:
        """Play rounds from where this instance stands, and stand where they end; all feedback is in by then."""
        features, known, n = rounds.features, rounds.prompt_cost, len(rounds)
        shape = (n, len(self._zoo.models))
        served = np.empty(n, dtype=np.int64)
        propensity, judged, before, after = (np.empty(n) for _ in range(4))
        predicted, mean_cost = np.empty(shape), np.empty(shape)
        play(
            self._state,
            self._promise,
            self._tuning,
            (rounds.order, rounds.has_feedback, rounds.delay, self._coin.random(n)),
            (features.starts, features.indices, features.values),
            (rounds.satisfied, rounds.cost, np.empty((0, shape[1])) if known is None else known),
            (served, propensity, judged, before, after, predicted, mean_cost),
        )
        return Played(
            zoo=self._zoo,
            alpha=self._settings.aim,
            order=rounds.order,
            share=np.bincount(served, minlength=shape[1]) / n,
            cost=rounds.cost[rounds.order, served],
            satisfied=judged,
            satisfied_all=rounds.satisfied[rounds.order, served],
            queue_before=before,
            queue_after=after,
            served=served,
            propensity=propensity,
            explored=np.zeros(n, dtype=np.bool_),
            p_explore=np.zeros(n),
            predicted=predicted,
            mean_cost=mean_cost,
            weights=self.weights,
        )


def _promise(zoo: Zoo, settings: Settings) -> Promise:
    v = AUTO_V if settings.v is None else settings.v
    budget = np.inf if settings.trial_budget is None else settings.trial_budget
    return Promise(settings.aim, zoo.index(zoo.reference), v, budget)


def _copies(arrays: Arrays) -> Arrays:
    return {name: array.copy() for name, array in arrays.items()}


def build(_argument: str | None, rounds: Rounds, settings: Settings) -> Bandit:
    """Build the policy; of the rounds it takes the zoo, nothing that happened in them."""
    return Bandit(rounds.zoo, settings)


def live(zoo: Zoo, settings: Settings, snapshot: Snapshot, encoder: Encoder | None = None) -> Bandit:
    """Build the policy to go on from a snapshot."""
    return Bandit(zoo, settings, snapshot, encoder=encoder)


POLICY = PolicyKind(
    "bandit",
    35,
    "one model per request, learns from its answer alone",
    build,
    learns=True,
    live=live,
    streams=True,
)
