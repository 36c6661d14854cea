"""Mean costs: a running mean of each model's costs, and the scale that makes V free of units."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from messctl.learning.compiled import compiled

AUTO_SCALE = 0.0
"""A scale that stands for the running mean of the costliest model."""


@compiled
def observe(mean_cost: npt.NDArray[np.float64], count: npt.NDArray[np.int64], model: int, cost: float) -> None:
    """Add one observed cost of `model` to its running mean, in place; `mean_cost` and `count` are (M,).

    In this incremental form the mean of equal costs is exactly that cost, so that equal models stay equal and a tie
    stays a tie. A model without any cost has the mean 0: it looks free, and so gets tried.
    """
    count[model] += 1
    mean_cost[model] += (cost - mean_cost[model]) / count[model]


@compiled
def scale_of(mean_cost: npt.NDArray[np.float64], fixed_scale: float) -> float:
    """Return what costs are divided by before V weighs them: > 0.

    It is `fixed_scale` if that is set, otherwise the largest running mean; 1 while all means are 0.
    """
    if fixed_scale > 0.0:
        return fixed_scale
    largest = mean_cost.max()
    return largest if largest > 0.0 else 1.0
