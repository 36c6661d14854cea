"""What the bandit sees of a prompt: a vector z of folded word buckets and the prompt's properties.

The encoder's word buckets are folded into BUCKETS, since the bandit learns from one answer per request and so from few
answers. The properties are taken relative to a common prompt, TYPICAL, so that z is near 0 for such a one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from messctl.learning.compiled import compiled
from messctl.learning.features import WORDS, Features
from messctl.policies.base import Floats

BUCKETS = 64
"""[features] The encoder's word buckets are folded into these: few, since answers are few."""
PROPERTIES = 8
"""[features] The encoder's properties of a prompt, as its length."""
TYPICAL = np.array([0.6, 0.1, 0.1, 0.15, 0.2, 0.0, 0.3, 0.5])
"""[features] The properties of a common prompt."""


def features_of(features: Features) -> Floats:
    """Return z, (BUCKETS + PROPERTIES,), of a single row of features."""
    z = np.empty(BUCKETS + PROPERTIES)
    fold(features.indices, features.values, z)
    return z


@compiled
def fold(indices: npt.NDArray[np.int32], values: npt.NDArray[np.float32], z: Floats) -> None:
    """Write z of one sparse row: the folded word buckets, and the properties less TYPICAL."""
    z[:BUCKETS] = 0.0
    for index in range(PROPERTIES):
        z[BUCKETS + index] = -TYPICAL[index]
    for at in range(len(indices)):
        index = indices[at]
        if index < WORDS:
            z[index % BUCKETS] += np.float64(values[at])
        else:
            z[BUCKETS + index - WORDS] += np.float64(values[at])
