"""`bandit`: queries one model per request and learns from the feedback on its answer alone. It needs no V.

A prompt becomes z: a constant, its hashed words folded into 64 buckets, and its eight cheap properties.

**Satisfaction.** ŝ_m(z) = w·z + w_m·z + μ_m·(v_m·z): a ridge w shared by all models (what makes a prompt hard
is hard for all of them) plus one of the model's own. Both are Kalman filters with a block-diagonal covariance:
with e = s − ŝ_m, g = P z, g_m = P_m z and S = 1 + z·g + z·g_m, feedback moves w by g·e/S and w_m by g_m·e/S,
and takes g gᵀ/S from P, g_m g_mᵀ/S from P_m. μ_m is the mean that is expected of a model: that of all models
together, weighed by how well each is known, a little higher for the reference; before anything is known it lies
a quarter of the way from α to 1. v_m = P_m Λ e₀ is how far the estimate still leans on it (w_m is kept without
it, since μ_m moves on), so that a model tried once is thought of as one of this zoo, whatever level this zoo is
on. The level's variance grows a little with every answer, and plain means fade, so that a model that changes is
noticed: the memory is of about three hundred of its answers.

**Cost.** What reading the prompt will cost, k_m, may be known before it runs: from its tokens, by the calibrated price
of one (`Request.prompt_cost`); 0 where it is not. The rest, the answer above all, is what experience is asked for.
Ĉ_m is one of k_m + R̄_m, R̄_m being the running mean of cost − k_m; k_m + R_m(z), R_m being a ridge on the properties,
trained on cost − k_m and kept within a factor 4 of R̄_m, since a long question gets a long answer; and the running mean
Ē_m, as MESS+ has it. For every model it is the one whose absolute errors, each made before the cost was learned, have
the least fading sum. k_m is not clipped: a prompt fifty times as long does cost fifty times as much to read. What sets
the scale of costs, breaks ties and tells which trials are affordable stays Ē_m.

**Choice.** argmin over m of Ĉ_m + u_m − λ·ŝ_m, where u_m is what the request says that m would cost now beyond its
answer, as to load it; a model that cannot be asked is left out of everything that follows. A coin may give the request
to another model whose mean cost is at most four times that of the choice, u included: half the time, while one of
them has had fewer than eight answers and is not already in doubt; and once in fifty, to any of them. The odds are
logged as the propensity.

**The price λ** of satisfaction needs no V. λ₀ is re-solved every few requests: the least price at which that choice,
over the last 128 prompts, would attain α; where that is out of reach, 98 % of the way to what is within it. Then λ =
λ₀·exp(−(B + h)/τ), where B = Σ(s − α) is the balance, never clipped, what is still awaited counted as it was
predicted. So the price rises smoothly with the debt, and a step in what satisfaction costs (from the best cheap model
to one thirty times as dear) is a wide band of balances in which nothing changes. h, half the guard's depth and fading
as labels come, is a debt that is allowed for learning; τ = 6 + 0.02·n, at most 110. A V that is set gives λ = Q·c/V
instead, as in MESS+, c being the mean cost of the costliest model.

**The guard.** While B < −D, serve argmax of s̄_m + σ·√(log⁺(n / (M·(n_m + 1))) / (n₀ + n_m)), where s̄_m is m's
plain mean, shrunk to μ_m with weight n₀, and the reference starts with ten good answers on top. D = 9 − 0.15/(max s̄
− α), at least 1, plus 0.001·n, times the root of the share of answers that are judged: a promise close to the best
model's level leaves little to pay debts with, and so allows few.

**Why no model can be starved, and why the debt is paid.** A sketch. Let m's answers, to prompts drawn without regard
to what they say, satisfy with mean p_m, independently of the past, and let p* = max p_m > α. Suppose that the balance
were below the guard's line from some request on. Then the guard chooses every model from there, and it does not look
at prompts. (a) If some model were served finitely often, its n_m would stay while n grows, so its index would grow
without bound; that of a model served for a fixed share of the requests does not: a contradiction. So every model is
served without end. (b) Then every s̄_m comes to p_m, as closely as a memory of three hundred answers allows; what was
heard before, and the reference's good start, fade. (c) A model served for a share ρ > 0 of the requests has a bonus
that does not grow, and the index of the best model is about p* or more. So where p_m is far below p*, m's share tends
to 0, and the mean of s comes near p* > α. B then rises for ever while the line falls: it is crossed upwards, against
the supposition. So the balance returns to the line again and again, whatever the estimates per prompt say: they may
be arbitrarily wrong, and can only lead the balance down to the line. What attainment misses in the long run is the
line's slope, 0.1 points, plus what the guard needs to find a model that pays. No rate is claimed: σ = 0.4 is smaller
than the theory of such indices asks for, because measured zoos are kinder than its worst case. Where p* ≤ α, the best
model's mean is approached. The certificate α − Q/n holds on any input.

References: drift plus penalty and the queue, MESS+ (arXiv:2505.19947); re-solving, Badanidiyuru, Kleinberg and
Slivkins, *Bandits with Knapsacks* (2013); a guard that serves what surely pays, Kazerouni et al., *Conservative
Contextual Linear Bandits* (2017).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from messctl.coins import stream
from messctl.features import Encoder, WordEncoder
from messctl.policies.bandit_arithmetic import (
    AUTO_V,
    BALANCE,
    BY_MEAN,
    DECIDED,
    ERRORS,
    HEARD,
    LATEST,
    QUEUE,
    RECALLED,
    REST,
    SHARED,
    WEIGHED_BALANCE,
    WEIGHED_BEST,
    WEIGHED_GUARDED,
    WEIGHED_PRICE,
    Promise,
    State,
    Tuning,
    Weighing,
    choose,
    features_of,
    fresh,
    hear,
    linear_weights,
    owe,
    pay,
    play,
    weighing,
)
from messctl.policies.base import Floats, Played, PolicyKind, Rounds, known_costs, surcharges
from messctl.predictor import Weights
from messctl.records import SURCHARGE, Decision, Feedback, Request, Weighed
from messctl.snapshot import Arrays, ModelSnapshot, Snapshot, restore
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
WEIGHTS = tuple(name for name in State._fields if name not in (*SHARED, *TALLIES, *COSTS, *MEANS))
BOOKS = ("counts", "awaited")
"""Shared, and mean the same under any encoder; the ledger does too, but holds λ₀, which is in the unit of the costs."""
SHARED_WEIGHTS = tuple(name for name in SHARED if name not in ("ledger", *BOOKS))


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
        z = features_of(self._encoder.one(request.prompt))
        coin = float(self._coin.random())
        prices = (known_costs(self._zoo, request), surcharges(self._zoo, request))
        index = int(choose(state, self._promise, self._tuning, z, prices, coin, predicted, weighed))
        return Decision(
            request=request,
            request_number=int(state.counts[DECIDED]),
            served=models[index],
            queried=(models[index],),
            propensity=float(weighed[1][index]),
            queue=self.queue,
            predicted=dict(zip(models, predicted.tolist(), strict=True)),
            mean_cost=mean_cost,
            weighed=self._weighed(index, predicted, weighed, request.surcharge),
        )

    def _weighed(self, chosen: int, predicted: Floats, weighed: Weighing, surcharge: Mapping[str, float]) -> Weighed:
        """Return what a decision weighed."""
        models = self._zoo.models
        cost, _, figures = weighed
        price = float(figures[WEIGHED_PRICE])
        other = "the debt guard chose" if figures[WEIGHED_GUARDED] else "a trial"
        return Weighed(
            terms={
                "expected cost": dict(zip(models, cost.tolist(), strict=True)),
                **({SURCHARGE: {model: surcharge.get(model, 0.0) for model in models}} if surcharge else {}),
                "−λ·ŝ": dict(zip(models, (0.0 - price * predicted).tolist(), strict=True)),
            },
            figures={
                "λ": price,
                "balance": float(figures[WEIGHED_BALANCE]),
                "Q": self.queue,
                "α": self._promise.alpha,
            },
            note="" if chosen == figures[WEIGHED_BEST] else other,
        )

    def learn(self, decision: Decision, feedback: Feedback) -> None:
        """Take costs into the means, the served answer's feedback into balance, queue and weights."""
        served = decision.served
        satisfied = feedback.satisfied.get(served)
        if satisfied is not None:
            owe(self._state, self._promise.alpha, decision.request_number, satisfied)
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
            decided=int(state.counts[DECIDED]),
            queue=self.queue,
            balance=float(state.ledger[BALANCE]),
            policy=self.name,
            version=STATE_VERSION,
            encoder=self._encoder.version,
            shared=_copies(self._parts((*BOOKS, *SHARED_WEIGHTS))),
            cost_shared=_copies(self._parts(("ledger",))),
            models={
                model: ModelSnapshot(
                    mean_cost=float(state.mean_cost[index]),
                    cost_count=int(state.cost_count[index]),
                    arrays=_copies(self._parts((*TALLIES, *WEIGHTS), index)),
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
        restore(known.shared, self._parts(BOOKS))
        restore(known.cost_shared, self._parts(("ledger",)))
        if not known.decided:
            # What was learned before the first request of this promise is known, and not owed.
            state.counts[[HEARD, LATEST]] = 0
            state.awaited[:] = 0.0
        state.counts[DECIDED] = known.decided
        state.ledger[[BALANCE, QUEUE]] = known.balance, known.queue
        self._coin.bit_generator.advance(known.decided)  # type: ignore[attr-defined]  # PCG64 has it
        if not (same_features and restore(known.shared, self._parts(SHARED_WEIGHTS))):
            state.counts[RECALLED] = 0
        for index, name in enumerate(self._zoo.models):
            model = known.models.get(name, ModelSnapshot())
            state.mean_cost[index], state.cost_count[index] = model.mean_cost, model.cost_count
            restore(model.arrays, self._parts(TALLIES, index))
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
            (rounds.order, rounds.heard, rounds.delay, self._coin.random(n)),
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
    return Promise(settings.aim, zoo.index(zoo.reference), AUTO_V if settings.v is None else settings.v)


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
