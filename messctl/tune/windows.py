"""Windows: into which parts a trace is divided, and over which of them a setting is judged.

The requests to choose on are divided into stretches. A window is as many in a row as come to the length of what is
held out, so that the windows are rehearsals of it: what a setting does in the worst of them, it may do there.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from messctl.policies import Rounds
from messctl.policies.base import Floats
from messctl.replay.loading import Holdout

STRETCHES = 7
PARTS = STRETCHES + 1
"""The stretches, and what is held out."""

CHOSEN_ON, HELD_OUT, WHOLE, WINDOWS = range(4)
"""Places in what `means` returns: the requests to choose on, those held out, all, and from here on the windows."""

Parts = npt.NDArray[np.int64]


def parts(held: npt.NDArray[np.bool_]) -> Parts:
    """Return the part of each request, by arrival: its stretch, or the last number where it is held out."""
    others = np.flatnonzero(~held)
    part = np.full(len(held), STRETCHES)
    part[others] = np.arange(len(others)) * STRETCHES // max(1, len(others))
    return part


def windows(holdout: Holdout) -> list[list[int]]:
    """Return the stretches of every window."""
    length = min(STRETCHES, max(1, round(holdout.share / (1 - holdout.share) * STRETCHES)))
    return [list(range(first, first + length)) for first in range(STRETCHES - length + 1)]


def rows(holdout: Holdout) -> int:
    """Return how many rows `means` returns."""
    return WINDOWS + len(windows(holdout))


def means(sums: Floats, counts: npt.NDArray[np.int64], holdout: Holdout) -> Floats:
    """Return the means over everything that is judged, (rows, …), of sums by part (PARTS, …); 0 where nothing is."""
    chosen_on = list(range(STRETCHES))
    unions = (chosen_on, [STRETCHES], [*chosen_on, STRETCHES], *windows(holdout))
    return np.stack([sums[union].sum(axis=0) / max(1, counts[union].sum()) for union in unions])


def alone(rounds: Rounds, part: Parts, holdout: Holdout) -> Floats:
    """Return what the best model alone attains on everything that is judged, (rows,), of what gets feedback."""
    has_feedback, satisfied = part[rounds.has_feedback], rounds.satisfied[rounds.order[rounds.has_feedback]]
    sums = np.stack([np.bincount(has_feedback, column, minlength=PARTS) for column in satisfied.T], axis=1).astype(
        np.float64
    )
    best: Floats = means(sums, np.bincount(has_feedback, minlength=PARTS), holdout).max(axis=1)
    return best
