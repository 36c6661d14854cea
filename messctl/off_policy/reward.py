"""The reward model: the expected satisfaction and cost of every model on each logged request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from messctl.learning.cross_fit import cross_fitted
from messctl.off_policy.log import Log
from messctl.policies.base import Floats


@dataclass(frozen=True, slots=True)
class RewardModel:
    """The expected satisfaction (0..1; NaN if the log has no feedback) and cost of every model, (n, models)."""

    satisfied: Floats
    cost: Floats

    @classmethod
    def of(cls, log: Log) -> Self:
        """Fit the model on the log; each row is predicted from other rows only.

        An answer that was shown because it was believed more than others tells too much good of its model. So only
        answers of models that were asked alone count, if there are any.
        """
        models, counted = len(log.zoo.models), log.alone if log.alone.any() else ~log.alone
        return cls(
            *(
                cross_fitted(log.features, log.served, np.where(counted, value, np.nan), models)
                for value in (log.satisfied, log.cost)
            )
        )

    def corrected(self, log: Log) -> tuple[Floats, Floats]:
        """Return satisfaction and cost, corrected by the observed values: their column means are doubly robust.

        The satisfaction of a row without feedback is NaN.
        """
        rows = np.arange(len(log))
        corrected = []
        for expected, value in ((self.satisfied, log.satisfied), (self.cost, log.cost)):
            table = np.where(np.isnan(value)[:, None], np.nan, expected)
            error = (value - expected[rows, log.served]) / log.propensity
            table[rows, log.served] += np.where(log.alone, error, 0.0)
            corrected.append(table)
        return corrected[0], corrected[1]
