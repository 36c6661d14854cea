"""What each model costs: a running mean of what was paid, and the scale that makes V free of units."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from messctl.learning.compiled import compiled

AUTO_SCALE = 0.0
"""Stands for "divide by the costliest model's running mean" where compiled code takes a scale."""


@compiled
def observe(mean_cost: npt.NDArray[np.float64], count: npt.NDArray[np.int64], model: int, cost: float) -> None:
    """Take one observed cost of `model` into its running mean, in place.

    In the incremental form the mean of equal costs is that very cost, so that equal models stay equal and a
    tie is a tie. A model not observed yet (`count` 0) has the mean 0: it looks free, and so gets tried.
    """
    count[model] += 1
    mean_cost[model] += (cost - mean_cost[model]) / count[model]


@compiled
def scale_of(mean_cost: npt.NDArray[np.float64], fixed_scale: float) -> float:
    """Return what costs are divided by before V weighs them: > 0.

    `fixed_scale` where it is set, or else the largest running mean; 1 while nothing has cost anything.
    """
    if fixed_scale > 0.0:
        return fixed_scale
    largest = mean_cost.max()
    return largest if largest > 0.0 else 1.0
