"""Coins: the named streams of randomness behind one seed.

Every use of chance draws from a stream of its own (exploration, feedback, shuffle), so that two settings compared
under one seed see the same flips, and using one stream more never shifts another.
"""

from __future__ import annotations

import zlib
from typing import Literal

import numpy as np

Stream = Literal["exploration", "feedback", "lottery", "shuffle"]


def stream(seed: int, name: Stream) -> np.random.Generator:
    """Return the generator `name` of `seed` (≥ 0): the same numbers on every machine."""
    key = zlib.crc32(name.encode())
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(key,))))
