"""The recursion of MESS+ over a grid of V and α for a zoo of two, feedback at once: twice as fast as for any zoo.

Of two models, one is the costliest: its cost divided by the costliest's is 1, and one division is left for both. One
of them is served: one division takes its cost into its mean. The books of all settings lie in one array, at places
that are known when this is compiled, so that the compiler sees that they are apart. The arithmetic, and so every
decision, is that of `messplus` to the last bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from messctl.compiled import compiled
from messctl.policies.base import Floats
from messctl.virtual_queue import advance

BLOCK = 128
"""So many settings at a time; fewer are filled up."""

# Places in the books, each of BLOCK numbers.
ALPHA, V, QUEUE, MEAN_0, MEAN_1, COUNT_0, COUNT_1, PAID, GOOD, BOOKS = (place * BLOCK for place in range(10))


@compiled
def recurse_pair(
    settings: tuple[Floats, Floats],
    reference: int,
    arrivals: tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]],
    outcomes: tuple[Floats, Floats],
    foreseen: tuple[npt.NDArray[np.bool_], Floats],
    sums: tuple[Floats, Floats, Floats],
    served: npt.NDArray[np.int16],
) -> None:
    """Decide every request under at most BLOCK settings; all tables are by arrival. `sums` begin as zeros.

    See `recursion.recurse`; costs are divided by the costliest model's running mean.
    """
    alpha, v = settings
    heard, part = arrivals
    satisfied, cost = outcomes
    explored, predicted = foreseen
    good, paid, queue = sums
    many = len(alpha)
    books, before = np.zeros(BOOKS), np.empty(BLOCK)
    books[ALPHA : ALPHA + many] = alpha
    books[V : V + many] = v
    counted = part[0] if len(part) else 0
    for t in range(len(predicted)):
        if part[t] != counted:
            _turn(books, good[counted], paid[counted], good[part[t]], paid[part[t]])
            counted = part[t]
        if len(served):
            before[:] = books[COUNT_1 : COUNT_1 + BLOCK]
        if explored[t]:
            _explore(books, cost[t, 0], cost[t, 1])
            if heard[t]:
                _hear(books, satisfied[t, reference])
        else:
            _exploit(books, heard[t], predicted[t], cost[t], satisfied[t])
        if len(served):
            for s in range(many):
                served[t, s] = reference if explored[t] else np.int16(books[COUNT_1 + s] - before[s])
    good[counted] = books[GOOD : GOOD + many]
    paid[counted] = books[PAID : PAID + many]
    queue[:] = books[QUEUE : QUEUE + many]


@compiled
def _turn(books: Floats, good: Floats, paid: Floats, next_good: Floats, next_paid: Floats) -> None:
    """Put the sums of one part of the trace away, and go on with those of the next."""
    for s in range(len(good)):
        good[s] = books[GOOD + s]
        paid[s] = books[PAID + s]
        books[GOOD + s] = next_good[s]
        books[PAID + s] = next_paid[s]


@compiled
def _second(v: float, alpha: float, queue: float, mean_0: float, mean_1: float, chances: tuple[float, float]) -> bool:
    """Tell whether the second model serves, as `messplus.exploit` has it."""
    dearer = mean_1 > mean_0
    most, least = (mean_1, mean_0) if dearer else (mean_0, mean_1)
    known = most > 0.0
    ratio, whole = least / (most if known else 1.0), 1.0 if known else 0.0
    share_0, share_1 = (ratio, whole) if dearer else (whole, ratio)
    score_0 = v * share_0 + queue * (alpha - chances[0])
    score_1 = v * share_1 + queue * (alpha - chances[1])
    return (score_1 < score_0) | ((score_1 == score_0) & (mean_1 < mean_0))


# Only what returns a number is a function of its own: a loop that calls what stores is not turned into vectors.


@compiled
def _exploit(books: Floats, heard: bool, predicted: Floats, cost: Floats, satisfied: Floats) -> None:
    """Serve under every setting, pay, and hear where somebody judges."""
    chances = (predicted[0], predicted[1])
    price_0, price_1, value_0, value_1 = cost[0], cost[1], satisfied[0], satisfied[1]
    for s in range(BLOCK):
        alpha, queue = books[ALPHA + s], books[QUEUE + s]
        mean_0, mean_1 = books[MEAN_0 + s], books[MEAN_1 + s]
        count_0, count_1 = books[COUNT_0 + s], books[COUNT_1 + s]
        second = _second(books[V + s], alpha, queue, mean_0, mean_1, chances)
        price = price_1 if second else price_0
        mean = mean_1 if second else mean_0
        more = (count_1 if second else count_0) + 1.0
        moved = mean + (price - mean) / more
        books[MEAN_0 + s] = mean_0 if second else moved
        books[MEAN_1 + s] = moved if second else mean_1
        books[COUNT_0 + s] = count_0 if second else more
        books[COUNT_1 + s] = more if second else count_1
        books[PAID + s] += price
        value = value_1 if second else value_0
        books[QUEUE + s] = advance(queue, alpha, value) if heard else queue
        books[GOOD + s] += value if heard else 0.0


@compiled
def _explore(books: Floats, price_0: float, price_1: float) -> None:
    """Pay for both models."""
    total = 0.0 + price_0 + price_1
    for s in range(BLOCK):
        books[COUNT_0 + s] += 1.0
        books[COUNT_1 + s] += 1.0
        books[MEAN_0 + s] += (price_0 - books[MEAN_0 + s]) / books[COUNT_0 + s]
        books[MEAN_1 + s] += (price_1 - books[MEAN_1 + s]) / books[COUNT_1 + s]
        books[PAID + s] += total


@compiled
def _hear(books: Floats, value: float) -> None:
    """Take the same feedback under every setting."""
    for s in range(BLOCK):
        books[QUEUE + s] = advance(books[QUEUE + s], books[ALPHA + s], value)
        books[GOOD + s] += value
