"""The agreement: how likely two wrong answers, or two right ones, are equal.

Two wrong letters out of four are often equal, two wrong numbers seldom. So both probabilities depend on the prompt:
they are σ(v·z), each learned as a Kalman filter for a logit.
"""

from __future__ import annotations

import numpy as np

from messctl.learning.compiled import compiled
from messctl.policies.bandit.linear import dot, gain, shrink
from messctl.policies.base import Floats
from messctl.policies.cascade.beliefs import EQUAL, PAIRS, RIGHT, WRONG, Beliefs, sigmoid
from messctl.policies.cascade.difficulty import STEPS, Asked, Places, is_repeated
from messctl.policies.cascade.tuning import Tuning

LEAST_INFORMATION = 1e-4
"""A step of a filter uses at least this, so that its covariance stays sound."""


@compiled
def agree(beliefs: Beliefs, kind: int, wide: Floats) -> float:
    """Return how likely two answers of a `kind` are equal, within 0.001..0.999."""
    return min(0.999, max(0.001, sigmoid(dot(beliefs.agree_weight[kind], wide))))


@compiled
def are_scarce(beliefs: Beliefs, tuning: Tuning) -> bool:
    """Tell whether equal answers are too scarce to count on, as in code: so they seem after `pairs` unequal ones."""
    return beliefs.tally[EQUAL] <= tuning.scarce * (beliefs.tally[PAIRS] - tuning.pairs)


@compiled
def count_pairs(beliefs: Beliefs, group: Places, count: int) -> None:
    """Count the pairs among `count` answers to one request; equal ones share a `group` (MOST,)."""
    for at in range(count):
        for earlier in range(at):
            beliefs.tally[PAIRS] += 1.0
            if group[earlier] == group[at]:
                beliefs.tally[EQUAL] += 1.0


@compiled
def step(weight: Floats, covariance: Floats, wide: Floats, gradient: float, information: float) -> None:
    """Move the weight of a logit by a step of its Kalman filter, in place."""
    known = max(LEAST_INFORMATION, information)
    gained = np.empty(len(wide))
    gain(covariance, wide, gained)
    scale = 1.0 + known * dot(gained, wide)
    for at in range(len(wide)):
        weight[at] += gained[at] * gradient / scale
    shrink(covariance, gained, scale / known)


@compiled
def learn_agreement(beliefs: Beliefs, asked: Asked, count: int, cases: Floats, wide: Floats) -> None:
    """Learn from the groups of `count` ≥ 2 answers; `cases` (2^MOST, STEPS) says which are likely to be right."""
    for kind in (WRONG, RIGHT):
        rate = agree(beliefs, kind, wide)
        mean, square, trials = 0.0, 0.0, 0.0
        for right in range(1 << count):
            chance = 0.0
            for at in range(STEPS):
                chance += cases[right, at]
            before, moved = 0, 0.0
            for at in range(count):
                if (right >> at) & 1 != kind:
                    continue
                if before > 0:
                    trials += chance
                    moved += (1.0 if is_repeated(asked, at) else 0.0) - rate
                before += 1
            mean += chance * moved
            square += chance * moved * moved
        information = trials * rate * (1.0 - rate) - (square - mean * mean)
        step(beliefs.agree_weight[kind], beliefs.agree_covariance[kind], wide, mean, information)
