"""λ, the price of satisfaction: what one more unit of it may cost. It needs no V.

λ₀ is solved again every few requests. It is the geometric mean of two prices: the least ones at which the choice, over
the recent prompts, would attain a little less and a little more than α (`resolution`). Looking to both sides matters if
satisfaction rises in a step, as from the best cheap model to one thirty times as expensive: then the balance rests in
the middle of the step.

Then λ = λ₀·exp((h − B)/R): the price rises smoothly as the balance B falls below the setpoint h, e-fold for every
reserve R. It never exceeds the cost of the costliest model over the slack: what is gained beyond the slack is not
needed. Below the guard's line it is that much, and rises further with a debt, until the debt is paid. A V that is set
gives λ = Q·c/V instead, as in MESS+.
"""

from __future__ import annotations

import math

import numpy as np

from messctl.learning.compiled import compiled
from messctl.learning.mean_costs import AUTO_SCALE, scale_of
from messctl.policies.bandit.costs import expected_costs
from messctl.policies.bandit.satisfaction import Levels, predict
from messctl.policies.bandit.state import RECENT_PROMPTS, UNSOLVED, Promise, State
from messctl.policies.bandit.tuning import Tuning
from messctl.policies.base import Floats

HALVINGS = 20
"""[steps] The bisection for λ₀ takes this number, which leaves less than a thousandth of its logarithm's range."""
SOLVE_EVERY = 8
"""[requests] Between two solutions, except at first: to solve takes longer than to decide."""
SMALLEST = 1e-6
"""[largest prices] λ₀ is not sought below this."""


@compiled
def least(cost: Floats, value: Floats, price: float, mean_cost: Floats) -> int:
    """Return argmin over m of cost − price·value; a tie goes to the cheaper model, then to the name."""
    best = 0
    lowest = np.inf
    for model in range(len(mean_cost)):
        score = cost[model] - price * value[model]
        if score < lowest or (score == lowest and mean_cost[model] < mean_cost[best]):
            best = model
            lowest = score
    return best


@compiled
def attained(cost: Floats, value: Floats, predicted: Floats, price: float, mean_cost: Floats) -> float:
    """Return the mean of `predicted` over the recent prompts, each served by the choice of `value`; all are (n, M)."""
    # The same as `least`, but in place: slicing a row would cost more than the sum.
    total = 0.0
    for at in range(len(cost)):
        best = 0
        lowest = np.inf
        for model in range(len(mean_cost)):
            score = cost[at, model] - price * value[at, model]
            if score < lowest or (score == lowest and mean_cost[model] < mean_cost[best]):
                best = model
                lowest = score
        total += predicted[at, best]
    return total / len(cost)


@compiled
def remember_prompt(state: State, z: Floats, reading: Floats) -> None:
    """Keep a prompt, and what reading it costs each model (M,), for solving λ₀."""
    at = state.tally.prompts % RECENT_PROMPTS
    state.recent_prompts[at] = z
    for model in range(len(reading)):
        state.recent_reading[model, at] = reading[model]
    state.tally.prompts += 1


@compiled
def is_solving_due(state: State) -> bool:
    """Tell whether λ₀ is to be solved again."""
    prompts = state.tally.prompts
    return prompts <= RECENT_PROMPTS // 2 or prompts % SOLVE_EVERY == 0 or state.ledger.base_price == UNSOLVED


@compiled
def largest_price(state: State, cost: Floats, slack: float) -> float:
    """Return the largest λ, > 0, in cost per satisfaction; `cost` (M,) is Ĉ, used while no cost was paid yet."""
    return scale_of(state.mean_cost, max(0.0, cost.max()) if state.mean_cost.max() <= 0.0 else AUTO_SCALE) / slack


@compiled
def least_price(
    cost: Floats, value: Floats, predicted: Floats, target: float, largest: float, mean_cost: Floats
) -> float:
    """Return the least price up to `largest` at which the recent prompts attain `target`, by bisection."""
    below, above = math.log(SMALLEST), 0.0
    if attained(cost, value, predicted, 0.0, mean_cost) >= target:
        return SMALLEST * largest
    if attained(cost, value, predicted, largest, mean_cost) < target:
        return largest
    for _ in range(HALVINGS):
        between = 0.5 * (below + above)
        if attained(cost, value, predicted, largest * math.exp(between), mean_cost) < target:
            below = between
        else:
            above = between
    return largest * math.exp(above)


@compiled
def solve(
    state: State, promise: Promise, tuning: Tuning, levels: Levels, bonus: Floats, trust: float, largest: float
) -> float:
    """Return λ₀ > 0, in cost per satisfaction, for the recent prompts.

    `bonus` (M,) is what is hoped for beyond the prediction, and `largest` the largest price.
    """
    prompts, models = min(state.tally.prompts, RECENT_PROMPTS), len(bonus)
    cost, value, predicted = np.empty((prompts, models)), np.empty((prompts, models)), np.empty((prompts, models))
    reading = np.empty(models)
    for at in range(prompts):
        predict(state, levels, trust, state.recent_prompts[at], predicted[at])
        for model in range(models):
            value[at, model] = min(1.0, predicted[at, model] + bonus[model])
            reading[model] = state.recent_reading[model, at]
        expected_costs(state, tuning, state.recent_prompts[at], reading, cost[at])
    # What is asked of the recent prompts is within reach: between the worst and the best model.
    worst, best = levels.mean.min(), levels.mean.max()
    lowest, highest = min(best, worst + tuning.resolution), max(worst, best - tuning.resolution)
    middle = 1.0
    for step in (-tuning.resolution, tuning.resolution):
        target = min(highest, max(lowest, promise.alpha + step))
        middle *= least_price(cost, value, predicted, target, largest, state.mean_cost)
    return math.sqrt(middle)


@compiled
def rise(debt: float, reserve: float) -> float:
    """Return the factor by which a price rises with a debt: e-fold for every reserve, as far as numbers reach."""
    return math.exp(min(50.0, debt / reserve))


@compiled
def price_of(state: State, promise: Promise, surplus: float, reserve: float, largest: float) -> float:
    """Return λ ≥ 0, in cost per satisfaction; `surplus` is how far the balance is above its setpoint."""
    if promise.v >= 0.0:
        return state.ledger.queue * scale_of(state.mean_cost, AUTO_SCALE) / max(promise.v, 1e-12)
    return min(largest, state.ledger.base_price * rise(-surplus, reserve))
