"""Satisfaction: what is expected of each model, its plain mean, and the prediction for a prompt.

The prediction is ŝ_m(z) = w·z + w_m·z + μ_m·(v_m·z). The ridge w is shared by all models: what makes a prompt hard for
one of them makes it hard for all. The ridge w_m is the model's own. μ_m is the mean that is expected of the model, and
v_m is what one unit of μ_m adds to the prediction. Since w_m is kept without μ_m, a model with little feedback follows
the others when their level becomes known.

Both ridges are Kalman filters with a block-diagonal covariance. With the error e = s − ŝ_m, g = P z, g_m = P_m z and
S = 1 + z·g + z·g_m, feedback moves w by g·e/S and w_m by g_m·e/S. It subtracts g·gᵀ/S from P and g_m·g_mᵀ/S from P_m.
The variance of the model's level grows a little with every answer, so that a model that changes is noticed.

The plain mean looks at no prompt. It is shrunk to μ_m, and its sums fade (`forgetting`): with the model's own answers,
more slowly with those of others, and fast while beliefs must be wrong. So a model that has improved is tried again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from messctl.learning.compiled import compiled
from messctl.learning.predictor import Weights
from messctl.policies.bandit.debt import usable_balance
from messctl.policies.bandit.linear import dot, gain, shrink
from messctl.policies.bandit.state import Promise, State
from messctl.policies.bandit.tuning import Tuning
from messctl.policies.base import Floats


class Levels(NamedTuple):
    """What is known of models without looking at the prompt, each (M,).

    `expected` is μ, `mean` the plain mean s̄ in 0..1, and `answers` is n̄, the number of answers that s̄ rests on,
    those that stand for the prior included.
    """

    expected: Floats
    mean: Floats
    answers: Floats


@compiled
def prior_answers(tuning: Tuning) -> float:
    """Return the number of answers that a model's expected mean counts for."""
    ratio = tuning.satisfaction.noise / tuning.satisfaction.spread
    return ratio * ratio


@compiled
def expected_means(state: State, promise: Promise, tuning: Tuning) -> Floats:
    """Return μ, the mean that is expected of each model, (M,): that of all models together, by how well each is known.

    The reference is expected to be a little better.
    """
    expected = np.empty(len(state.answers))
    prior = prior_answers(tuning)
    lead = tuning.satisfaction.reference_lead * tuning.satisfaction.spread
    total, weights = promise.alpha + tuning.satisfaction.prior * (1.0 - promise.alpha), 1.0
    for model in range(len(expected)):
        count = state.answers[model]
        if count > 0.0:
            weight = count / (prior + count)
            total += weight * (state.satisfaction_sum[model] / count - (lead if model == promise.reference else 0.0))
            weights += weight
    expected[:] = total / weights
    expected[promise.reference] += lead
    return expected


@compiled
def levels_of(state: State, promise: Promise, tuning: Tuning) -> Levels:
    """Return what is known of models without looking at the prompt."""
    expected = expected_means(state, promise, tuning)
    mean, answers = np.empty(len(expected)), np.empty(len(expected))
    prior = prior_answers(tuning)
    for model in range(len(expected)):
        good_start = tuning.guard.reference if model == promise.reference else 0.0
        answers[model] = state.answers[model] + prior + good_start
        mean[model] = (state.satisfaction_sum[model] + good_start + prior * expected[model]) / answers[model]
    return Levels(expected, mean, answers)


@compiled
def predict(state: State, z: Floats, expected: Floats, predicted: Floats) -> None:
    """Write ŝ of each model, in 0..1, into `predicted` (M,)."""
    common = dot(state.shared_weight, z)
    for model in range(len(expected)):
        value = common + dot(state.own_weight[model], z) + expected[model] * dot(state.level_weight[model], z)
        predicted[model] = min(1.0, max(0.0, value))


@compiled
def fade(state: State, tuning: Tuning, model: int) -> None:
    """Let the sums behind the plain means fade, as one more answer of `model` got feedback."""
    forgetting = tuning.forgetting
    wrong = usable_balance(state) < -forgetting.wrong_debt and state.ledger.recent_surplus < forgetting.wrong_rate
    # The memory of idle models grows with time: otherwise models that are known to be bad are tried forever.
    idle = forgetting.wrong_memory if wrong else max(forgetting.idle_memory, float(state.tally.labels))
    for other in range(len(state.answers)):
        factor = 1.0 - 1.0 / (forgetting.memory if other == model else idle)
        state.satisfaction_sum[other] *= factor
        state.answers[other] *= factor


@compiled
def learn_satisfaction(state: State, promise: Promise, tuning: Tuning, model: int, z: Floats, satisfied: float) -> None:
    """Learn the feedback on an answer of `model` to the prompt `z`: in its plain mean, and in both ridges."""
    expected = expected_means(state, promise, tuning)
    state.tally.labels += 1
    fade(state, tuning, model)
    state.satisfaction_sum[model] += satisfied
    state.answers[model] += 1.0
    own_gain, shared_gain = np.empty(len(z)), np.empty(len(z))
    gain(state.own_covariance[model], z, own_gain)
    gain(state.shared_covariance, z, shared_gain)
    scale = 1.0 + dot(own_gain, z) + dot(shared_gain, z)
    level_share = dot(state.level_weight[model], z)
    own_error = satisfied - dot(state.shared_weight, z) - dot(state.own_weight[model], z)
    error = own_error - expected[model] * level_share
    for at in range(len(z)):
        # The own weights are kept without μ, which may still move; `level_weight` is what μ adds.
        state.own_weight[model, at] += own_gain[at] * own_error / scale
        state.level_weight[model, at] -= own_gain[at] * level_share / scale
        state.shared_weight[at] += shared_gain[at] * error / scale
    shrink(state.own_covariance[model], own_gain, scale)
    shrink(state.shared_covariance, shared_gain, scale)
    # The level may drift: with this growth of its variance the filter remembers about `memory` answers.
    state.own_covariance[model, 0, 0] += 1.0 / (tuning.forgetting.memory * tuning.forgetting.memory)


def linear_weights(state: State, promise: Promise, tuning: Tuning) -> Weights:
    """Return the prediction as one linear function of z per model."""
    expected = expected_means(state, promise, tuning)
    whole = state.shared_weight + state.own_weight + expected[:, None] * state.level_weight
    return Weights(whole[:, 1:].copy(), whole[:, 0].copy(), state.answers.astype(np.int64))
