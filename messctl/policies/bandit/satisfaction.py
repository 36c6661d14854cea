"""How likely each model is to satisfy: what is expected of it, its plain mean, and the ridges per prompt."""

from __future__ import annotations

import numpy as np

from messctl.learning.compiled import compiled
from messctl.learning.predictor import Weights
from messctl.policies.bandit.debt import balance_of
from messctl.policies.bandit.linear import dot, gain, shrink
from messctl.policies.bandit.state import LABELS, RECENT, Promise, State, Tuning
from messctl.policies.base import Floats


@compiled
def expect(state: State, promise: Promise, tuning: Tuning, level: Floats) -> None:
    """Write the mean expected of each model into `level`."""
    worth = (tuning.noise / tuning.spread) ** 2
    above = tuning.reference_above * tuning.spread
    total, weights = promise.alpha + tuning.hope * (1.0 - promise.alpha), 1.0
    for model in range(len(level)):
        count = state.answers[model]
        if count > 0.0:
            weight = count / (worth + count)
            total += weight * (state.good[model] / count - (above if model == promise.reference else 0.0))
            weights += weight
    level[:] = total / weights
    level[promise.reference] += above


@compiled
def plain_means(state: State, promise: Promise, tuning: Tuning, level: Floats, means: Floats, known: Floats) -> None:
    """Write each model's mean, shrunk to what is expected of it, and the answers that it rests on."""
    worth = (tuning.noise / tuning.spread) ** 2
    for model in range(len(level)):
        prior = tuning.guard_reference if model == promise.reference else 0.0
        known[model] = state.answers[model] + worth + prior
        means[model] = (state.good[model] + prior + worth * level[model]) / known[model]


@compiled
def predict(state: State, z: Floats, level: Floats, predicted: Floats) -> None:
    """Write ŝ of each model into `predicted`."""
    common = dot(state.shared, z)
    for model in range(len(level)):
        value = common + dot(state.own[model], z) + level[model] * dot(state.lean[model], z)
        predicted[model] = min(1.0, max(0.0, value))


@compiled
def hear(state: State, promise: Promise, tuning: Tuning, model: int, z: Floats, satisfied: float) -> None:
    """Learn the feedback on an answer of `model`: its plain mean, and both ridges."""
    level = np.empty(len(state.good))
    expect(state, promise, tuning, level)
    state.counts[LABELS] += 1
    wrong = balance_of(state) < -tuning.wrong_debt and state.ledger[RECENT] < tuning.wrong_rate
    # Were it not for ever longer, models that are known to be bad would be tried at the same rate for ever.
    idle = tuning.wrong_memory if wrong else max(tuning.idle_memory, float(state.counts[LABELS]))
    for other in range(len(state.good)):
        kept = 1.0 - 1.0 / (tuning.memory if other == model else idle)
        state.good[other] *= kept
        state.answers[other] *= kept
    state.good[model] += satisfied
    state.answers[model] += 1.0
    gained, shared_gain = np.empty(len(z)), np.empty(len(z))
    gain(state.own_cov[model], z, gained)
    gain(state.shared_cov, z, shared_gain)
    scale = 1.0 + dot(gained, z) + dot(shared_gain, z)
    leaning = dot(state.lean[model], z)
    own_error = satisfied - dot(state.shared, z) - dot(state.own[model], z)
    error = own_error - level[model] * leaning
    for at in range(len(z)):
        # The own weights are kept without μ, which may still move; `lean` is what it adds.
        state.own[model, at] += gained[at] * own_error / scale
        state.lean[model, at] -= gained[at] * leaning / scale
        state.shared[at] += shared_gain[at] * error / scale
    shrink(state.own_cov[model], gained, scale)
    shrink(state.shared_cov, shared_gain, scale)
    # The level may drift: a filter that is told so keeps a memory of about `memory` answers.
    state.own_cov[model, 0, 0] += 1.0 / tuning.memory**2


def linear_weights(state: State, promise: Promise, tuning: Tuning) -> Weights:
    """Return what is predicted, as one linear function of z per model."""
    level = np.empty(len(state.good))
    expect(state, promise, tuning, level)
    whole = state.shared + state.own + level[:, None] * state.lean
    return Weights(whole[:, 1:].copy(), whole[:, 0].copy(), state.answers.astype(np.int64))
