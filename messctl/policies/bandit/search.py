"""The search for a cheap model that keeps the promise alone: while there may be one, no dear model is bought."""

from __future__ import annotations

import numpy as np

from messctl.learning.compiled import compiled
from messctl.learning.mean_costs import AUTO_SCALE, scale_of
from messctl.policies.bandit.debt import heard_share
from messctl.policies.bandit.state import LABELS, Promise, State, Tuning
from messctl.policies.base import Floats


@compiled
def boldness(state: State, tuning: Tuning, model: int) -> float:
    """Return by how many deviations the search overrates a model: more, the longer it was left alone."""
    return tuning.search_bold * np.sqrt(max(0.0, np.log((state.counts[LABELS] + 1.0) / (state.answers[model] + 1.0))))


@compiled
def searching(
    state: State, promise: Promise, tuning: Tuning, means: Floats, known: Floats, extra: Floats, cheap: Floats
) -> bool:
    """Return whether to search; if so, write which models are cheap into `cheap` (M,), as 0 and 1.

    It is worth while early, where two or more are cheap, one of them may yet keep the promise, and the best model is
    surely so far above it that it can pay for having searched. Later what is predicted per prompt tells more.
    """
    if promise.v >= 0.0 or state.counts[LABELS] >= tuning.search_time * len(means):
        return False
    dearest = tuning.search_cost * scale_of(state.mean_cost, AUTO_SCALE)
    hopeful, slack = False, -np.inf
    for model in range(len(means)):
        deviation = tuning.noise / np.sqrt(known[model])
        cheap[model] = 1.0 if state.mean_cost[model] <= dearest and extra[model] < np.inf else 0.0
        hope = means[model] + (tuning.search_hope + boldness(state, tuning, model)) * deviation
        hopeful = hopeful or (cheap[model] > 0.0 and hope >= promise.alpha)
        if extra[model] < np.inf:
            slack = max(slack, means[model] - tuning.search_doubt * deviation - promise.alpha)
    # Where few answers are judged, finding out takes longer than there is debt for.
    affordable = slack * np.sqrt(heard_share(state)) >= tuning.search_slack
    return hopeful and affordable and cheap.sum() >= 2.0


@compiled
def weigh_levels(state: State, tuning: Tuning, means: Floats, known: Floats, cheap: Floats, worth: Floats) -> float:
    """Write what the search weighs instead of ŝ, means that overrate the cheap models, into `worth`; return its λ."""
    for model in range(len(means)):
        bold = cheap[model] * boldness(state, tuning, model)
        worth[model] = means[model] + bold * tuning.noise / np.sqrt(known[model])
    return tuning.search_price * scale_of(state.mean_cost, AUTO_SCALE)
