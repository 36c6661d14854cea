"""The constants of the cascade, beyond those of the bandit that it stands on.

Each line holds a constant's name, its value, its unit in brackets, and one reason. The table in docs/second-look.md is
a copy of these lines.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from messctl.learning.compiled import compiled
from messctl.policies.base import Floats


class Tuning(NamedTuple):
    """All constants of the second look."""

    spread: float = 2.0  # [logits] standard deviation of how hard requests are, beyond what their prompts tell
    shared_variance: float = 0.36  # [logits²] of the weights that all models share, before anything is learned
    own_variance: float = 0.2  # [logits²] of a model's own weights
    wrong_agree: float = 0.4  # [probability] two wrong answers are equal, before anything is learned
    right_agree: float = 0.95  # [probability] the same of two right answers
    scarce: float = 0.1  # [share of pairs] if fewer answers are equal, agreement is not counted on
    pooled: float = 4.0  # [answers] a model's confidence is thought to tell as much as that of all models, by this many
    pairs: float = 12.0  # [pairs] none of which is equal: then equal answers are called scarce
    unsure: float = 20.0  # [answers] of a model before its confidence is used
    trust: float = 40.0  # [answers] the reference's level is thought to be above α, as if by this many
    doubt: float = 20.0  # [requests] if the best model needs more to pay a debt back, predictions are doubted


def constants_of(tuning: Tuning) -> Floats:
    """Return all constants as one array, in order."""
    return np.array(tuning, dtype=np.float64)


@compiled
def tuning_of(c: Floats) -> Tuning:
    """Return the constants by name again: the inverse of `constants_of`."""
    return Tuning(c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8], c[9], c[10])
