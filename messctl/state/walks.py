"""What a block of feedback does to the virtual queue: walked step by step, or shifted from a walk that is known.

If the debt only grew, a corrected queue runs beside the stored one, and mostly at one distance: as long as both stay
between the same two powers of two, each step adds the same to both, since floats are evenly spaced there and nothing is
cut off at 0. A block that is known to be like that is not walked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FRACTION = 52
"""The bits of a float below its exponent."""
NONE = -9999
"""No exponent of a float."""

WALK = 3
"""The numbers of a walk: the queue after a block, and the range of all sums on the way.

The range is 0.0 to 0.0 unless a queue at another distance would take the same way at that distance, as long as its
range ends between the same powers of two. Each addition then rounds by the same amount in both.
"""

Numbers = npt.NDArray[np.float64]
"""A block of packed steps, two numbers each: α, and the satisfaction with its sign turned. Or walks."""


def walked(queue: float, blocks: Sequence[Numbers]) -> Numbers:
    """Return what k blocks of n steps, (2 n) each, do to a queue one after the other, (k, 3): a walk for each block.

    A step is α, then the satisfaction with its sign turned.
    """
    walks, done = np.zeros((len(blocks), WALK)), 0
    while done < len(blocks):
        path = np.concatenate(((queue,), *blocks[done:]))  # the only copy
        np.add.accumulate(path, out=path)
        sums, before = path[1:].reshape(len(blocks) - done, -1), path[: -1 : len(blocks[done])]
        low, high = np.minimum(sums.min(1), before), np.maximum(sums.max(1), before)
        # As long as nothing is cut off at 0, the recursion is this sum, addition by addition.
        whole = int((low < 0.0).argmax()) if low.min() < 0.0 else len(low)
        walks[done : done + whole, 0] = sums[:whole, -1]
        for at in np.flatnonzero(_exponents(low[:whole], high[:whole]) != NONE).tolist():
            if _evenly_spaced(low[at], blocks[done + at]):
                walks[done + at, 1:] = low[at], high[at]
        done += whole
        if done < len(blocks):
            queue = float(before[whole])
            for alpha, less in blocks[done].reshape(-1, 2).tolist():
                queue = max(0.0, queue + alpha + less)
            walks[done, 0] = queue
            done += 1
    return walks


def shifted(walks: Numbers, by: float) -> Numbers:
    """Return the first few of k walks, (k, 3), from a queue that is larger by this much.

    They end before the first walk that may not be the same at this distance.
    """
    moved = walks + by
    exponents, others = _exponents(walks[:, 1], walks[:, 2]), _exponents(moved[:, 1], moved[:, 2])
    same = (exponents == others) & (exponents != NONE)
    return moved if same.all() else moved[: int(same.argmin())]


def _exponents(low: Numbers, high: Numbers) -> npt.NDArray[np.int64]:
    """Return, for k ranges, between which two powers of two it lies, as a number for these; NONE if between none.

    Both powers are left out. A sum just below a power of two is rounded to finer floats than one just above it.
    """
    first, last = low.view(np.int64), high.view(np.int64)
    exponents: npt.NDArray[np.int64] = first >> FRACTION
    alike = (exponents == last >> FRACTION) & (first & ((1 << FRACTION) - 1) != 0)
    return np.where(alike, exponents, NONE)


def _evenly_spaced(low: float, steps: Numbers) -> bool:
    """Return whether no step lies halfway between two floats, spaced as they are at `low`, where sums are above 1.

    What lies halfway is rounded to the even one of the two, so it depends on where the queue is.
    """
    in_spacings = steps / math.ulp(low)
    return low >= 1.0 and not (np.abs(in_spacings - np.trunc(in_spacings)) == 0.5).any()
