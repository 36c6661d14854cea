"""λ, the price of satisfaction: solved on the recent prompts, and raised by the debt."""

from __future__ import annotations

import numpy as np

from messctl.learning.compiled import compiled
from messctl.learning.mean_costs import AUTO_SCALE, scale_of
from messctl.policies.bandit.costs import expected_costs, paid_so_far
from messctl.policies.bandit.debt import heard_share
from messctl.policies.bandit.satisfaction import predict
from messctl.policies.bandit.state import (
    DECIDED,
    HEARD,
    LABELS,
    LEAST_SLACK,
    QUEUE,
    RECALLED,
    SOLVED,
    WINDOW,
    Promise,
    State,
    Tuning,
)
from messctl.policies.base import Floats

FAR, HALVINGS = 1e4, 24
"""λ is sought from a hundredth of 1/FAR to FAR times the costliest model's mean cost."""


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
def attained(cost: Floats, value: Floats, prompts: int, price: float, mean_cost: Floats) -> float:
    """Return the mean predicted satisfaction over the recent prompts, were they chosen for at this price."""
    # As in `least`, but in place: slicing a row would cost more than the sum.
    total = 0.0
    for at in range(prompts):
        best = 0
        lowest = np.inf
        for model in range(len(mean_cost)):
            score = cost[at, model] - price * value[at, model]
            if score < lowest or (score == lowest and mean_cost[model] < mean_cost[best]):
                best = model
                lowest = score
        total += value[at, best]
    return total / prompts


@compiled
def solve(state: State, promise: Promise, tuning: Tuning, level: Floats) -> float:
    """Return λ₀ > 0, the geometric mean of the least prices at which the recent prompts would attain α − δ and α + δ.

    Both are moved to within `reach` of what can be attained at all, from either end.
    """
    prompts = min(state.counts[RECALLED], WINDOW)
    shape = (prompts, len(level))
    cost, value = np.empty(shape), np.empty(shape)
    known = np.empty(len(level))
    for at in range(prompts):
        predict(state, state.recent[at], level, value[at])
        for model in range(len(level)):
            known[model] = state.recent_known[model, at]
        expected_costs(state, tuning, state.recent[at], known, cost[at])
    scale = scale_of(state.mean_cost, AUTO_SCALE)
    low = attained(cost, value, prompts, 0.0, state.mean_cost)
    high = attained(cost, value, prompts, scale * FAR, state.mean_cost)
    edge = (1.0 - tuning.reach) * (high - low)
    # In logarithms: models may be a thousand times apart.
    middle = 0.0
    for step in (-tuning.smooth, tuning.smooth):
        target = max(low + edge, min(high - edge, promise.alpha + step))
        below, above = np.log(1.0 / (FAR * 100.0)), np.log(FAR)
        for _ in range(HALVINGS):
            between = 0.5 * (below + above)
            if attained(cost, value, prompts, scale * np.exp(between), state.mean_cost) < target:
                below = between
            else:
                above = between
        middle += 0.5 * above
    return scale * np.exp(middle)


@compiled
def reserved(state: State, promise: Promise, tuning: Tuning, means: Floats) -> float:
    """Return how far above 0 the balance is held against bad luck, at least 0.

    Where the best model serves, the balance is a random walk that rises by the slack d; it falls by more than x with
    probability exp(−x/l), l = σ²/2d. A unit of reserve costs λ₀ where all answers are judged.
    """
    length = tuning.noise**2 / (2.0 * max(LEAST_SLACK, means.max() - promise.alpha))
    wanted = tuning.reserve * length - tuning.reserve_fade * state.counts[HEARD]
    affordable = tuning.reserve_share * paid_so_far(state) * heard_share(state) / state.ledger[SOLVED]
    return max(0.0, min(wanted, affordable))


@compiled
def price_of(
    state: State, promise: Promise, tuning: Tuning, balance: float, deep: float, means: Floats, searching: bool
) -> float:
    """Return λ, the price of satisfaction in cost; bounded the more while `searching` for a cheap model."""
    if promise.v >= 0.0:
        return state.ledger[QUEUE] * scale_of(state.mean_cost, AUTO_SCALE) / max(promise.v, 1e-12)
    # Time passes with requests, whether or not they are judged; what a warm start taught counts as well.
    passed = max(state.counts[DECIDED], state.counts[LABELS])
    held = tuning.setpoint * deep * np.exp(-passed / tuning.setpoint_fade) - reserved(state, promise, tuning, means)
    temper = min(tuning.temper_most, tuning.temper + tuning.temper_growth * state.counts[HEARD])
    price = state.ledger[SOLVED] * np.exp(min(50.0, max(-50.0, -(balance + held) / temper)))
    # What a dear model is predicted to gain is mostly noise while models are little known.
    most = tuning.price_most * (1.0 + passed / (tuning.price_known * len(means)))
    if searching:
        most = min(most, tuning.search_price)
    return min(price, most * scale_of(state.mean_cost, AUTO_SCALE))
