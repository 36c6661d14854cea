"""λ, the price of satisfaction: what one more unit of it may cost. It needs no V.

λ₀ is solved again every few requests. It is the geometric mean of two prices: the least ones at which the choice, over
the recent prompts, would attain α − `step` and α + `step`. Both targets are moved into the part `reach` of what can be
attained at all. Looking to both sides matters if satisfaction rises in a step, as from the best cheap model to one
thirty times as expensive: then the balance rests in the middle of the step.

Then λ = λ₀·exp(−(B + h − r)/τ). B is the balance, h a debt that is allowed for learning, and r a reserve against bad
luck. So the price rises smoothly with the debt. While models are little known λ is limited, since a small predicted
gain is mostly noise; the guard pays the debt until then. A V that is set gives λ = Q·c/V instead, as in MESS+.

The reserve: while the best model serves, B is a random walk that rises by the slack d per answer. It ever falls by more
than x with probability exp(−x/l), where l = σ²/2d is one length of bad luck. The reserve is `reserve` lengths. It falls
with every feedback, and is never more than what `reserve_share` of the total cost buys at λ₀.
"""

from __future__ import annotations

import math

import numpy as np

from messctl.learning.compiled import compiled
from messctl.learning.mean_costs import AUTO_SCALE, scale_of
from messctl.policies.bandit.costs import expected_costs, total_cost
from messctl.policies.bandit.debt import feedback_share
from messctl.policies.bandit.satisfaction import Levels, predict
from messctl.policies.bandit.state import LEAST_SLACK, RECENT_PROMPTS, UNSOLVED, Promise, State
from messctl.policies.bandit.tuning import Tuning
from messctl.policies.base import Floats

PRICE_RANGE = 1e4
"""[mean costs of the costliest model] λ₀ is sought up to this, and down to a hundredth of its inverse."""
HALVINGS = 24
"""[steps] The bisection for λ₀ takes this number, which leaves less than a millionth of its range."""
EARLY_PROMPTS = 32
"""[prompts] Before this, λ₀ is solved on every request, since each prompt changes it."""
SETTLED_PROMPTS = 512
"""[prompts] From this on, λ₀ is solved seldom, since it hardly moves."""
SOLVE_EVERY = 8
"""[requests] Between two solutions before SETTLED_PROMPTS: to solve takes longer than to decide."""
SOLVE_SELDOM = 32
"""[requests] Between two solutions from SETTLED_PROMPTS on."""
LARGEST_EXPONENT = 50.0
"""[number] λ ÷ λ₀ stays within e to the power of this, so that nothing overflows."""


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
def attained(cost: Floats, value: Floats, price: float, mean_cost: Floats) -> float:
    """Return the mean predicted satisfaction over the recent prompts (n, M), each served by the choice at `price`."""
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
        total += value[at, best]
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
    every = SOLVE_EVERY if prompts < SETTLED_PROMPTS else SOLVE_SELDOM
    return prompts < EARLY_PROMPTS or prompts % every == 0 or state.ledger.base_price == UNSOLVED


@compiled
def solve(state: State, promise: Promise, tuning: Tuning, expected: Floats) -> float:
    """Return λ₀ > 0, in cost per satisfaction, for the recent prompts; `expected` (M,) is μ."""
    prompts, models = min(state.tally.prompts, RECENT_PROMPTS), len(expected)
    cost, value = np.empty((prompts, models)), np.empty((prompts, models))
    reading = np.empty(models)
    for at in range(prompts):
        predict(state, state.recent_prompts[at], expected, value[at])
        for model in range(models):
            reading[model] = state.recent_reading[model, at]
        expected_costs(state, tuning, state.recent_prompts[at], reading, cost[at])
    scale = scale_of(state.mean_cost, AUTO_SCALE)
    low = attained(cost, value, 0.0, state.mean_cost)
    high = attained(cost, value, scale * PRICE_RANGE, state.mean_cost)
    edge = (1.0 - tuning.price.reach) * (high - low)
    # In logarithms: costs may be a factor of a thousand apart.
    middle = 0.0
    for step in (-tuning.price.step, tuning.price.step):
        target = max(low + edge, min(high - edge, promise.alpha + step))
        below, above = math.log(1.0 / (PRICE_RANGE * 100.0)), math.log(PRICE_RANGE)
        for _ in range(HALVINGS):
            between = 0.5 * (below + above)
            if attained(cost, value, scale * math.exp(between), state.mean_cost) < target:
                below = between
            else:
                above = between
        middle += 0.5 * above
    return scale * math.exp(middle)


@compiled
def reserve_of(state: State, promise: Promise, tuning: Tuning, levels: Levels) -> float:
    """Return r ≥ 0, the surplus that is held against bad luck, in answers."""
    variance = tuning.satisfaction.noise * tuning.satisfaction.noise
    length = variance / (2.0 * max(LEAST_SLACK, levels.mean.max() - promise.alpha))
    wanted = tuning.balance.reserve * length - tuning.balance.reserve_fade * state.tally.with_feedback
    affordable = tuning.balance.reserve_share * total_cost(state) * feedback_share(state) / state.ledger.base_price
    return max(0.0, min(wanted, affordable))


@compiled
def price_of(
    state: State, promise: Promise, tuning: Tuning, levels: Levels, balance: float, depth: float, searching: bool
) -> float:
    """Return λ ≥ 0, in cost per satisfaction; `balance` includes pending feedback, `depth` is the guard's."""
    if promise.v >= 0.0:
        return state.ledger.queue * scale_of(state.mean_cost, AUTO_SCALE) / max(promise.v, 1e-12)
    price, target = tuning.price, tuning.balance
    # Time passes with requests, with or without feedback; what a warm start taught counts as well.
    passed = max(state.tally.decided, state.tally.labels)
    learning_debt = target.learning_debt * depth * math.exp(-passed / target.learning_fade)
    steered = balance + (learning_debt - reserve_of(state, promise, tuning, levels))
    temper = min(price.temper_limit, price.temper + price.temper_growth * state.tally.with_feedback)
    exponent = min(LARGEST_EXPONENT, max(-LARGEST_EXPONENT, -steered / temper))
    most = price.limit * (1.0 + passed / (price.limit_growth * len(levels.mean)))
    if searching:
        most = min(most, tuning.search.price)
    return min(state.ledger.base_price * math.exp(exponent), most * scale_of(state.mean_cost, AUTO_SCALE))
