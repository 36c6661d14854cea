"""The constants of the bandit. One setting is meant for every zoo; tests and benchmarks vary single constants.

They were chosen on worlds drawn at random, before any trace was looked at. Each line holds a constant's name, its
value, its unit in brackets, and one reason. The table in docs/bandit.md is a copy of these lines. A balance and a
reserve are counted in answers: one unit is the difference between a satisfying and an unsatisfying answer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from messctl.learning.compiled import compiled
from messctl.policies.base import Floats


class Tuning(NamedTuple):
    """All constants of the algorithm."""

    prior: float = 8.0  # [answers] a model is thought to be as good as the promise, as if by this many answers
    trust: float = 20.0  # [answers] the reference starts with this many more
    hope: float = 0.4  # [share of 1 − α] those of the reference are this far above α
    memory: float = 1000.0  # [answers] of a model, after which its older answers and costs have faded to 1/e
    idle_memory: float = 10000.0  # [answers] the same by answers of other models; all answers so far if that is more
    shared_ridge: float = 16.0  # [answers] penalty on the prompt's weights that all models share
    own_ridge: float = 32.0  # [answers] penalty on a model's own weights
    cost_ridge: float = 0.3  # [answers] penalty on the weights that predict costs: small, since costs have little noise
    cost_range: float = 4.0  # [factor] a predicted cost stays within this factor of the mean, from either side
    chance: float = 0.003  # [probability] bad luck may use up the whole reserve with this probability
    resolution: float = 0.01  # [satisfaction] smaller differences are not told apart
    ramp: float = 300.0  # [answers] in which the reserve is filled to 1 − 1/e
    line: float = 0.5  # [reserves] the guard serves if the balance is this far below the reserve
    trial_rate: float = 0.02  # [probability] of a trial of another model
    trial_cost: float = 4.0  # [times the chosen model's mean cost] a trial never costs more than this


def constants_of(tuning: Tuning) -> Floats:
    """Return all constants as one array, in order: Python passes it to compiled code far faster than a tuple."""
    return np.array(tuning, dtype=np.float64)


@compiled
def tuning_of(c: Floats) -> Tuning:
    """Return the constants by name again: the inverse of `constants_of`."""
    return Tuning(c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8], c[9], c[10], c[11], c[12], c[13], c[14])
