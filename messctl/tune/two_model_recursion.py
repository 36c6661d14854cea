"""The recursion of MESS+ over a grid of V and α for a zoo of two models, several times as fast as `recursion`.

The state of all settings is one array, the *book*: a row for each quantity, a column for each setting. The number of
columns is a constant of the compiled code. So the compiler sees that no two rows overlap, and one loop in vector
registers takes a request from the scores to the queue. Of two models only the mean cost of the served one changes, and
with the automatic scale the scaled cost of the costlier one is exactly 1: two of four divisions are saved. All numbers
are float64, with the results of `messplus`: every decision is the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

from messctl.learning.compiled import compiled, compiled_loop
from messctl.policies.base import Floats

WIDTHS = (32, 128)
"""The numbers of columns for which code is compiled; a book with fewer settings is padded."""

BLOCK = WIDTHS[-1]
"""The largest number of settings at a time."""

# The rows of the book. COUNT_0 counts the first model's costs; the second one's count is the rest of all costs.
V, ALPHA, QUEUE, MEAN_0, MEAN_1, COUNT_0, SATISFIED, COST, ROWS = range(9)

Flags = npt.NDArray[np.bool_]
Served = npt.NDArray[np.int16]


def recurse_two_models(
    settings: tuple[Floats, Floats],
    reference: int,
    arrivals: tuple[Flags, npt.NDArray[np.int64]],
    outcomes: tuple[Floats, Floats],
    forecast: tuple[Flags, Floats],
    sums: tuple[Floats, Floats, Floats],
    served: Served,
) -> None:
    """Do what `recurse` does, for two models, the automatic scale of costs, and feedback without delay.

    `settings` are α and V, both (settings,), at most BLOCK of them. `arrivals` are the flags of feedback and the parts.
    """
    alpha, v = settings
    satisfied_sum, cost_sum, queue = sums
    size = len(v)
    width = next(width for width in WIDTHS if width >= size)
    book = np.zeros((ROWS, width))
    book[V, :size], book[ALPHA, :size] = v, alpha
    totals = np.zeros((2, len(satisfied_sum), width))
    padded = np.empty((len(served), width), dtype=np.int16)
    _loop(width)(book.ravel(), reference, arrivals, outcomes, forecast, totals, padded)
    queue[:] = book[QUEUE, :size]
    satisfied_sum[:], cost_sum[:] = totals[:, :, :size]
    served[:] = padded[:, :size]


@cache
def _loop(width: int) -> Callable[..., None]:
    """Return the loop over requests for a book of this width."""

    @compiled_loop
    def loop(
        book: Floats,
        reference: int,
        arrivals: tuple[Flags, npt.NDArray[np.int64]],
        outcomes: tuple[Floats, Floats],
        forecast: tuple[Flags, Floats],
        totals: Floats,
        served: Served,
    ) -> None:
        has_feedback, part = arrivals
        satisfied, cost = outcomes
        explored, predicted = forecast
        sums = book[SATISFIED * width : (COST + 1) * width]
        before = np.empty(width)
        seen, now = 0.0, 0
        for t in range(len(has_feedback)):
            if part[t] != now:
                _switch_part(sums, totals, width, now, part[t])
                now = part[t]
            costs, values = (cost[t, 0], cost[t, 1]), (satisfied[t, 0], satisfied[t, 1])
            if explored[t]:
                _explore(book, width, seen, costs, values[reference], has_feedback[t])
                seen += 2.0
                if len(served):
                    served[t] = reference
                continue
            if len(served):
                before[:] = book[COUNT_0 * width : (COUNT_0 + 1) * width]
            _exploit(book, width, seen, (predicted[t, 0], predicted[t, 1]), costs, values, has_feedback[t])
            seen += 1.0
            if len(served):
                for s in range(width):
                    served[t, s] = np.int16(book[COUNT_0 * width + s] == before[s])
        _switch_part(sums, totals, width, now, now)

    return loop


# With a constant width, each of these functions is inlined into the loop above, and the offsets of its rows become
# constants.


@compiled
def _switch_part(sums: Floats, totals: Floats, width: int, old: int, new: int) -> None:
    """Store the sums of one part of the trace, and load those of another."""
    for s in range(width):
        totals[0, old, s], totals[1, old, s] = sums[s], sums[width + s]
        sums[s], sums[width + s] = totals[0, new, s], totals[1, new, s]


@compiled
def _exploit(
    book: Floats,
    width: int,
    seen: float,
    predicted: tuple[float, float],
    cost: tuple[float, float],
    satisfied: tuple[float, float],
    has_feedback: bool,
) -> None:
    """Under every setting choose as `messplus.exploit` does, and add cost and feedback as `recursion` does."""
    for s in range(width):
        v, alpha, queue = book[V * width + s], book[ALPHA * width + s], book[QUEUE * width + s]
        mean_0, mean_1, count_0 = book[MEAN_0 * width + s], book[MEAN_1 * width + s], book[COUNT_0 * width + s]
        first_is_costlier = mean_0 > mean_1
        high, low = (mean_0, mean_1) if first_is_costlier else (mean_1, mean_0)
        # high / high is 1; as long as nothing has cost anything, both terms are 0.
        high_term = v if high > 0.0 else 0.0
        low_term = v * (low / (high if high > 0.0 else 1.0))
        score_0 = (high_term if first_is_costlier else low_term) + queue * (alpha - predicted[0])
        score_1 = (low_term if first_is_costlier else high_term) + queue * (alpha - predicted[1])
        second = (score_1 < score_0) | ((score_1 == score_0) & (mean_1 < mean_0))
        price = cost[1] if second else cost[0]
        feedback = satisfied[1] if second else satisfied[0]
        count = (seen - count_0 if second else count_0) + 1.0
        mean = mean_1 if second else mean_0
        mean = mean + (price - mean) / count
        book[MEAN_0 * width + s] = mean_0 if second else mean
        book[MEAN_1 * width + s] = mean if second else mean_1
        book[COUNT_0 * width + s] = count_0 if second else count
        book[COST * width + s] += price
        debt = queue + alpha - feedback
        debt = debt if debt > 0.0 else 0.0
        book[QUEUE * width + s] = debt if has_feedback else queue
        book[SATISFIED * width + s] += feedback if has_feedback else 0.0


@compiled
def _explore(
    book: Floats, width: int, seen: float, cost: tuple[float, float], feedback: float, has_feedback: bool
) -> None:
    """Add the costs of both models; `feedback` is the satisfaction with the reference."""
    total = cost[0] + cost[1]
    for s in range(width):
        count_0 = book[COUNT_0 * width + s]
        mean_0, mean_1 = book[MEAN_0 * width + s], book[MEAN_1 * width + s]
        book[MEAN_0 * width + s] = mean_0 + (cost[0] - mean_0) / (count_0 + 1.0)
        book[MEAN_1 * width + s] = mean_1 + (cost[1] - mean_1) / (seen - count_0 + 1.0)
        book[COUNT_0 * width + s] = count_0 + 1.0
        book[COST * width + s] += total
        queue = book[QUEUE * width + s]
        debt = queue + book[ALPHA * width + s] - feedback
        debt = debt if debt > 0.0 else 0.0
        book[QUEUE * width + s] = debt if has_feedback else queue
        book[SATISFIED * width + s] += feedback if has_feedback else 0.0
