"""Windows: the parts into which a trace is divided, and the unions of them on which a setting is measured.

The selection requests are divided into stretches. A window is a run of stretches as long as the held-out part, so that
each window is a rehearsal of it: a setting may do there what it does in its worst window.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from messctl.policies import Rounds
from messctl.policies.base import Floats
from messctl.replay.holdout import Holdout

STRETCHES = 7
PARTS = STRETCHES + 1
"""The number of parts: the stretches, and the held-out part."""

SELECTION, HELD_OUT, WHOLE, WINDOWS = range(4)
"""Rows of what `means` returns: the selection requests, those held out, all; the windows from WINDOWS on."""

Parts = npt.NDArray[np.int64]


def parts(is_held_out: npt.NDArray[np.bool_]) -> Parts:
    """Return the part of each request, (n,), by arrival: its stretch from 0, or STRETCHES if it is held out."""
    others = np.flatnonzero(~is_held_out)
    part = np.full(len(is_held_out), STRETCHES)
    part[others] = np.arange(len(others)) * STRETCHES // max(1, len(others))
    return part


def windows(holdout: Holdout) -> list[list[int]]:
    """Return the stretches of each window."""
    length = min(STRETCHES, max(1, round(holdout.share / (1 - holdout.share) * STRETCHES)))
    return [list(range(first, first + length)) for first in range(STRETCHES - length + 1)]


def rows(holdout: Holdout) -> int:
    """Return the number of rows that `means` returns."""
    return WINDOWS + len(windows(holdout))


def means(sums: Floats, counts: npt.NDArray[np.int64], holdout: Holdout) -> Floats:
    """Return the mean of every row, (rows, …), from sums and counts by part (PARTS, …); 0 if a row counts nothing."""
    selection = list(range(STRETCHES))
    unions = (selection, [STRETCHES], [*selection, STRETCHES], *windows(holdout))
    return np.stack([sums[union].sum(axis=0) / max(1, counts[union].sum()) for union in unions])


def best_single(rounds: Rounds, part: Parts, holdout: Holdout) -> Floats:
    """Return the attainment of the best single model on every row, (rows,), over the requests with feedback."""
    part, satisfied = part[rounds.has_feedback], rounds.satisfied[rounds.order[rounds.has_feedback]]
    sums = np.stack([np.bincount(part, column, minlength=PARTS) for column in satisfied.T], axis=1).astype(np.float64)
    best: Floats = means(sums, np.bincount(part, minlength=PARTS), holdout).max(axis=1)
    return best
