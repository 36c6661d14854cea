"""The recursion of MESS+ over a whole grid of V and α at once: requests outside, settings inside.

Which requests explore, and all that is predicted, depends on neither V nor α. What is left to each setting is its
queue and its mean costs, and a decision is a few additions and divisions that run in vector registers, many settings
at a time. The arithmetic is that of `messplus`, operation for operation, in float64: every decision is the same to
the last bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from messctl.learning.compiled import compiled
from messctl.learning.mean_costs import AUTO_SCALE
from messctl.learning.predictor import Weights
from messctl.learning.random_streams import stream
from messctl.policies import Rounds
from messctl.policies.base import Floats
from messctl.policies.messplus import explore_probabilities, learn_along
from messctl.tune.pair import BLOCK, recurse_pair
from messctl.tune.windows import PARTS
from messctl.zoo import Settings

Served = npt.NDArray[np.int16]


def sweep(
    rounds: Rounds, part: npt.NDArray[np.int64], settings: Settings, alphas: Floats, vs: Floats, *, keep: bool = False
) -> tuple[Floats, Floats, Floats, Served]:
    """Play MESS+ under `settings`, but for its α and V, which are `alphas` and `vs` (settings,) in turn.

    `part` (n,), by arrival, says to which part of the trace a request counts, from 0. Returns the sum of satisfaction
    over the requests that got feedback, and of all that was paid, (parts, settings), and the queue at the end
    (settings,). Where `keep`, the fourth is what was served, (n, settings); otherwise it is empty.
    """
    n, models = len(rounds), len(rounds.zoo.models)
    chances = explore_probabilities(settings.c, settings.exponent, 1, n)
    explored = stream(settings.seed, "exploration").random(n) < chances
    predicted = np.empty((n, models))
    weights, features = Weights.zero(models, rounds.features.width), rounds.features
    learn_along(
        (rounds.order, rounds.has_feedback, rounds.delay),
        explored,
        (features.starts, features.indices, features.values),
        rounds.satisfied,
        (weights.weight, weights.bias, weights.steps),
        predicted,
    )
    satisfied, cost = rounds.satisfied[rounds.order], rounds.cost[rounds.order]
    good, paid, queue = np.zeros((PARTS, len(vs))), np.zeros((PARTS, len(vs))), np.zeros(len(vs))
    served = np.empty((n if keep else 0, len(vs)), dtype=np.int16)
    reference = rounds.zoo.index(rounds.zoo.reference)
    outcomes, foreseen = (satisfied, cost), (explored, predicted)
    # So many settings at a time: what is kept of them stays in the processor's nearest cache.
    for first in range(0, len(vs), BLOCK):
        block = slice(first, first + BLOCK)
        sums = (good[:, block], paid[:, block], queue[block])
        if models == 2 and not rounds.delay and settings.cost_scale is None:
            grid = (alphas[block], vs[block])
            recurse_pair(grid, reference, (rounds.has_feedback, part), outcomes, foreseen, sums, served[:, block])
        else:
            scaled = (alphas[block], vs[block], settings.cost_scale or AUTO_SCALE)
            arrivals = (rounds.has_feedback, rounds.delay, part)
            recurse(scaled, reference, arrivals, outcomes, foreseen, sums, served[:, block])
    return good, paid, queue, served


@compiled
def recurse(
    settings: tuple[Floats, Floats, float],
    reference: int,
    arrivals: tuple[npt.NDArray[np.bool_], int, npt.NDArray[np.int64]],
    outcomes: tuple[Floats, Floats],
    foreseen: tuple[npt.NDArray[np.bool_], Floats],
    sums: tuple[Floats, Floats, Floats],
    served: Served,
) -> None:
    """Decide every request under every setting; all tables are by arrival. `sums` begin as zeros and are filled in."""
    alpha, v, fixed_scale = settings
    has_feedback, delay, part = arrivals
    satisfied, cost = outcomes
    explored, predicted = foreseen
    good, paid, queue = sums
    n, models = predicted.shape
    many = len(alpha)
    mean_cost, count = np.zeros((models, many)), np.zeros((models, many))
    scale, least, cheapest, best = np.empty(many), np.empty(many), np.empty(many), np.empty(many)
    waiting = np.empty((delay + 1, many))
    for t in range(n + delay):
        if t < n:
            judged = waiting[t % (delay + 1)]
            if explored[t]:
                best[:] = reference
                judged[:] = satisfied[t, reference]
                _pay_all(cost[t], mean_cost, count, paid[part[t]])
            else:
                _scales(mean_cost, fixed_scale, scale)
                _choose(alpha, v, queue, scale, predicted[t], mean_cost, (least, cheapest, best))
                _pay(best, cost[t], satisfied[t], (mean_cost, count), paid[part[t]], judged)
            if len(served):
                for s in range(many):
                    served[t, s] = np.int16(best[s])
        due = t - delay
        if due >= 0 and has_feedback[due]:
            _hear(alpha, waiting[due % (delay + 1)], queue, good[part[due]])


# Each inner loop touches few arrays: a compiler that would have to prove of many that they are apart gives up.


@compiled
def _scales(mean_cost: Floats, fixed_scale: float, scale: Floats) -> None:
    """Write what each setting divides costs by, as `costs.scale_of` has it."""
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
    """Write the best model's number under each setting, as `messplus.exploit` has it."""
    least, cheapest, best = found
    least[:] = np.inf
    cheapest[:] = mean_cost[0]
    best[:] = 0.0
    for model in range(len(predicted)):
        chance, number = predicted[model], float(model)
        for s in range(len(v)):
            mean = mean_cost[model, s]
            score = v[s] * (mean / scale[s]) + queue[s] * (alpha[s] - chance)
            better = (score < least[s]) | ((score == least[s]) & (mean < cheapest[s]))
            least[s] = score if better else least[s]
            cheapest[s] = mean if better else cheapest[s]
            best[s] = number if better else best[s]


@compiled
def _pay(
    best: Floats, cost: Floats, satisfied: Floats, books: tuple[Floats, Floats], paid: Floats, judged: Floats
) -> None:
    """Pay for the served model, and take its cost into its mean, as `costs.observe` has it."""
    mean_cost, count = books
    for model in range(len(cost)):
        price, value, number = cost[model], satisfied[model], float(model)
        for s in range(len(best)):
            hit = best[s] == number
            mean = mean_cost[model, s]
            more = count[model, s] + 1.0
            moved = mean + (price - mean) / more
            count[model, s] = more if hit else count[model, s]
            mean_cost[model, s] = moved if hit else mean
            paid[s] += price if hit else 0.0
            judged[s] = value if hit else judged[s]


@compiled
def _pay_all(cost: Floats, mean_cost: Floats, count: Floats, paid: Floats) -> None:
    """Pay for every model, and take all costs into their means."""
    total = 0.0
    for model in range(len(cost)):
        total += cost[model]
        for s in range(len(paid)):
            count[model, s] += 1.0
            mean_cost[model, s] += (cost[model] - mean_cost[model, s]) / count[model, s]
    for s in range(len(paid)):
        paid[s] += total


@compiled
def _hear(alpha: Floats, judged: Floats, queue: Floats, good: Floats) -> None:
    """Take feedback into queue, as `virtual_queue.advance` has it, and sum."""
    for s in range(len(queue)):
        debt = queue[s] + alpha[s] - judged[s]
        queue[s] = debt if debt > 0.0 else 0.0
        good[s] += judged[s]
