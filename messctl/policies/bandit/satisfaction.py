"""Satisfaction: each model's plain mean, how far to hope beyond it, and the prediction for a prompt.

The plain mean s̄_m looks at no prompt. Before any feedback a model is thought to be as good as the promise, and the
reference somewhat better. The sums behind the mean fade: with the model's own answers, and more slowly with those of
others. So a model that changes is noticed, and one that was given up is tried again some day.

The prediction is ŝ_m(z) = s̄_m + g·(w·z + w_m·z). The ridge w is shared by all models: what makes a prompt hard for one
makes it hard for all. The ridge w_m is the model's own. Both are fitted to the residual r = s − s̄_m, as Kalman filters
with a block-diagonal covariance. Let f = w·z + w_m·z, e = r − f, k = P z, k_m = P_m z and S = 1 + z·k + z·k_m. Feedback
moves w by k·e/S and w_m by k_m·e/S. It subtracts k·kᵀ/S from P and k_m·k_mᵀ/S from P_m.

The trust g in 0..1 is how far predictions have proved themselves: the slope of r on f, each f made before its r was
known, less one standard deviation of that slope.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from messctl.learning.compiled import compiled
from messctl.learning.predictor import Weights
from messctl.policies.bandit.linear import dot, gain, shrink
from messctl.policies.bandit.state import Promise, State
from messctl.policies.bandit.tuning import Tuning
from messctl.policies.base import Floats


class Levels(NamedTuple):
    """What is known of models without looking at the prompt: `mean` is s̄ in 0..1, `deviation` its error, each (M,)."""

    mean: Floats
    deviation: Floats


@compiled
def least_variance(tuning: Tuning) -> float:
    """Return the least variance of the feedback on one answer, > 0: no mean is known for sure."""
    return tuning.resolution * tuning.resolution


@compiled
def levels_of(state: State, promise: Promise, tuning: Tuning) -> Levels:
    """Return what is known of models without looking at the prompt."""
    mean, deviation = np.empty(len(state.answers)), np.empty(len(state.answers))
    variance = max(least_variance(tuning), state.ledger.variance)
    for model in range(len(mean)):
        answers = state.answers[model] + tuning.prior
        total = state.satisfaction_sum[model] + tuning.prior * promise.alpha
        if model == promise.reference:
            answers += tuning.trust
            total += tuning.trust * (promise.alpha + tuning.hope * (1.0 - promise.alpha))
        mean[model] = total / answers
        deviation[model] = math.sqrt(variance / answers)
    return Levels(mean, deviation)


@compiled
def needed_hope(promise: Promise, levels: Levels, extra: Floats) -> float:
    """Return z ≥ 0, the fewest standard deviations with which some model that can be asked reaches α.

    The promise can be kept: so if all means are below α, one of them is wrong, and likeliest the one nearest to α by
    its own error. `extra` (M,) is infinite for models that cannot be asked.
    """
    fewest = np.inf
    for model in range(len(extra)):
        if extra[model] < np.inf:
            fewest = min(fewest, (promise.alpha - levels.mean[model]) / levels.deviation[model])
    return max(0.0, fewest) if fewest < np.inf else 0.0


@compiled
def correction(state: State, model: int, z: Floats) -> float:
    """Return f, by how much the prompt is expected to move the model's satisfaction, before it is trusted."""
    return dot(state.shared_weight, z) + dot(state.own_weight[model], z)


@compiled
def trust_of(state: State) -> float:
    """Return g in 0..1, how far predictions per prompt have proved themselves."""
    ledger = state.ledger
    if ledger.power <= 0.0:
        return 0.0
    return min(1.0, max(0.0, (ledger.agreement - math.sqrt(ledger.disorder)) / ledger.power))


@compiled
def predict(state: State, levels: Levels, trust: float, z: Floats, predicted: Floats) -> None:
    """Write ŝ of each model, in 0..1, into `predicted` (M,)."""
    for model in range(len(predicted)):
        moved = trust * correction(state, model, z) if trust > 0.0 else 0.0
        predicted[model] = min(1.0, max(0.0, levels.mean[model] + moved))


@compiled
def fade(state: State, tuning: Tuning, model: int) -> None:
    """Let the sums behind the plain means fade, as one more answer of `model` got feedback."""
    # The memory of idle models grows with time: otherwise models that are known to be bad are tried forever.
    idle = max(tuning.idle_memory, float(state.tally.labels))
    for other in range(len(state.answers)):
        factor = (1.0 - 1.0 / idle) * (1.0 - 1.0 / tuning.memory if other == model else 1.0)
        state.satisfaction_sum[other] *= factor
        state.answers[other] *= factor


@compiled
def learn_trust(state: State, tuning: Tuning, residual: float, moved: float) -> None:
    """Compare a residual r with the correction f that was made before it was known; old comparisons fade."""
    ledger, kept = state.ledger, 1.0 - 1.0 / tuning.memory
    ledger.agreement = ledger.agreement * kept + residual * moved
    ledger.power = ledger.power * kept + moved * moved
    ledger.disorder = ledger.disorder * kept + residual * residual * moved * moved


@compiled
def learn_satisfaction(state: State, promise: Promise, tuning: Tuning, model: int, z: Floats, satisfied: float) -> None:
    """Learn the feedback on an answer of `model` to the prompt `z`: in its plain mean, and in both ridges."""
    residual = satisfied - levels_of(state, promise, tuning).mean[model]
    seen = min(tuning.memory, tuning.trust + state.tally.labels)
    state.ledger.variance += (residual * residual - state.ledger.variance) / seen
    moved = correction(state, model, z)
    learn_trust(state, tuning, residual, moved)
    state.tally.labels += 1
    fade(state, tuning, model)
    state.satisfaction_sum[model] += satisfied
    state.answers[model] += 1.0
    own_gain, shared_gain = np.empty(len(z)), np.empty(len(z))
    gain(state.own_covariance[model], z, own_gain)
    gain(state.shared_covariance, z, shared_gain)
    scale = 1.0 + dot(own_gain, z) + dot(shared_gain, z)
    step = (residual - moved) / scale
    for at in range(len(z)):
        state.own_weight[model, at] += own_gain[at] * step
        state.shared_weight[at] += shared_gain[at] * step
    shrink(state.own_covariance[model], own_gain, scale)
    shrink(state.shared_covariance, shared_gain, scale)


def linear_weights(state: State, promise: Promise, tuning: Tuning) -> Weights:
    """Return the prediction as one linear function of z per model."""
    weights = trust_of(state) * (state.shared_weight + state.own_weight)
    return Weights(weights, levels_of(state, promise, tuning).mean, state.answers.astype(np.int64))
