"""The frontier of cost against satisfaction: the least cost of every level of satisfaction, knowing all outcomes.

Three yardsticks use this computation. Each request offers M points (cost, satisfaction). Its efficient points form a
convex chain that starts at the cheapest one. Each link of the chain buys satisfaction at a price, the slope. Taking
links of all requests in order of price gives the least total cost of every level of satisfaction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from messctl.learning.compiled import compiled_loop


@dataclass(frozen=True, slots=True)
class Chain:
    """The links of all rows, in order of price: link k moves `row[k]` to `model[k]` from `before[k]`.

    `start` (rows,) is each row's cheapest model; `price` is cost per unit of satisfaction.
    """

    start: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    before: npt.NDArray[np.int64]
    model: npt.NDArray[np.int64]
    price: npt.NDArray[np.float64]

    def after(self, links: int) -> npt.NDArray[np.int64]:
        """Return each row's model, (rows,), once the first `links` links are taken."""
        choice = self.start.copy()
        # Prices rise along a row's chain, so its last link taken is its dearest, and comes last here.
        choice[self.row[:links]] = self.model[:links]
        return choice


def chain(cost: npt.NDArray[np.float64], satisfied: npt.NDArray[np.float64]) -> Chain:
    """Return the links of all rows' convex chains; `cost` and `satisfied` are (rows, models)."""
    start, row, before, model, price = _links(cost, satisfied)
    order = np.argsort(price, kind="stable")
    return Chain(start, row[order], before[order], model[order], price[order])


def cheapest_mixture(
    cost: npt.NDArray[np.float64], satisfied: npt.NDArray[np.float64], alpha: float
) -> npt.NDArray[np.float64]:
    """Return the lottery (rows, models) of least expected cost whose mean satisfaction is at least `alpha`.

    This is the optimum of the linear program: one model serves each row for certain, except at most one row, which
    mixes two. If `alpha` is out of reach, the lottery attains as much as possible.
    """
    rows = np.arange(len(cost))
    links = chain(cost, satisfied)
    gain = satisfied[links.row, links.model] - satisfied[links.row, links.before]
    lacking = alpha * len(cost) - satisfied[rows, links.start].sum()
    bought = np.cumsum(gain)
    taken = int(np.searchsorted(bought, lacking - 1e-12)) if lacking > 0 else -1
    lottery = np.zeros_like(cost)
    lottery[rows, links.after(min(taken + 1, len(gain)))] = 1.0
    if 0 <= taken < len(gain):
        over = (bought[taken] - lacking) / gain[taken]
        if over > 1e-12:
            row = links.row[taken]
            lottery[row, links.model[taken]] = 1.0 - over
            lottery[row, links.before[taken]] += over
    return lottery


@compiled_loop
def _links(
    cost: npt.NDArray[np.float64], satisfied: npt.NDArray[np.float64]
) -> tuple[
    npt.NDArray[np.int64],
    npt.NDArray[np.int64],
    npt.NDArray[np.int64],
    npt.NDArray[np.int64],
    npt.NDArray[np.float64],
]:
    rows, models = cost.shape
    start = np.empty(rows, dtype=np.int64)
    row_of = np.empty(rows * models, dtype=np.int64)
    before = np.empty(rows * models, dtype=np.int64)
    model_of = np.empty(rows * models, dtype=np.int64)
    price_of = np.empty(rows * models, dtype=np.float64)
    at = 0
    for row in range(rows):
        current = 0
        for model in range(1, models):
            cheaper = cost[row, model] < cost[row, current]
            same = cost[row, model] == cost[row, current]
            if cheaper or (same and satisfied[row, model] > satisfied[row, current]):
                current = model
        start[row] = current
        while True:
            best = -1
            price = np.inf
            for model in range(models):
                gain = satisfied[row, model] - satisfied[row, current]
                if gain > 0.0:
                    slope = (cost[row, model] - cost[row, current]) / gain
                    further = best >= 0 and slope == price and satisfied[row, model] > satisfied[row, best]
                    if slope < price or further:
                        best = model
                        price = slope
            if best < 0:
                break
            row_of[at] = row
            before[at] = current
            model_of[at] = best
            # Rounding must not let a chain's later link look cheaper than the one it hangs on.
            price_of[at] = price if at == 0 or row_of[at - 1] != row else max(price, price_of[at - 1])
            at += 1
            current = best
    return start, row_of[:at], before[:at], model_of[:at], price_of[:at]
