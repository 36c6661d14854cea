"""Random streams: the named random number generators behind one seed.

Each use of chance has a stream of its own. So two settings that are compared under one seed see the same coin flips,
and more use of one stream never shifts another.
"""

from __future__ import annotations

import zlib
from typing import Literal

import numpy as np

Stream = Literal["exploration", "feedback", "lottery", "shuffle"]


def stream(seed: int, name: Stream) -> np.random.Generator:
    """Return the generator `name` of `seed` ≥ 0. It gives the same numbers on every machine."""
    key = zlib.crc32(name.encode())
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(key,))))
