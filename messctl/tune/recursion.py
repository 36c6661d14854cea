"""The recursion of MESS+ over a whole grid of V and α at once: requests in the outer loop, settings in the inner.

Exploration and predictions depend on neither V nor α. Each setting only has its own queue and mean costs. A decision
is a few additions and divisions, done in vector registers for many settings at a time. The arithmetic is that of
`messplus`, operation for operation, in float64: every decision is the same to the last bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from messctl.learning.compiled import compiled, compiled_loop
from messctl.learning.mean_costs import AUTO_SCALE
from messctl.learning.predictor import Weights
from messctl.learning.random_streams import stream
from messctl.policies import Rounds
from messctl.policies.base import Floats
from messctl.policies.messplus.rounds import explore_probabilities, learn_along
from messctl.tune.two_model_recursion import BLOCK, recurse_two_models
from messctl.tune.windows import PARTS
from messctl.zoo import Settings

Served = npt.NDArray[np.int16]


def sweep(
    rounds: Rounds,
    part: npt.NDArray[np.int64],
    settings: Settings,
    alphas: Floats,
    vs: Floats,
    *,
    with_served: bool = False,
) -> tuple[Floats, Floats, Floats, Served]:
    """Play MESS+ under `settings` with each pair of `alphas` and `vs`, both (settings,), in place of its α and V.

    `part` (n,) is the part of the trace of each request, by arrival, from 0. Returns four arrays: the satisfaction
    summed over the requests with feedback, (parts, settings); the cost summed over all requests, (parts, settings);
    the final queue, (settings,); and the models served, (n, settings), empty unless `with_served`.
    """
    n, models = len(rounds), len(rounds.zoo.models)
    chances = explore_probabilities(settings.c, settings.exponent, 1, n)
    explored = stream(settings.seed, "exploration").random(n) < chances
    predicted = np.empty((n, models))
    weights, features = Weights.zero(models, rounds.features.width), rounds.features
    learn_along(
        rounds.arrivals,
        explored,
        features.sparse_rows,
        rounds.satisfied,
        (weights.weight, weights.bias, weights.steps),
        predicted,
    )
    satisfied, cost = rounds.satisfied[rounds.order], rounds.cost[rounds.order]
    satisfied_sum, cost_sum, queue = np.zeros((PARTS, len(vs))), np.zeros((PARTS, len(vs))), np.zeros(len(vs))
    served = np.empty((n if with_served else 0, len(vs)), dtype=np.int16)
    reference = rounds.zoo.index(rounds.zoo.reference)
    outcomes, forecast = (satisfied, cost), (explored, predicted)
    # In blocks of settings, so that their state stays in the processor's nearest cache.
    for first in range(0, len(vs), BLOCK):
        block = slice(first, first + BLOCK)
        sums = (satisfied_sum[:, block], cost_sum[:, block], queue[block])
        if models == 2 and not rounds.delay and settings.cost_scale is None:
            grid = (alphas[block], vs[block])
            recurse_two_models(grid, reference, (rounds.has_feedback, part), outcomes, forecast, sums, served[:, block])
        else:
            scaled = (alphas[block], vs[block], settings.cost_scale or AUTO_SCALE)
            arrivals = (rounds.has_feedback, rounds.delay, part)
            recurse(scaled, reference, arrivals, outcomes, forecast, sums, served[:, block])
    return satisfied_sum, cost_sum, queue, served


@compiled_loop
def recurse(
    settings: tuple[Floats, Floats, float],
    reference: int,
    arrivals: tuple[npt.NDArray[np.bool_], int, npt.NDArray[np.int64]],
    outcomes: tuple[Floats, Floats],
    forecast: tuple[npt.NDArray[np.bool_], Floats],
    sums: tuple[Floats, Floats, Floats],
    served: Served,
) -> None:
    """Decide every request under every setting. All tables are by arrival; `sums` are zeros, and are added to.

    `settings` are α and V, (settings,), and the fixed scale of costs, if it is above 0. `arrivals` are the flags of
    feedback (n,), its delay in requests, and the part of each request (n,). `outcomes` are the satisfaction and cost,
    (n, models). `forecast` is the flags of exploration (n,) and the predicted satisfaction (n, models). `sums` and
    `served` are as `sweep` returns them.
    """
    alpha, v, fixed_scale = settings
    has_feedback, delay, part = arrivals
    satisfied, cost = outcomes
    explored, predicted = forecast
    satisfied_sum, cost_sum, queue = sums
    n, models = predicted.shape
    size = len(alpha)
    mean_cost, count = np.zeros((models, size)), np.zeros((models, size))
    scale, least, cheapest, best = np.empty(size), np.empty(size), np.empty(size), np.empty(size)
    pending = np.empty((delay + 1, size))
    for t in range(n + delay):
        if t < n:
            feedback = pending[t % (delay + 1)]
            if explored[t]:
                best[:] = reference
                feedback[:] = satisfied[t, reference]
                _add_all_costs(cost[t], mean_cost, count, cost_sum[part[t]])
            else:
                _set_scales(mean_cost, fixed_scale, scale)
                _choose(alpha, v, queue, scale, predicted[t], mean_cost, (least, cheapest, best))
                _add_cost(best, cost[t], satisfied[t], (mean_cost, count), cost_sum[part[t]], feedback)
            if len(served):
                for s in range(size):
                    served[t, s] = np.int16(best[s])
        due = t - delay
        if due >= 0 and has_feedback[due]:
            _apply_feedback(alpha, pending[due % (delay + 1)], queue, satisfied_sum[part[due]])


# Each inner loop touches few arrays, so that the compiler can check that they do not overlap, and vectorise it.


@compiled
def _set_scales(mean_cost: Floats, fixed_scale: float, scale: Floats) -> None:
    """Write the divisor of the costs of each setting, as `mean_costs.scale_of` computes it."""
    if fixed_scale > 0.0:
        scale[:] = fixed_scale
        return
    scale[:] = 0.0
    for model in range(len(mean_cost)):
        for s in range(len(scale)):
            mean = mean_cost[model, s]
            scale[s] = mean if mean > scale[s] else scale[s]
    for s in range(len(scale)):
        scale[s] = scale[s] if scale[s] > 0.0 else 1.0


@compiled
def _choose(
    alpha: Floats,
    v: Floats,
    queue: Floats,
    scale: Floats,
    predicted: Floats,
    mean_cost: Floats,
    found: tuple[Floats, Floats, Floats],
) -> None:
    """Write the index of the best model under each setting, as `messplus.exploit` chooses it."""
    least, cheapest, best = found
    least[:] = np.inf
    cheapest[:] = mean_cost[0]
    best[:] = 0.0
    for model in range(len(predicted)):
        expected, number = predicted[model], float(model)
        for s in range(len(v)):
            mean = mean_cost[model, s]
            score = v[s] * (mean / scale[s]) + queue[s] * (alpha[s] - expected)
            better = (score < least[s]) | ((score == least[s]) & (mean < cheapest[s]))
            least[s] = score if better else least[s]
            cheapest[s] = mean if better else cheapest[s]
            best[s] = number if better else best[s]


@compiled
def _add_cost(
    best: Floats, cost: Floats, satisfied: Floats, costs: tuple[Floats, Floats], cost_sum: Floats, feedback: Floats
) -> None:
    """Add the cost of the served model to the sum and to its mean, as `mean_costs.observe` does."""
    mean_cost, count = costs
    for model in range(len(cost)):
        price, value, number = cost[model], satisfied[model], float(model)
        for s in range(len(best)):
            hit = best[s] == number
            mean = mean_cost[model, s]
            more = count[model, s] + 1.0
            moved = mean + (price - mean) / more
            count[model, s] = more if hit else count[model, s]
            mean_cost[model, s] = moved if hit else mean
            cost_sum[s] += price if hit else 0.0
            feedback[s] = value if hit else feedback[s]


@compiled
def _add_all_costs(cost: Floats, mean_cost: Floats, count: Floats, cost_sum: Floats) -> None:
    """Add the costs of all models to the sum and to their means."""
    total = 0.0
    for model in range(len(cost)):
        total += cost[model]
        for s in range(len(cost_sum)):
            count[model, s] += 1.0
            mean_cost[model, s] += (cost[model] - mean_cost[model, s]) / count[model, s]
    for s in range(len(cost_sum)):
        cost_sum[s] += total


@compiled
def _apply_feedback(alpha: Floats, feedback: Floats, queue: Floats, satisfied_sum: Floats) -> None:
    """Advance the queue by the feedback, as `virtual_queue.advance` does, and add it to the sum."""
    for s in range(len(queue)):
        debt = queue[s] + alpha[s] - feedback[s]
        queue[s] = debt if debt > 0.0 else 0.0
        satisfied_sum[s] += feedback[s]
