"""The guard: while the balance is below −D, it serves the model that can pay the debt, and looks at no prompt.

It serves argmax of s̄_m + σ·√(log⁺(n / (M·(n_m + 1))) / n̄_m), where n counts all answers with feedback and one more,
and n_m those of the model, as they fade. The bonus makes sure that no model is left alone forever. Answers with pending
feedback count in the bonus, so that a model is not tried again before the first result is known.

For the first `care` answers below its line the guard is careful: it takes every mean to be lower by `doubt` standard
deviations, so that a model that is little known does not serve after mere bad luck. The depth D is smaller if the best
model is close to α, since then a debt is slow to pay.
"""

from __future__ import annotations

import math

import numpy as np

from messctl.learning.compiled import compiled
from messctl.policies.bandit.debt import feedback_share
from messctl.policies.bandit.satisfaction import Levels
from messctl.policies.bandit.state import LEAST_SLACK, Promise, State
from messctl.policies.bandit.tuning import Tuning
from messctl.policies.base import Floats

LEAST_DEPTH = 1.0
"""[answers] The guard never serves with a smaller debt: one bad answer is no emergency."""


@compiled
def guard_depth(state: State, promise: Promise, tuning: Tuning, levels: Levels) -> float:
    """Return D > 0, how far the balance may fall before the guard serves, in answers."""
    guard = tuning.guard
    slack = max(LEAST_SLACK, levels.mean.max() - promise.alpha)
    depth = max(LEAST_DEPTH, guard.depth - guard.slack / slack) + guard.slope * state.tally.with_feedback
    # With little feedback each answer is a larger part of the promise; but one bad answer is no emergency.
    return max(LEAST_DEPTH, depth * math.sqrt(feedback_share(state)))


@compiled
def guard_choice(state: State, tuning: Tuning, levels: Levels, pending: Floats, extra: Floats, careful: bool) -> int:
    """Return the model that can pay the debt, as far as plain means tell; the cheaper one on a tie.

    `pending` (M,) is the number of answers with pending feedback. A model with infinite `extra` (M,) is out.
    """
    models = len(extra)
    index = np.empty(models)
    doubt = tuning.guard.doubt if careful else 0.0
    best = 0
    for model in range(models):
        fair = models * (state.answers[model] + pending[model] + 1.0)
        left_alone = max(0.0, math.log((state.tally.labels + 1.0) / fair))
        bonus = tuning.guard.retry * math.sqrt(left_alone / (levels.answers[model] + pending[model]))
        deviations = bonus - doubt / math.sqrt(levels.answers[model])
        index[model] = levels.mean[model] + tuning.satisfaction.noise * deviations
        if extra[model] == np.inf:
            index[model] = -np.inf
        tied = index[model] == index[best] and state.mean_cost[model] < state.mean_cost[best]
        if index[model] > index[best] or tied:
            best = model
    return best
