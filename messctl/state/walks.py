"""What a block of feedback does to the virtual queue: walked step by step, or shifted from a walk that is known.

If the debt only grew, a corrected queue runs beside the stored one, and mostly at one distance: as long as both stay
between the same two powers of two, each step adds the same to both, since floats are evenly spaced there and nothing is
cut off at 0. A block that is known to be like that is not walked.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

NONE = -9999
"""No exponent of a float."""

Numbers = npt.NDArray[np.float64]
"""Packed steps, two numbers each: α, and the satisfaction with its sign turned. Or walks, three numbers each."""


class Walk(NamedTuple):
    """What a block of steps does to the queue: the queue after it, and the range of all sums on the way.

    The range is 0.0 to 0.0 unless a queue at another distance would take the same way at that distance, as long as its
    range ends between the same powers of two. Each addition then rounds by the same amount in both.
    """

    queue: float
    low: float
    high: float


def walked(queue: float, steps: Numbers) -> Walk:
    """Return what n steps, (2 n,), do to a queue: each is α, then the satisfaction with its sign turned."""
    path = np.add.accumulate(np.concatenate(([queue], steps)))
    low, high = float(path.min()), float(path.max())
    if low >= 0.0:  # nothing is cut off at 0, so the recursion is this sum, addition by addition
        return Walk(float(path[-1]), *((low, high) if _evenly_spaced(low, high, steps) else (0.0, 0.0)))
    for alpha, less in zip(steps[0::2].tolist(), steps[1::2].tolist(), strict=True):
        queue = max(0.0, queue + alpha + less)
    return Walk(queue, 0.0, 0.0)


def shifted(walks: Numbers, by: float) -> Numbers:
    """Return the first few of k walks, (k, 3), from a queue that is larger by this much.

    They end before the first walk that may not be the same at this distance.
    """
    moved = walks + by
    exponents, others = _exponents(walks[:, 1:]), _exponents(moved[:, 1:])
    same = (exponents == others) & (exponents != NONE)
    return moved if same.all() else moved[: int(same.argmin())]


def _exponents(ranges: Numbers) -> npt.NDArray[np.int32]:
    """Return, for k ranges, (k, 2), the e for which all floats in it lie between 2^(e − 1) and 2^e; NONE without one.

    Both powers are left out. A sum just below a power of two is rounded to finer floats than one just above it.
    """
    mantissa, exponent = np.frexp(ranges)
    exponent[(mantissa[:, 0] <= 0.5) | (exponent[:, 0] != exponent[:, 1]), 0] = NONE
    return exponent[:, 0]


def _evenly_spaced(low: float, high: float, steps: Numbers) -> bool:
    """Return whether all floats from `low` to `high` are evenly spaced, and no step lies halfway between two of them.

    What lies halfway is rounded to the even one of the two, so it depends on where the queue is.
    """
    exponent = int(_exponents(np.array([[low, high]]))[0])
    if exponent == NONE or low < 1.0:
        return False
    in_spacings = steps * 2.0 ** (53 - exponent)
    return not (np.abs(in_spacings - np.trunc(in_spacings)) == 0.5).any()
