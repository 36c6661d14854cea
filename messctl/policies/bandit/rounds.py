"""All rounds of a replay in one compiled loop, which takes the same steps as `decide` and `learn`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from messctl.learning.compiled import compiled
from messctl.policies.bandit.choice import choose, weighing
from messctl.policies.bandit.costs import pay
from messctl.policies.bandit.debt import owe
from messctl.policies.bandit.prompt import BUCKETS, PROPERTIES, reduce
from messctl.policies.bandit.satisfaction import hear
from messctl.policies.bandit.state import DECIDED, QUEUE, Counts, Promise, State, Tuning
from messctl.policies.base import Floats


@compiled
def play(
    state: State,
    promise: Promise,
    tuning: Tuning,
    arrivals: tuple[Counts, npt.NDArray[np.bool_], int, Floats],
    rows: tuple[Counts, npt.NDArray[np.int32], npt.NDArray[np.float32]],
    outcomes: tuple[Floats, Floats, Floats],
    steps: tuple[Counts, Floats, Floats, Floats, Floats, Floats, Floats],
) -> None:
    """Play all rounds from where the state stands.

    `outcomes` are satisfaction, cost, and what is known of it beforehand, each (n, M), the last (0, M) for nothing.
    `steps` are filled in: served, propensity, judged, queue before and after, predicted, mean costs.
    """
    order, has_feedback, delay, coins = arrivals
    starts, indices, values = rows
    satisfied, cost, known = outcomes
    served, propensity, judged, before, after, predicted, mean_costs = steps
    n, models = predicted.shape
    earlier = state.counts[DECIDED]
    z, weighed, reading = np.empty(1 + BUCKETS + PROPERTIES), weighing(models), np.zeros(models)
    prices, odds = (reading, np.zeros(models)), weighed[2]
    for t in range(n + delay):
        if t < n:
            row = order[t]
            reduce(indices[starts[row] : starts[row + 1]], values[starts[row] : starts[row + 1]], z)
            for model in range(models):
                mean_costs[t, model] = state.mean_cost[model] if state.cost_count[model] else np.nan
            if len(known):
                reading[:] = known[row]
            before[t] = state.ledger[QUEUE]
            served[t] = choose(state, promise, tuning, z, prices, coins[t], predicted[t], weighed)
            propensity[t] = odds[served[t]]
            pay(state, tuning, served[t], z, reading[served[t]], cost[row, served[t]])
            judged[t] = satisfied[row, served[t]] if has_feedback[t] else np.nan
        due = t - delay
        if due >= 0 and has_feedback[due]:
            row = order[due]
            reduce(indices[starts[row] : starts[row + 1]], values[starts[row] : starts[row + 1]], z)
            owe(state, tuning, promise.alpha, earlier + due + 1, judged[due])
            hear(state, promise, tuning, served[due], z, judged[due])
        after[min(t, n - 1)] = state.ledger[QUEUE]
