"""`bandit`: queries one model per request and learns from the feedback on its answer alone. It has no V to set.

A prompt becomes z: a constant, its hashed words folded into 32 buckets, and its eight cheap properties.

**Satisfaction.** ŝ_m(z) = w·z + w_m·z + μ_m·(v_m·z): a ridge w shared by all models (what makes a prompt hard
is hard for all of them) plus one of the model's own. Both are Kalman filters with a block-diagonal covariance:
with e = s − ŝ_m, g = P z, g_m = P_m z and S = 1 + z·g + z·g_m, feedback moves w by g·e/S and w_m by g_m·e/S,
and takes g gᵀ/S from P, g_m g_mᵀ/S from P_m. μ_m is the mean that is expected of a model: that of all models
together, weighed by how well each is known, a little higher for the reference; before anything is known it lies
a quarter of the way from α to 1. v_m = P_m Λ e₀ is how far the estimate still leans on it (w_m is kept without
it, since μ_m moves on), so that a model tried once is thought of as one of this zoo, whatever level this zoo is
on.

**Cost.** Ĉ_m(z), a ridge on the properties, within a factor 4 of the running mean Ē_m: long prompts cost more.

**Choice.** argmin over m of Ĉ_m − λ·(ŝ_m + b_m), with the optimism b_m = σ·√(z·P_m z · (1 + log⁺(n / (M·(n_m +
1))))) after n answers with feedback, n_m of them m's. It is multiplied by (c̄/Ē_m)^1.5 for a model whose mean
cost Ē_m is above the mean c̄ that is paid: to try a model thirty times as dear takes better reasons.

**The price λ** of satisfaction is re-solved every 8 requests: the least λ at which that choice, over the last
256 prompts as they were predicted, would attain α − B/200; where that is out of reach, 98 % of the way to what
is within it. B = Σ(s − α) is the balance (never clipped), to be paid back over the next 200 requests.

**The guard.** While B < −(3 + 0.004·n), serve argmax of s̄_m + σ·√(log⁺(n / (M·(n_m + 1))) / (n₀ + n_m)), where
s̄_m is m's plain mean, shrunk to μ_m with weight n₀, and the reference starts with ten good answers on top.

**Why no model can be starved, and why the debt is paid.** A sketch. Let m's answers, to prompts drawn without
regard to what they say, satisfy with mean p_m, independently of the past, and let p* = max p_m > α. Suppose
that the balance were below the guard's line from some request on. Then the guard chooses every model from
there, and it does not look at prompts. (a) If some model were served finitely often, its n_m would stay while n
grows, so its index would grow without bound; that of a model served for a fixed share of the requests tends to
its s̄ ≤ 1, and some model is: a contradiction. So every model is served without end. (b) Then every s̄_m → p_m,
what was heard before and the reference's good start included, as they are finitely many. (c) A model served for
a share ρ > 0 of the requests has log⁺(n / (M·n_m)) ≤ log(1/ρM), hence a bonus → 0 and an index → p_m; and
indices of all models are ≥ s̄_m → p_m. So where p_m < p*, m's share tends to 0, and the mean of s to p* > α. B
then rises at the rate p* − α, for ever, while the line falls: it is crossed upwards, against the supposition.
So the balance returns to the line again and again, whatever the estimates per prompt say: they may be
arbitrarily wrong, and can only lead the balance down to the line. Since B falls by at most α a request, what
attainment misses in the long run is the line's slope, 0.4 points, plus what the guard needs to find the best
model. No rate is claimed: σ = 0.4 is smaller than the theory of such indices asks for, because measured zoos
are kinder than its worst case. Where p* ≤ α, the best model's mean is approached. The certificate α − Q/n holds
on any input.

Its choice is determined by what came before, so its propensity is 1.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from messctl.features import VERSION, encode_one
from messctl.policies.bandit_arithmetic import (
    BALANCE,
    DECIDED,
    PRICE,
    PRICED,
    RECENT,
    SHARED,
    WINDOW,
    State,
    Tuning,
    choose,
    features_of,
    fresh,
    hear,
    least,
    linear_weights,
    pay,
    play,
)
from messctl.policies.base import Played, PolicyKind, Rounds
from messctl.predictor import Weights
from messctl.records import Decision, Feedback, Request, Weighed
from messctl.snapshot import Arrays, ModelSnapshot, Snapshot, restore
from messctl.virtual_queue import advance
from messctl.zoo import Settings, Zoo

STATE_VERSION = 1
"""Changes whenever arrays that were saved would mean something else."""

# What the fields of the state mean something under. Those that are named nowhere here are weights: of the encoder.
TALLIES = ("good", "answers")
"""Mean the same under any encoder."""
COSTS = ("cost_weight", "cost_cov")
"""Of the encoder, and in the unit of the costs."""
MEANS = ("mean_cost", "cost_count")
"""In the unit of the costs; all policies share them."""
WEIGHTS = tuple(name for name in State._fields if name not in (*SHARED, *TALLIES, *COSTS, *MEANS, *RECENT))
SHARED_WEIGHTS = tuple(name for name in SHARED if name not in ("ledger", "counts"))


class Bandit:
    """The policy with its state."""

    name = "bandit"

    def __init__(
        self, zoo: Zoo, settings: Settings, snapshot: Snapshot | None = None, tuning: Tuning | None = None
    ) -> None:
        self._zoo = zoo
        self._settings = settings
        self._tuning = tuning or Tuning()
        self._reference = zoo.index(zoo.reference)
        self._decided = 0
        self._queue = 0.0
        self._state = fresh(len(zoo.models), self._tuning)
        if snapshot:
            self._restore(snapshot)

    @property
    def queue(self) -> float:
        """The virtual queue Q, ≥ 0."""
        return self._queue

    @property
    def weights(self) -> Weights:
        """What is predicted, as one linear function per model."""
        return linear_weights(self._state, self._settings.alpha, self._reference, self._tuning)

    def decide(self, request: Request) -> Decision:
        """Serve what promises most for its cost at the price of satisfaction, or what can pay the debt."""
        state, models = self._state, self._zoo.models
        predicted = np.empty(len(models))
        mean_cost = {
            model: float(mean)
            for model, mean, count in zip(models, state.mean_cost, state.cost_count, strict=True)
            if count
        }
        z = features_of(encode_one(request.prompt))
        index = int(choose(state, self._settings.alpha, self._reference, z, predicted, self._tuning))
        self._decided += 1
        return Decision(
            request=request,
            request_number=self._decided,
            served=models[index],
            queried=(models[index],),
            queue=self._queue,
            predicted=dict(zip(models, predicted.tolist(), strict=True)),
            mean_cost=mean_cost,
            weighed=self._weighed(index),
        )

    def _weighed(self, chosen: int) -> Weighed:
        """Return what the last decision weighed."""
        state, models = self._state, self._zoo.models
        at, price = (state.counts[DECIDED] - 1) % WINDOW, state.ledger[PRICE]
        by_weight = least(state.recent_cost, state.recent_score, at, price, state.mean_cost)
        return Weighed(
            terms={
                "expected cost": dict(zip(models, state.recent_cost[at].tolist(), strict=True)),
                "−λ·hoped": dict(zip(models, (0.0 - price * state.recent_score[at]).tolist(), strict=True)),
            },
            figures={
                "λ": float(price),
                "balance": float(state.ledger[BALANCE]),
                "Q": self._queue,
                "α": self._settings.alpha,
            },
            note="" if chosen == by_weight else "the debt guard chose",
        )

    def learn(self, decision: Decision, feedback: Feedback) -> None:
        """Take costs into the means, the served answer's feedback into balance, queue and weights."""
        served, alpha = decision.served, self._settings.alpha
        satisfied = feedback.satisfied.get(served)
        if satisfied is not None:
            self._queue = advance(self._queue, alpha, satisfied)
        if served not in self._zoo.models:
            # It was owed all the same, though nothing can be learned of a model that is gone.
            self._state.ledger[BALANCE] += 0.0 if satisfied is None else satisfied - alpha
            return
        if served not in feedback.costs and satisfied is None:
            return
        index, z = self._zoo.index(served), features_of(encode_one(decision.request.prompt))
        if served in feedback.costs:
            pay(self._state, index, z, feedback.costs[served])
        if satisfied is not None:
            hear(self._state, alpha, self._reference, index, z, satisfied, self._tuning)

    def snapshot(self) -> Snapshot:
        """Return the state as it stands, for a later instance to go on from."""
        state, window = self._state, {"window": self._state.counts[DECIDED, ...]}
        return Snapshot(
            decided=self._decided,
            queue=self._queue,
            balance=float(state.ledger[BALANCE]),
            policy=self.name,
            version=STATE_VERSION,
            encoder=VERSION,
            shared=_copies(self._parts(("counts", *SHARED_WEIGHTS))),
            cost_shared=_copies(self._parts(("ledger",))),
            models={
                model: ModelSnapshot(
                    mean_cost=float(state.mean_cost[index]),
                    cost_count=int(state.cost_count[index]),
                    arrays=_copies(self._parts((*TALLIES, *WEIGHTS), index)),
                    cost_arrays=_copies({**self._parts((*COSTS, *RECENT), index), **window}),
                )
                for index, model in enumerate(self._zoo.models)
            },
        )

    def _parts(self, names: Iterable[str], index: int | None = None) -> Arrays:
        """Return fields of the state, or the part that one model has in them, as views."""
        fields = self._state._asdict()
        if index is None:
            return {name: fields[name] for name in names}
        return {name: fields[name][:, index] if name in RECENT else fields[name][index, ...] for name in names}

    def _restore(self, snapshot: Snapshot) -> None:
        state, known = self._state, snapshot.learned_by(self.name, STATE_VERSION)
        same_features = known.encoder == VERSION
        models = [known.models.get(model, ModelSnapshot()) for model in self._zoo.models]
        self._decided, self._queue = known.decided, known.queue
        restore(known.shared, self._parts(("counts",)))
        if not restore(known.cost_shared, self._parts(("ledger",))):
            state.counts[PRICED] = 0
        state.ledger[BALANCE] = known.balance
        if same_features:
            restore(known.shared, self._parts(SHARED_WEIGHTS))
        for index, model in enumerate(models):
            state.mean_cost[index], state.cost_count[index] = model.mean_cost, model.cost_count
            restore(model.arrays, self._parts(TALLIES, index))
            if same_features:
                restore(model.arrays, self._parts(WEIGHTS, index))
            if not (same_features and restore(model.cost_arrays, self._parts(COSTS, index))):
                state.cost_weight[index, 0] = model.mean_cost
        # The recent prompts are of use where all models were weighed on them, in terms that still hold.
        if not (same_features and all(self._restore_window(index, model) for index, model in enumerate(models))):
            state.counts[DECIDED] = 0

    def _restore_window(self, index: int, model: ModelSnapshot) -> bool:
        together = np.array_equal(model.cost_arrays.get("window", -1), self._state.counts[DECIDED])
        return together and restore(model.cost_arrays, self._parts(RECENT, index))

    def play(self, rounds: Rounds) -> Played:
        """Start afresh and play all rounds in one compiled loop."""
        settings, features, n = self._settings, rounds.features, len(rounds)
        shape = (n, len(self._zoo.models))
        served = np.empty(n, dtype=np.int64)
        judged, before, after = (np.empty(n) for _ in range(3))
        predicted, mean_cost = np.empty(shape), np.empty(shape)
        state = fresh(shape[1], self._tuning)
        play(
            state,
            (settings.alpha, self._reference),
            self._tuning,
            (rounds.order, rounds.heard, rounds.delay),
            (features.starts, features.indices, features.values),
            (rounds.satisfied, rounds.cost),
            (served, judged, before, after, predicted, mean_cost),
        )
        return Played(
            zoo=self._zoo,
            alpha=settings.alpha,
            order=rounds.order,
            share=np.bincount(served, minlength=shape[1]) / n,
            cost=rounds.cost[rounds.order, served],
            satisfied=judged,
            satisfied_all=rounds.satisfied[rounds.order, served],
            queue_before=before,
            queue_after=after,
            served=served,
            explored=np.zeros(n, dtype=np.bool_),
            p_explore=np.zeros(n),
            predicted=predicted,
            mean_cost=mean_cost,
            weights=linear_weights(state, settings.alpha, self._reference, self._tuning),
        )


def _copies(arrays: Arrays) -> Arrays:
    return {name: array.copy() for name, array in arrays.items()}


def build(_argument: str | None, rounds: Rounds, settings: Settings) -> Bandit:
    """Build the policy; of the rounds it takes the zoo, nothing that happened in them."""
    return Bandit(rounds.zoo, settings)


def live(zoo: Zoo, settings: Settings, snapshot: Snapshot) -> Bandit:
    """Build the policy to go on from a snapshot."""
    return Bandit(zoo, settings, snapshot)


POLICY = PolicyKind(
    "bandit",
    35,
    "one model per request, learns from its answer alone",
    build,
    learns=True,
    by_default=False,
    live=live,
)
