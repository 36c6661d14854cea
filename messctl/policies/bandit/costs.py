"""What an answer will cost: three ways to tell beforehand, of which the one that has erred least is believed."""

from __future__ import annotations

import numpy as np

from messctl.learning.compiled import compiled
from messctl.policies.bandit.linear import dot, gain, shrink
from messctl.policies.bandit.prompt import BUCKETS
from messctl.policies.bandit.state import DECIDED, ERRORS, PAID, REST, State, Tuning
from messctl.policies.base import Floats

# The ways to tell beforehand what an answer will cost: what is known of it and the mean of the rest, what is known and
# a ridge for the rest, the running mean alone
BY_KNOWN, BY_RIDGE, BY_MEAN = range(3)


@compiled
def properties_of(z: Floats) -> Floats:
    """Return what the cost ridges see of z, (1 + PROPERTIES,): a constant and the properties."""
    properties = z[BUCKETS:].copy()
    properties[0] = 1.0
    return properties


@compiled
def foretold(state: State, model: int, properties: Floats, known: float, way: int) -> float:
    """Return what an answer will cost, told one way; `known` is what reading the prompt will.

    What is known may be fifty times the usual; the ridge's part stays within a factor 4 of the mean of the rest.
    """
    if way == BY_MEAN:
        return state.mean_cost[model]
    rest = state.costs[model, REST]
    if way == BY_RIDGE:
        # The rest is negative where more was thought to be known than was paid.
        low, high = min(0.25 * rest, 4.0 * rest), max(0.25 * rest, 4.0 * rest)
        rest = min(high, max(low, dot(state.cost_weight[model], properties)))
    return max(0.25 * known, known + rest)


@compiled
def best_way(state: State, model: int) -> int:
    """Return the way that has erred least; the first on a tie."""
    best = BY_KNOWN
    for way in (BY_RIDGE, BY_MEAN):
        if state.costs[model, ERRORS + way] < state.costs[model, ERRORS + best]:
            best = way
    return best


@compiled
def expected_costs(state: State, tuning: Tuning, z: Floats, known: Floats, cost: Floats) -> None:
    """Write Ĉ of each model into `cost`; no more than is `known` (M,) where none was observed: so it gets tried."""
    properties = properties_of(z)
    for model in range(len(cost)):
        way = best_way(state, model) if tuning.prompt_costs else BY_MEAN
        cost[model] = foretold(state, model, properties, known[model], way)


@compiled
def paid_so_far(state: State) -> float:
    """Return what was paid under this promise, by the models' means."""
    total, answers = 0.0, 0.0
    for model in range(len(state.mean_cost)):
        total += state.cost_count[model] * state.mean_cost[model]
        answers += state.cost_count[model]
    # A warm start may know of more answers than were paid for under this promise.
    return total / max(1.0, answers) * state.counts[DECIDED]


@compiled
def pay(state: State, tuning: Tuning, model: int, z: Floats, known: float, cost: float) -> None:
    """Take what the served answer cost, of which so much was `known`, into its model's means and ridge.

    All of them forget slowly. Each way to foretell is judged by this cost before it learns from it.
    """
    properties, costs = properties_of(z), state.costs[model]
    if costs[PAID] > 0.0:
        for way in range(3):
            error = abs(cost - foretold(state, model, properties, known, way))
            costs[ERRORS + way] += error - costs[ERRORS + way] / tuning.memory
    state.cost_count[model] += 1
    count = min(float(state.cost_count[model]), tuning.memory)
    state.mean_cost[model] += (cost - state.mean_cost[model]) / count
    costs[PAID] += 1.0
    costs[REST] += (cost - known - costs[REST]) / min(costs[PAID], tuning.memory)
    gained = np.empty(len(properties))
    gain(state.cost_cov[model], properties, gained)
    scale = 1.0 + dot(gained, properties)
    error = cost - known - dot(state.cost_weight[model], properties)
    for at in range(len(gained)):
        state.cost_weight[model, at] += gained[at] * error / scale
    shrink(state.cost_cov[model], gained, scale)
    state.cost_cov[model, 0, 0] += 1.0 / tuning.memory**2
