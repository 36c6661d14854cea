"""The recursion of MESS+ over a grid of V and α for a zoo of two, the most frequent one: several times as fast.

All that is kept of the settings is one array, the *book*: a row for each quantity, a column for each setting. How many
columns there are is known when the code is compiled, so the compiler sees that no two rows overlap, and a single
loop, all of it in vector registers, takes a request from the scores to the queue. Of two models only the served one's
mean moves, and by the automatic scale the costlier one's cost is exactly 1: two divisions are left of four. All is
float64, with the results of `messplus`: every decision is the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

from messctl.learning.compiled import compiled
from messctl.policies.base import Floats

WIDTHS = (32, 128)
"""For so many settings at a time code is compiled; a book that is not full is padded."""

BLOCK = WIDTHS[-1]
"""So many settings at a time, at most."""

# The book's rows. Of the counts of observed costs the first model's is kept; together they are known.
V, ALPHA, QUEUE, MEAN_0, MEAN_1, COUNT_0, GOOD, PAID, ROWS = range(9)

Flags = npt.NDArray[np.bool_]
Served = npt.NDArray[np.int16]


def recurse_pair(
    settings: tuple[Floats, Floats],
    reference: int,
    arrivals: tuple[Flags, npt.NDArray[np.int64]],
    outcomes: tuple[Floats, Floats],
    foreseen: tuple[Flags, Floats],
    sums: tuple[Floats, Floats, Floats],
    served: Served,
) -> None:
    """Do what `recurse` does, for two models, costs by the automatic scale, and feedback without delay.

    `settings` are α and V, at most BLOCK of them.
    """
    alpha, v = settings
    good, paid, queue = sums
    many = len(v)
    width = next(width for width in WIDTHS if width >= many)
    book = np.zeros((ROWS, width))
    book[V, :many], book[ALPHA, :many] = v, alpha
    totals = np.zeros((2, len(good), width))
    kept = np.empty((len(served), width), dtype=np.int16)
    _along(width)(book.ravel(), reference, arrivals, outcomes, foreseen, totals, kept)
    queue[:] = book[QUEUE, :many]
    good[:], paid[:] = totals[:, :, :many]
    served[:] = kept[:, :many]


@cache
def _along(width: int) -> Callable[..., None]:
    """Return the loop over requests for a book of this width."""

    @compiled
    def along(
        book: Floats,
        reference: int,
        arrivals: tuple[Flags, npt.NDArray[np.int64]],
        outcomes: tuple[Floats, Floats],
        foreseen: tuple[Flags, Floats],
        totals: Floats,
        served: Served,
    ) -> None:
        has_feedback, part = arrivals
        satisfied, cost = outcomes
        explored, predicted = foreseen
        sums = book[GOOD * width : (PAID + 1) * width]
        before = np.empty(width)
        seen, now = 0.0, 0
        for t in range(len(has_feedback)):
            if part[t] != now:
                _turn(sums, totals, width, now, part[t])
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
        _turn(sums, totals, width, now, now)

    return along


# Called with a width that is a constant, each of these becomes part of the loop above, and its rows' places constants.


@compiled
def _turn(sums: Floats, totals: Floats, width: int, old: int, new: int) -> None:
    """Put the sums of one part of the trace aside, and go on with those of another."""
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
    """Choose as `messplus.exploit`, pay as `costs.observe`, hear as `virtual_queue.advance`, under every setting."""
    for s in range(width):
        v, alpha, queue = book[V * width + s], book[ALPHA * width + s], book[QUEUE * width + s]
        mean_0, mean_1, count_0 = book[MEAN_0 * width + s], book[MEAN_1 * width + s], book[COUNT_0 * width + s]
        first_is_dearer = mean_0 > mean_1
        dear, cheap = (mean_0, mean_1) if first_is_dearer else (mean_1, mean_0)
        # dear / dear is 1; where nothing has cost anything, all are free.
        dear_term = v if dear > 0.0 else 0.0
        cheap_term = v * (cheap / (dear if dear > 0.0 else 1.0))
        score_0 = (dear_term if first_is_dearer else cheap_term) + queue * (alpha - predicted[0])
        score_1 = (cheap_term if first_is_dearer else dear_term) + queue * (alpha - predicted[1])
        second = (score_1 < score_0) | ((score_1 == score_0) & (mean_1 < mean_0))
        price = cost[1] if second else cost[0]
        judged = satisfied[1] if second else satisfied[0]
        count = (seen - count_0 if second else count_0) + 1.0
        mean = mean_1 if second else mean_0
        mean = mean + (price - mean) / count
        book[MEAN_0 * width + s] = mean_0 if second else mean
        book[MEAN_1 * width + s] = mean if second else mean_1
        book[COUNT_0 * width + s] = count_0 if second else count
        book[PAID * width + s] += price
        debt = queue + alpha - judged
        debt = debt if debt > 0.0 else 0.0
        book[QUEUE * width + s] = debt if has_feedback else queue
        book[GOOD * width + s] += judged if has_feedback else 0.0


@compiled
def _explore(
    book: Floats, width: int, seen: float, cost: tuple[float, float], judged: float, has_feedback: bool
) -> None:
    """Pay for both models and take both costs into their means; `judged` is the reference's satisfaction."""
    total = cost[0] + cost[1]
    for s in range(width):
        count_0 = book[COUNT_0 * width + s]
        mean_0, mean_1 = book[MEAN_0 * width + s], book[MEAN_1 * width + s]
        book[MEAN_0 * width + s] = mean_0 + (cost[0] - mean_0) / (count_0 + 1.0)
        book[MEAN_1 * width + s] = mean_1 + (cost[1] - mean_1) / (seen - count_0 + 1.0)
        book[COUNT_0 * width + s] = count_0 + 1.0
        book[PAID * width + s] += total
        queue = book[QUEUE * width + s]
        debt = queue + book[ALPHA * width + s] - judged
        debt = debt if debt > 0.0 else 0.0
        book[QUEUE * width + s] = debt if has_feedback else queue
        book[GOOD * width + s] += judged if has_feedback else 0.0
