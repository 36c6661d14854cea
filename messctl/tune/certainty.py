"""Certainty about other prompts: a trace is only a sample of the requests that will come.

A router makes up for bad luck with prompts by its debt, as long as some model is good enough. So what it keeps with
other prompts is limited by what the best single model is sure to attain with them. A single model makes up for nothing.
A bound counts all requests, since each says something about the next, and is
Wilson's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from messctl.policies.base import Floats
from messctl.tune.windows import HELD_OUT, SELECTION, WHOLE

Z = 1.6448536269514722
"""The normal quantile of a one-sided bound with 95 % confidence."""
Z_INTERVAL = 1.959963984540054
"""The normal quantile of an interval with 95 % confidence."""


@dataclass(frozen=True, slots=True)
class Sample:
    """How much the requests of one trace say about others of their kind.

    `outcomes` is, by row of `windows`, the number of independent outcomes that the mean over seeds is worth, and
    `weight` that number for each request of the trace.
    """

    outcomes: tuple[float, float, float]
    weight: float

    @classmethod
    def of(cls, satisfied: Floats, holdout: float, *, rate: float, seeds: int, varies: bool) -> Sample:
        """Return it for `satisfied` (n, models), of which a share `holdout` is held out, and `rate` gets feedback.

        `varies` tells that each of the `seeds` holds out others. Scores between 0 and 1 that vary less than right and
        wrong do count for more.
        """
        n = len(satisfied)
        best = satisfied[:, int(satisfied.mean(axis=0).argmax())]
        mean = float(best.mean())
        most, spread = mean * (1.0 - mean), float(best.var())
        weight = rate * (most / spread if most > 0.0 and spread > 0.0 else 1.0)
        parts = {SELECTION: n * (1.0 - holdout), HELD_OUT: n * holdout, WHOLE: float(n)}
        if varies:  # the seeds together see more of the requests than each alone
            parts = {row: 1.0 / (1.0 / n + (1.0 / size - 1.0 / n) / seeds) for row, size in parts.items()}
        return cls((weight * parts[SELECTION], weight * parts[HELD_OUT], weight * parts[WHOLE]), weight)

    def interval(self, row: int, attained: float) -> tuple[float, float]:
        """Return the 95 % interval of what is attained with other prompts, if so much was attained with these."""
        return _wilson(attained, self.outcomes[row], Z_INTERVAL)

    def bound(self, attained: Floats, best_single: Floats, *, learns: bool, gain: float) -> float:
        """Return what a setting keeps with other prompts, with 95 % confidence.

        `attained` and `best_single` are by seed, over all requests. A router that `learns` is sure of what the best
        model is, and of the `gain` ≥ 0 by which it is surely better than that.
        """
        mean = float((best_single if learns else attained).mean())
        return _wilson(mean, self.outcomes[WHOLE], Z)[0] + (gain if learns else 0.0)

    def needed(self, attained: float, alpha: float) -> int | None:
        """Return how many requests a trace needs to show that α is kept, if `attained` is; None if none suffice."""
        if attained <= alpha:
            return None
        return math.ceil(Z * Z * alpha * (1.0 - alpha) / (attained - alpha) ** 2 / self.weight)


def _wilson(mean: float, n: float, z: float) -> tuple[float, float]:
    """Return Wilson's interval of a mean (0..1) of n > 0 outcomes."""
    mean = float(np.clip(mean, 0.0, 1.0))
    middle = (mean + z * z / (2.0 * n)) / (1.0 + z * z / n)
    half = z / (1.0 + z * z / n) * math.sqrt(mean * (1.0 - mean) / n + z * z / (4.0 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)
