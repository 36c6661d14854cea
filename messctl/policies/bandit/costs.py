"""The cost of an answer, predicted by whichever of three methods has been wrong by least.

What reading the prompt costs, k_m, may be known before the model runs (`Request.prompt_cost`); it is 0 if it is not
known. The rest, the answer above all, is learned. The methods are: k_m plus the mean of the rest; k_m plus a ridge for
the rest, on the prompt's properties, since a long question gets a long answer; and the running mean Ē_m alone, as in
MESS+. Each method's error is measured before it learns from the cost.

k_m is not limited: a prompt that is fifty times as long costs fifty times as much to read. The ridge's part is kept
within a factor `cost_range` of the mean of the rest. The scale of costs, ties and trials use Ē_m alone.
"""

from __future__ import annotations

import numpy as np

from messctl.learning.compiled import compiled
from messctl.policies.bandit.linear import dot, gain, shrink
from messctl.policies.bandit.prompt import BUCKETS, PROPERTIES
from messctl.policies.bandit.state import State
from messctl.policies.bandit.tuning import Tuning
from messctl.policies.base import Floats

BY_READING, BY_RIDGE, BY_MEAN = range(3)
"""The methods: reading and the mean of the rest, reading and a ridge for the rest, the running mean alone."""


@compiled
def properties_of(z: Floats) -> Floats:
    """Return what the cost ridges see of z, (COST_WIDTH,): a constant and the properties."""
    properties = np.ones(1 + PROPERTIES)
    properties[1:] = z[BUCKETS:]
    return properties


@compiled
def predicted_cost(state: State, tuning: Tuning, model: int, properties: Floats, reading: float, method: int) -> float:
    """Return what an answer will cost by one method, in the unit of the costs; `reading` is k, or 0."""
    if method == BY_MEAN:
        return state.mean_cost[model]
    rest = state.cost_records[model].rest
    if method == BY_RIDGE:
        # The rest is negative if reading was thought to cost more than the whole answer did.
        small, large = rest / tuning.cost_range, rest * tuning.cost_range
        ridge = dot(state.cost_weight[model], properties)
        rest = min(max(small, large), max(min(small, large), ridge))
    return max(reading / tuning.cost_range, reading + rest)


@compiled
def best_method(state: State, model: int) -> int:
    """Return the method with the least error; the first one on a tie."""
    best = BY_READING
    for method in (BY_RIDGE, BY_MEAN):
        if state.cost_records[model].errors[method] < state.cost_records[model].errors[best]:
            best = method
    return best


@compiled
def expected_costs(state: State, tuning: Tuning, z: Floats, reading: Floats, cost: Floats) -> None:
    """Write Ĉ of each model into `cost` (M,). A model that never answered costs `reading` (M,), and so gets tried."""
    properties = properties_of(z)
    for model in range(len(cost)):
        cost[model] = predicted_cost(state, tuning, model, properties, reading[model], best_method(state, model))


@compiled
def total_cost(state: State) -> float:
    """Return what was paid under this promise, by the models' means."""
    total, answers = 0.0, 0.0
    for model in range(len(state.mean_cost)):
        total += state.cost_count[model] * state.mean_cost[model]
        answers += state.cost_count[model]
    # A warm start may know of more answers than were paid for under this promise.
    return total / max(1.0, answers) * state.tally.decided


@compiled
def learn_cost(state: State, tuning: Tuning, model: int, z: Floats, reading: float, cost: float) -> None:
    """Learn what an answer of `model` cost, in its means and its ridge. `reading` is the part that was known, or 0."""
    properties, memory = properties_of(z), tuning.memory
    record = state.cost_records[model]
    if record.answers > 0.0:
        for method in range(3):
            error = abs(cost - predicted_cost(state, tuning, model, properties, reading, method))
            record.errors[method] += error - record.errors[method] / memory
    state.cost_count[model] += 1
    state.mean_cost[model] += (cost - state.mean_cost[model]) / min(float(state.cost_count[model]), memory)
    record.answers += 1.0
    record.rest += (cost - reading - record.rest) / min(record.answers, memory)
    gained = np.empty(len(properties))
    gain(state.cost_covariance[model], properties, gained)
    scale = 1.0 + dot(gained, properties)
    error = cost - reading - dot(state.cost_weight[model], properties)
    for at in range(len(gained)):
        state.cost_weight[model, at] += gained[at] * error / scale
    shrink(state.cost_covariance[model], gained, scale)
    state.cost_covariance[model, 0, 0] += 1.0 / (memory * memory)
