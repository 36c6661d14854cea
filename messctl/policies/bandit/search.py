"""The search for a cheap model that keeps the promise alone.

If one of two or more cheap models keeps the promise alone, no expensive model is worth its cost. To find out which one
takes a debt, and a debt that is paid too early is paid dearly. So for the first `time` answers per model there is a
search, while two things hold: one of the cheap models may still suffice, and the best model is surely far enough above
α to pay for the search.

In a search λ stays low. With more debt than `debt` guard depths, predictions per prompt are ignored: so early they are
noise beside what is unknown of the means. It then serves argmin of Ĉ_m + u_m − λ·(s̄_m + b_m), where b_m overrates a
cheap model the more, the longer it was left alone. The guard comes before the search.
"""

from __future__ import annotations

import math

import numpy as np

from messctl.learning.compiled import compiled
from messctl.learning.mean_costs import AUTO_SCALE, scale_of
from messctl.policies.bandit.debt import feedback_share
from messctl.policies.bandit.satisfaction import Levels
from messctl.policies.bandit.state import Promise, State
from messctl.policies.bandit.tuning import Tuning
from messctl.policies.base import Floats


@compiled
def boldness(state: State, tuning: Tuning, model: int) -> float:
    """Return by how many standard deviations the search overrates a model: more, the longer it was left alone."""
    left_alone = math.log((state.tally.labels + 1.0) / (state.answers[model] + 1.0))
    return tuning.search.boldness * math.sqrt(max(0.0, left_alone))


@compiled
def is_searching(state: State, promise: Promise, tuning: Tuning, levels: Levels, extra: Floats, cheap: Floats) -> bool:
    """Tell whether to search; if so, write 1 for each cheap model and 0 for the others into `cheap` (M,)."""
    search = tuning.search
    if promise.v >= 0.0 or state.tally.labels >= search.time * len(cheap):
        return False
    dearest = search.cheap * scale_of(state.mean_cost, AUTO_SCALE)
    hopeful, slack = False, -np.inf
    for model in range(len(cheap)):
        deviation = tuning.satisfaction.noise / math.sqrt(levels.answers[model])
        cheap[model] = 1.0 if state.mean_cost[model] <= dearest and extra[model] < np.inf else 0.0
        hope = levels.mean[model] + (search.hope + boldness(state, tuning, model)) * deviation
        hopeful = hopeful or (cheap[model] > 0.0 and hope >= promise.alpha)
        if extra[model] < np.inf:
            slack = max(slack, levels.mean[model] - search.doubt * deviation - promise.alpha)
    # With little feedback, finding out takes longer than the debt allows.
    affordable = slack * math.sqrt(feedback_share(state)) >= search.slack
    return hopeful and affordable and cheap.sum() >= 2.0


@compiled
def overrated_means(state: State, tuning: Tuning, levels: Levels, cheap: Floats) -> Floats:
    """Return what the search weighs instead of ŝ, (M,): the plain means, those of cheap models overrated."""
    value = np.empty(len(cheap))
    for model in range(len(cheap)):
        bold = cheap[model] * boldness(state, tuning, model)
        value[model] = levels.mean[model] + bold * tuning.satisfaction.noise / math.sqrt(levels.answers[model])
    return value


@compiled
def search_price(state: State, tuning: Tuning) -> float:
    """Return the λ of a search that ignores predictions per prompt, in cost per satisfaction."""
    return tuning.search.price * scale_of(state.mean_cost, AUTO_SCALE)
