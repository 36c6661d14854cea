"""A prompt as `bandit` sees it: z, of a constant, the hashed words folded, and the properties."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from messctl.learning.compiled import compiled
from messctl.learning.features import WORDS, Features
from messctl.policies.base import Floats

BUCKETS = 64
"""The encoder's word buckets are folded into this many."""
PROPERTIES = 8
TYPICAL = np.array([0.6, 0.1, 0.1, 0.15, 0.2, 0.0, 0.3, 0.5])
"""What the properties are of a common prompt; subtracted, so that the constant stands for the mean."""


def features_of(features: Features) -> Floats:
    """Return z of a single row of features, (1 + BUCKETS + PROPERTIES,)."""
    z = np.empty(1 + BUCKETS + PROPERTIES)
    reduce(features.indices, features.values, z)
    return z


@compiled
def reduce(indices: npt.NDArray[np.int32], values: npt.NDArray[np.float32], z: Floats) -> None:
    """Write z of one sparse row: 1, the words folded, the properties less what is typical."""
    z[0] = 1.0
    z[1 : 1 + BUCKETS] = 0.0
    for index in range(PROPERTIES):
        z[1 + BUCKETS + index] = -TYPICAL[index]
    for at in range(len(indices)):
        index = indices[at]
        if index < WORDS:
            z[1 + index % BUCKETS] += np.float64(values[at])
        else:
            z[1 + BUCKETS + index - WORDS] += np.float64(values[at])
