"""Blocks of feedback as the store packs them: what a correction of the virtual queue has to read, in few bytes.

A packed block holds the satisfactions with their sign turned, then the α aimed at: one number if it is the same for
all, as it mostly is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby

import numpy as np

from messctl.state.columns import shown
from messctl.state.walks import Numbers

Step = tuple[int, float, float]
"""A feedback: its place, the α aimed at, and the satisfaction."""
WORD = 8
"""The bytes of a number."""


def block_of(steps: Iterable[Step]) -> Numbers:
    """Return n steps as one array, (2 n): α, then the satisfaction with its sign turned."""
    return np.array([(alpha, -satisfied) for _, alpha, satisfied in steps], np.float64).reshape(-1)


def packed(block: Numbers) -> bytes:
    """Return a block, (2 n), as it is stored."""
    alpha, less = block[0::2], block[1::2]
    kept = alpha[:1] if (alpha == alpha[0]).all() else alpha
    return np.concatenate((less, kept)).astype("<f8").tobytes()


def unpacked(rows: Mapping[int, bytes], size: int) -> dict[int, Numbers]:
    """Return packed blocks of n = `size` steps each, (2 n), by the place of the last feedback in each.

    Raises ValueError for what is none.
    """
    blocks, done = np.empty((len(rows), 2 * size)), 0
    for length, alike in groupby(rows, lambda last: len(rows[last])):
        places = list(alike)
        if length not in (WORD * (size + 1), WORD * 2 * size):
            raise ValueError(f"the packed steps up to feedback {shown(places[0])} have {length} bytes")
        numbers = np.frombuffer(b"".join([rows[last] for last in places]), "<f8").reshape(-1, length // WORD)
        some = blocks[done : done + len(numbers)]
        some[:, 0::2], some[:, 1::2] = numbers[:, size:], numbers[:, :size]
        done += len(numbers)
    for last, sound in zip(rows, (blocks.min(1) >= -1.0) & (blocks.max(1) <= 1.0), strict=True):
        if not sound:
            raise ValueError(f"the packed steps up to feedback {shown(last)} hold what is no satisfaction, or no α")
    return dict(zip(rows, blocks, strict=True))
