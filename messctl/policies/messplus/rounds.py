"""The arithmetic of MESS+, and all rounds of a replay in two compiled loops.

The first loop predicts and learns: which requests explore, and what they teach, never depends on V and α. The second
one decides, given what explores and what is predicted.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from messctl.learning.compiled import compiled, compiled_loop
from messctl.learning.features import SparseRows
from messctl.learning.mean_costs import observe, scale_of
from messctl.learning.predictor import predict, step
from messctl.learning.virtual_queue import advance
from messctl.policies.base import Arrivals, Floats

Counts = npt.NDArray[np.int64]


class Terms(NamedTuple):
    """What a run is decided by: α, V, what costs are divided by (AUTO_SCALE: the largest mean), and the reference."""

    alpha: float
    v: float
    scale: float
    reference: int


class Steps(NamedTuple):
    """What is filled in, by arrival: (n,), and (n, M) for `mean_cost`. `satisfied` is NaN without feedback."""

    served: Counts
    cost: Floats
    satisfied: Floats
    queue_before: Floats
    queue_after: Floats
    mean_cost: Floats


def empty_steps(requests: int, models: int) -> Steps:
    """Return room for all steps."""
    cost, satisfied, before, after = (np.empty(requests) for _ in range(4))
    return Steps(np.empty(requests, dtype=np.int64), cost, satisfied, before, after, np.empty((requests, models)))


@compiled
def explore_probability(c: float, exponent: float, request_number: int) -> float:
    """Return min(1, c / t^exponent); requests t count from 1."""
    return min(1.0, c / math.pow(request_number, exponent))


@compiled_loop
def explore_probabilities(c: float, exponent: float, first: int, requests: int) -> Floats:
    """Return the probabilities of exploring, (requests,), from request number `first` on."""
    found = np.empty(requests)
    for t in range(requests):
        found[t] = explore_probability(c, exponent, first + t)
    return found


@compiled
def exploit(v: float, alpha: float, queue: float, scale: float, cost: Floats, predicted: Floats) -> int:
    """Return argmin over m of V·cost/scale + Q·(α − ŝ_m); a tie goes to the cheaper model, then to the name.

    `cost` (M,) is Ē_m and what m would cost now beyond its answer; infinite for a model that cannot be asked.
    """
    best = 0
    least = np.inf
    for model in range(len(cost)):
        if cost[model] == np.inf:  # with V = 0 the product would not be a number
            continue
        score = v * (cost[model] / scale) + queue * (alpha - predicted[model])
        if score < least or (score == least and cost[model] < cost[best]):
            best = model
            least = score
    return best


@compiled_loop
def learn_along(
    arrivals: Arrivals,
    explored: npt.NDArray[np.bool_],
    rows: SparseRows,
    satisfied: Floats,
    weights: tuple[Floats, Floats, Counts],
    predicted: Floats,
) -> None:
    """Predict every request, and learn from those that explore.

    `weights` are the arrays of predictor.Weights and change in place; `predicted` (n, M), by arrival, is filled in.
    """
    weight, bias, taken = weights
    n, models = predicted.shape
    for t in range(n + arrivals.delay):
        if t < n:
            row = arrivals.order[t]
            part = slice(rows.starts[row], rows.starts[row + 1])
            predict(weight, bias, rows.indices[part], rows.values[part], predicted[t])
        due = t - arrivals.delay
        if due >= 0 and arrivals.has_feedback[due] and explored[due]:
            row = arrivals.order[due]
            part = slice(rows.starts[row], rows.starts[row + 1])
            for model in range(models):
                step(weight, bias, taken, model, rows.indices[part], rows.values[part], satisfied[row, model])


@compiled_loop
def decide_along(
    terms: Terms,
    arrivals: Arrivals,
    outcomes: tuple[Floats, Floats],
    explored: npt.NDArray[np.bool_],
    predicted: Floats,
    queue: float,
    means: tuple[Floats, Counts],
    steps: Steps,
) -> float:
    """Decide every request, given what explores and what is predicted (n, M); return the queue at the end.

    `outcomes` are satisfaction and cost, (n, M) by row. `means`, the mean costs and their counts, change in place.
    """
    satisfied, cost = outcomes
    mean_cost, cost_count = means
    n, models = predicted.shape
    for t in range(n + arrivals.delay):
        if t < n:
            row = arrivals.order[t]
            for model in range(models):
                steps.mean_cost[t, model] = mean_cost[model] if cost_count[model] else np.nan
            steps.queue_before[t] = queue
            steps.cost[t] = 0.0
            if explored[t]:
                served = terms.reference
                for model in range(models):
                    steps.cost[t] += cost[row, model]
                    observe(mean_cost, cost_count, model, cost[row, model])
            else:
                scale = scale_of(mean_cost, terms.scale)
                served = exploit(terms.v, terms.alpha, queue, scale, mean_cost, predicted[t])
                steps.cost[t] = cost[row, served]
                observe(mean_cost, cost_count, served, cost[row, served])
            steps.served[t] = served
            steps.satisfied[t] = satisfied[row, served] if arrivals.has_feedback[t] else np.nan
        due = t - arrivals.delay
        if due >= 0 and arrivals.has_feedback[due]:
            queue = advance(queue, terms.alpha, steps.satisfied[due])
        steps.queue_after[min(t, n - 1)] = queue
    return queue
