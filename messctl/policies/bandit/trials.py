"""Trials: a coin may give the request to another model than the chosen one.

There are two kinds. An early trial goes to the affordable model with the fewest answers, while there is no debt, unless
its mean is surely below α already. A later trial goes to any affordable model, at a low rate, for ever. A budget for
trials, a share of the total cost, limits what they are expected to cost beyond the choices. A model's first answer
counts as free, and a trial counts as paid even if its model failed. The odds are logged as the propensity.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from messctl.learning.compiled import compiled
from messctl.policies.bandit.costs import total_cost
from messctl.policies.bandit.state import Promise, State
from messctl.policies.bandit.tuning import Tuning
from messctl.policies.base import Floats

FEW_ANSWERS = 3.0
"""[answers] A model with fewer is never in doubt: its mean says nothing yet."""


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
    dearest = tuning.trials.cost * (state.mean_cost[best] + extra[best])
    left = np.inf
    if promise.trial_budget < np.inf:
        left = promise.trial_budget * total_cost(state) - state.ledger.trial_cost
    for model in range(len(extra)):
        cheap_enough = state.mean_cost[model] + extra[model] <= dearest
        affordable[model] = cheap_enough and cost_of_trial(state, extra, best, model) <= max(0.0, left)
    return affordable


@compiled
def due_trial(
    state: State, promise: Promise, tuning: Tuning, pending: Floats, affordable: npt.NDArray[np.bool_]
) -> int:
    """Return the affordable model that an early trial is due to, by the fewest answers, pending or known; or −1."""
    due, fewest = -1, tuning.trials.answers
    for model in range(len(affordable)):
        answers = state.answers[model]
        asked = answers + pending[model]
        if asked < fewest and affordable[model]:
            doubt = tuning.trials.doubt * tuning.satisfaction.noise / math.sqrt(max(1.0, answers))
            if answers < FEW_ANSWERS or state.satisfaction_sum[model] / answers + doubt > promise.alpha:
                due, fewest = model, asked
    return due


@compiled
def odds_of(
    state: State, promise: Promise, tuning: Tuning, pending: Floats, extra: Floats, balance: float, best: int
) -> Floats:
    """Return each model's probability of being served, (M,), if `best` has the best of cost and satisfaction."""
    odds = np.zeros(len(extra))
    affordable = affordable_models(state, promise, tuning, extra, best)
    rest = 1.0
    due = due_trial(state, promise, tuning, pending, affordable)
    if due >= 0 and balance >= tuning.trials.balance:
        odds[due] += tuning.trials.rate
        rest -= tuning.trials.rate
    for model in range(len(odds)):
        if affordable[model]:
            odds[model] += tuning.trials.later_rate / affordable.sum()
    odds[best] += rest - tuning.trials.later_rate
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
