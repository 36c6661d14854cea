"""Facts about a trace: what results and reports need to know, however the trace was read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from messctl.policies import Rounds
from messctl.policies.base import Floats
from messctl.zoo import Zoo


@dataclass(frozen=True, slots=True)
class TraceFacts:
    """What is known about a trace as a whole.

    `requests` is the number of rows that can be played, and `left_out` the number of rows that cannot: an outcome or a
    cost is missing. `lacking` counts these rows by model. A `partial` trace is a live log, which knows only the models
    that were queried. `cost_unit` is the unit of all costs. `mean_cost` (≥ 0) and `mean_satisfied` (0..1) are
    (models,), with NaN for a model that was never observed. `reach` (0..1) is the highest attainment possible, that of
    a policy that knows all outcomes; it is NaN for a partial trace.
    """

    path: Path
    cost_unit: str
    zoo: Zoo
    requests: int
    left_out: int
    lacking: tuple[int, ...]
    partial: bool
    mean_cost: Floats
    mean_satisfied: Floats
    reach: float

    @classmethod
    def of(
        cls, path: Path, cost_unit: str, rounds: Rounds, left_out: int, lacking: tuple[int, ...], partial: bool
    ) -> TraceFacts:
        """Compute the facts from the rounds in memory."""
        return cls(
            path=path,
            cost_unit=cost_unit,
            zoo=rounds.zoo,
            requests=len(rounds),
            left_out=left_out,
            lacking=lacking,
            partial=partial,
            mean_cost=observed_mean(rounds.cost),
            mean_satisfied=observed_mean(rounds.satisfied),
            reach=np.nan if partial else float(rounds.satisfied.max(axis=1).mean()),
        )

    @property
    def scarcest(self) -> str | None:
        """The model that most rows lack, if these are more than half of all rows; else None."""
        most = max(self.lacking, default=0)
        if self.partial or 2 * most <= self.requests + self.left_out:
            return None
        return self.zoo.models[self.lacking.index(most)]


def observed_mean(table: Floats) -> Floats:
    """Return the mean of each column of (n, models) over its observed values; NaN for a column without any."""
    observed = ~np.isnan(table)
    return np.where(observed, table, 0.0).sum(axis=0) / np.where(observed.any(axis=0), observed.sum(axis=0), np.nan)
