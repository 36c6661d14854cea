"""Trials: a coin may give the request to another model than the chosen one, while the balance is above its line.

Any model that costs at most `trial_cost` times as much may be tried. A budget for trials, a share of the total cost,
limits what they are expected to cost beyond the choices. A model's first answer counts as free, and a trial counts as
paid even if its model failed. The odds are logged as the propensity.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from messctl.learning.compiled import compiled
from messctl.policies.bandit.costs import total_cost
from messctl.policies.bandit.state import Promise, State
from messctl.policies.bandit.tuning import Tuning
from messctl.policies.base import Floats


@compiled
def cost_of_trial(state: State, extra: Floats, best: int, model: int) -> float:
    """Return what a trial of `model` is expected to cost beyond the choice `best`, ≥ 0."""
    return max(0.0, (state.mean_cost[model] + extra[model]) - (state.mean_cost[best] + extra[best]))


@compiled
def affordable_models(
    state: State, promise: Promise, tuning: Tuning, extra: Floats, best: int
) -> npt.NDArray[np.bool_]:
    """Return which models, (M,), may be tried instead of `best`: neither too expensive nor beyond the budget."""
    affordable = np.empty(len(extra), dtype=np.bool_)
    dearest = tuning.trial_cost * (state.mean_cost[best] + extra[best])
    left = np.inf
    if promise.trial_budget < np.inf:
        left = promise.trial_budget * total_cost(state) - state.ledger.trial_cost
    for model in range(len(extra)):
        cheap_enough = state.mean_cost[model] + extra[model] <= dearest
        affordable[model] = cheap_enough and cost_of_trial(state, extra, best, model) <= max(0.0, left)
    return affordable


@compiled
def odds_of(state: State, promise: Promise, tuning: Tuning, extra: Floats, best: int) -> Floats:
    """Return each model's probability of being served, (M,), if `best` has the best of cost and satisfaction."""
    odds = np.zeros(len(extra))
    affordable = affordable_models(state, promise, tuning, extra, best)
    for model in range(len(odds)):
        if affordable[model]:
            odds[model] += tuning.trial_rate / affordable.sum()
    odds[best] += 1.0 - tuning.trial_rate
    return odds


@compiled
def draw(odds: Floats, coin: float) -> int:
    """Return the model that a uniform `coin` in 0..1 picks."""
    last = 0
    for model in range(len(odds)):
        if odds[model] > 0.0:
            last = model
            if coin < odds[model]:
                return model
            coin -= odds[model]
    return last
