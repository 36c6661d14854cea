"""A line of costs, or of seconds, fitted to rounds of measurements, with the confidence intervals of its parts.

Each round measures the same lengths once. What disturbs the machine for some seconds changes many measurements of one
round, so the intervals come from the differences between rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from messctl.costs.cost_line import Line
from messctl.costs.intervals import Estimate, jackknife

_ROUNDING = 1e-9
"""A cost per request below this share of a whole request is an error of rounding."""
Point = tuple[float, float, float]
"""Tokens in, tokens out, and the value of one request, > 0."""


@dataclass(frozen=True, slots=True)
class MeasuredLine:
    """A fitted line and its parts, each ≥ 0: per request (`fixed`), per `prompt` token, per `generated` token.

    The width of `fixed` is compared with the mean value of the requests that were measured.
    """

    line: Line
    fixed: Estimate
    prompt: Estimate
    generated: Estimate

    @classmethod
    def fitted(cls, rounds: Sequence[Sequence[Point]]) -> MeasuredLine:
        """Fit a line to rounds of points, at least one. Raises UsageError if a value is not > 0."""
        points = np.array([point for each in rounds for point in each], dtype=np.float64)
        line = Line.fitted(points[:, :2], points[:, 2])
        fixed, prompt, generated = jackknife(_without_each(rounds))
        typical = float(points[:, 2].mean())
        return cls(
            line,
            Estimate(line.fixed if line.fixed > typical * _ROUNDING else 0.0, fixed, typical),
            Estimate(line.prompt, prompt),
            Estimate(line.generated, generated),
        )


def _without_each(rounds: Sequence[Sequence[Point]]) -> npt.NDArray[np.float64]:
    """Return the parts of the line without each round, (rounds, 3), by least squares on relative residuals.

    They may be below 0, unlike `Line`'s. A part that the noise drives below 0 would not vary if it were held at 0, and
    its interval would be too narrow.
    """
    designs = []
    for each in rounds:
        points = np.array(each, dtype=np.float64)
        designs.append(np.column_stack([np.ones(len(points)), points[:, :2]]) / points[:, 2:])
    size = np.sqrt(sum((design**2).sum(axis=0) for design in designs))
    squares = np.array([(design / size).T @ (design / size) for design in designs])
    sums = np.array([(design / size).sum(axis=0) for design in designs])
    squares, sums = squares.sum(axis=0) - squares, sums.sum(axis=0) - sums
    found = np.linalg.pinv(squares, hermitian=True) @ sums[:, :, None]
    return np.asarray(found[:, :, 0] / size, dtype=np.float64)
