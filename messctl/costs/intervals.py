"""Estimates with 95 % confidence intervals, from few measurements on a machine that does other things, too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimated value, and half the width of its 95 % confidence interval, in the same unit; inf: unknown.

    scale: what the width is compared with; None: the value itself.
    """

    value: float
    half: float
    scale: float | None = None

    @property
    def share(self) -> float:
        """Half the width of the interval as a share of the value, or of the scale; inf if that is not above 0."""
        whole = self.value if self.scale is None else self.scale
        return self.half / whole if whole > 0.0 else math.inf

    def meets(self, other: Estimate) -> bool:
        """Return whether the two intervals have a value in common."""
        return abs(self.value - other.value) <= self.half + other.half


def jackknife(without: npt.NDArray[np.float64]) -> list[float]:
    """Return half the width of the interval of each number that was estimated from rounds of measurements.

    without: (rounds, numbers), the estimates without each of the rounds. A round may hold several measurements that the
    same disturbance has changed, and the noise may be of any kind. Returns inf for fewer than two rounds. Source: Efron
    and Stein, "The jackknife estimate of variance", 1981.
    """
    count = len(without)
    if count < 2:
        return [math.inf] * without.shape[1]
    variance = (count - 1) / count * ((without - without.mean(axis=0)) ** 2).sum(axis=0)
    return [float(half) for half in _student(count - 1) * np.sqrt(variance)]


def median(values: Sequence[float]) -> Estimate:
    """Return the median of at least one value.

    With six values or more the interval is between two of them, whatever their distribution is. With fewer it is that
    of the mean of normal values, which is wider.
    """
    ordered, count = sorted(values), len(values)
    middle = float(np.median(ordered))
    rank = _rank(count)
    if rank:
        return Estimate(middle, max(ordered[count - rank] - middle, middle - ordered[rank - 1]))
    if count < 2:
        return Estimate(middle, math.inf)
    return Estimate(middle, _student(count - 1) * float(np.std(ordered, ddof=1)) / math.sqrt(count))


def _rank(count: int) -> int:
    """Return the largest rank r for which the median is between the r-th least and r-th largest value, at 95 %.

    0 if there is none. The number of values below the median is binomial, with probability 1/2.
    """
    rank, below = 0, 0.0
    while rank < count:
        below += math.comb(count, rank) / 2**count
        if 2 * below > 1 - CONFIDENCE:
            break
        rank += 1
    return rank


def _student(freedom: int) -> float:
    """Return the quantile of Student's distribution for a two-sided interval."""
    from scipy.special import stdtrit  # noqa: PLC0415  # needed here only

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
