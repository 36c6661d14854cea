"""All rounds of a replay in one compiled loop, which takes the same steps as `decide` and `learn`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from messctl.learning.compiled import compiled_loop
from messctl.learning.features import SparseRows
from messctl.policies.bandit.balance import record_balance
from messctl.policies.bandit.choice import Prices, choose
from messctl.policies.bandit.costs import learn_cost
from messctl.policies.bandit.prompt import fold
from messctl.policies.bandit.satisfaction import learn_satisfaction
from messctl.policies.bandit.state import WIDTH, Counts, Promise, State
from messctl.policies.bandit.tuning import Tuning
from messctl.policies.base import Arrivals, Floats


class Outcomes(NamedTuple):
    """What each model brings on each row of the trace, (n, M); `reading` is (0, M) if nothing is known in advance."""

    satisfied: Floats
    cost: Floats
    reading: Floats


class Steps(NamedTuple):
    """What is filled in, by arrival: (n,), and (n, M) for the last two. `satisfied` is NaN without feedback."""

    served: Counts
    propensity: Floats
    satisfied: Floats
    queue_before: Floats
    queue_after: Floats
    predicted: Floats
    mean_cost: Floats


def empty_steps(requests: int, models: int) -> Steps:
    """Return room for all steps."""
    propensity, satisfied, before, after = (np.empty(requests) for _ in range(4))
    predicted, mean_cost = np.empty((requests, models)), np.empty((requests, models))
    return Steps(np.empty(requests, dtype=np.int64), propensity, satisfied, before, after, predicted, mean_cost)


@compiled_loop
def play(
    state: State,
    promise: Promise,
    tuning: Tuning,
    arrivals: Arrivals,
    coins: Floats,
    rows: SparseRows,
    outcomes: Outcomes,
    steps: Steps,
) -> None:
    """Play all rounds from where `state` is; `coins` (n,) are uniform in 0..1. Fills in `steps`."""
    n, models = steps.predicted.shape
    earlier = state.tally.decided
    z = np.empty(WIDTH)
    prices = Prices(np.zeros(models), np.zeros(models))
    for t in range(n + arrivals.delay):
        if t < n:
            row = arrivals.order[t]
            part = slice(rows.starts[row], rows.starts[row + 1])
            fold(rows.indices[part], rows.values[part], z)
            for model in range(models):
                steps.mean_cost[t, model] = state.mean_cost[model] if state.cost_count[model] else np.nan
            if len(outcomes.reading):
                prices.reading[:] = outcomes.reading[row]
            steps.queue_before[t] = state.ledger.queue
            choice = choose(state, promise, tuning, z, prices, coins[t])
            served = choice.model
            steps.served[t] = served
            steps.predicted[t] = choice.predicted
            steps.propensity[t] = choice.odds[served]
            learn_cost(state, tuning, served, z, prices.reading[served], outcomes.cost[row, served])
            steps.satisfied[t] = outcomes.satisfied[row, served] if arrivals.has_feedback[t] else np.nan
        due = t - arrivals.delay
        if due >= 0 and arrivals.has_feedback[due]:
            row = arrivals.order[due]
            part = slice(rows.starts[row], rows.starts[row + 1])
            fold(rows.indices[part], rows.values[part], z)
            record_balance(state, tuning, promise.alpha, earlier + due + 1, steps.satisfied[due])
            learn_satisfaction(state, promise, tuning, steps.served[due], z, steps.satisfied[due])
        steps.queue_after[min(t, n - 1)] = state.ledger.queue
