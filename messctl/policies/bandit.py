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

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from messctl.features import VERSION, encode_one
from messctl.policies.bandit_arithmetic import (
    DECIDED,
    RECENT,
    SHARED,
    Tuning,
    choose,
    features_of,
    fresh,
    hear,
    linear_weights,
    pay,
    play,
)
from messctl.policies.base import Played, PolicyKind, Rounds
from messctl.predictor import Weights
from messctl.records import Decision, Feedback, Request
from messctl.virtual_queue import advance
from messctl.zoo import Settings, Zoo


@dataclass(frozen=True, slots=True)
class Memory:
    """The policy's whole state by name: what all models share, and each model's part of the other fields."""

    queue: float
    encoder: str
    shared: Mapping[str, npt.NDArray[np.generic]]
    models: Mapping[str, Mapping[str, npt.NDArray[np.generic]]] = field(default_factory=dict)


class Bandit:
    """The policy with its state."""

    name = "bandit"

    def __init__(
        self, zoo: Zoo, settings: Settings, memory: Memory | None = None, tuning: Tuning | None = None
    ) -> None:
        self._zoo = zoo
        self._settings = settings
        self._tuning = tuning or Tuning()
        self._reference = zoo.index(zoo.reference)
        self._queue = 0.0
        self._state = fresh(len(zoo.models), self._tuning)
        if memory:
            self._restore(memory)

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
        z = features_of(encode_one(request.prompt))
        index = choose(state, self._settings.alpha, self._reference, z, predicted, self._tuning)
        return Decision(
            request=request,
            request_number=int(state.counts[DECIDED]),
            served=models[index],
            queried=(models[index],),
            queue=self._queue,
            predicted=dict(zip(models, predicted.tolist(), strict=True)),
            mean_cost={
                model: float(mean)
                for model, mean, count in zip(models, state.mean_cost, state.cost_count, strict=True)
                if count
            },
        )

    def learn(self, decision: Decision, feedback: Feedback) -> None:
        """Take costs into the means, the served answer's feedback into balance, queue and weights."""
        served = decision.served
        if served not in self._zoo.models or not (feedback.costs or served in feedback.satisfied):
            return
        index, z = self._zoo.index(served), features_of(encode_one(decision.request.prompt))
        if served in feedback.costs:
            pay(self._state, index, z, feedback.costs[served])
        if served in feedback.satisfied:
            satisfied, alpha = feedback.satisfied[served], self._settings.alpha
            self._queue = advance(self._queue, alpha, satisfied)
            hear(self._state, alpha, self._reference, index, z, satisfied, self._tuning)

    def snapshot(self) -> Memory:
        """Return the state as it stands, for a later instance to go on from."""
        parts = self._state._asdict()
        return Memory(
            queue=self._queue,
            encoder=VERSION,
            shared={name: parts[name].copy() for name in SHARED},
            models={
                model: {
                    name: (part[:, index] if name in RECENT else part[index]).copy()
                    for name, part in parts.items()
                    if name not in SHARED
                }
                for index, model in enumerate(self._zoo.models)
            },
        )

    def _restore(self, memory: Memory) -> None:
        parts = self._state._asdict()
        self._queue = memory.queue
        known = memory.encoder == VERSION
        for name in SHARED:
            if known or name in ("ledger", "counts"):
                parts[name][:] = memory.shared[name]
        for index, model in enumerate(self._zoo.models):
            for name, value in memory.models.get(model, {}).items():
                if name in RECENT:
                    parts[name][:, index] = value
                elif known or name in ("good", "answers", "mean_cost", "cost_count"):
                    parts[name][index] = value

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


def build(_argument: str | None, rounds: Rounds, settings: Settings) -> Bandit:
    """Build the policy; of the rounds it takes the zoo, nothing that happened in them."""
    return Bandit(rounds.zoo, settings)


POLICY = PolicyKind(
    "bandit", 35, "one model per request, learns from its answer alone", build, learns=True, by_default=False
)
