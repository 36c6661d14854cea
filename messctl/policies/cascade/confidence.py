"""The confidence: what an answer's mean log-probability tells, beyond what its prompt leads to expect.

The confidence is u = −ln(−ℓ), for the mean log-probability ℓ of the answer's tokens. A ridge per model says which u a
prompt leads to expect; it needs no feedback. What is left is ranked among the model's recent answers, and the rank is
sorted into one of BINS. A table per model counts right and wrong answers in each bin.
"""

from __future__ import annotations

import math

import numpy as np

from messctl.learning.compiled import compiled
from messctl.policies.bandit.linear import dot, gain, shrink
from messctl.policies.base import Floats
from messctl.policies.cascade.beliefs import BINS, REMEMBERED, RIGHT, WRONG, Beliefs
from messctl.policies.cascade.tuning import Tuning

LEAST = 1e-6
"""[nats per token] A log-probability nearer to 0 counts as this."""
RANKED = 8.0
"""[answers] A rank among fewer tells nothing."""


@compiled
def surprise(beliefs: Beliefs, model: int, wide: Floats, logprob: float) -> float:
    """Return the confidence of an answer beyond what its prompt leads to expect; `logprob` < 0 is its mean."""
    return -math.log(max(LEAST, -logprob)) - dot(beliefs.expected_weight[model], wide)


@compiled
def bin_of(beliefs: Beliefs, model: int, value: float) -> int:
    """Return the bin of a surprise, by its rank among the model's recent ones."""
    remembered = int(min(beliefs.seen[model], float(REMEMBERED)))
    below = 0.0
    for at in range(remembered):
        if beliefs.recent[model, at] < value:
            below += 1.0
        elif beliefs.recent[model, at] == value:
            below += 0.5
    return min(BINS - 1, int(BINS * below / max(1, remembered)))


@compiled
def likelihoods(beliefs: Beliefs, tuning: Tuning, model: int, out: Floats) -> bool:
    """Write how many times likelier each bin is for a WRONG and a RIGHT answer than for any, into `out` (2, BINS).

    Returns False, and leaves `out` alone, if too little is known of the model's confidence.
    """
    if beliefs.seen[model] < tuning.unsure:
        return False
    for kind in range(2):
        total, pool = 0.0, 0.0
        for at in range(BINS):
            # Before anything is known, confidence tells a little: a straight line from bin to bin.
            out[kind, at] = (at + 1.0 if kind == RIGHT else float(BINS - at)) * tuning.pooled / BINS
            for other in range(len(beliefs.table)):
                out[kind, at] += beliefs.table[other, kind, at]
            pool += out[kind, at]
        for at in range(BINS):
            out[kind, at] = beliefs.table[model, kind, at] + tuning.pooled * out[kind, at] / pool
            total += out[kind, at]
        for at in range(BINS):
            out[kind, at] *= BINS / total
    return True


@compiled
def count(beliefs: Beliefs, model: int, at: int, right: float, sure: float) -> None:
    """Count an answer in bin `at` that is `right` with this probability; `sure` in 0..1 is its weight."""
    if beliefs.seen[model] >= RANKED:
        beliefs.table[model, RIGHT, at] += right * sure
        beliefs.table[model, WRONG, at] += (1.0 - right) * sure


@compiled
def observe(beliefs: Beliefs, model: int, wide: Floats, logprob: float) -> None:
    """Learn what confidence a prompt leads to expect, and remember this one."""
    value = surprise(beliefs, model, wide, logprob)
    beliefs.recent[model, int(beliefs.seen[model]) % REMEMBERED] = value
    beliefs.seen[model] += 1.0
    gained = np.empty(len(wide))
    gain(beliefs.expected_covariance[model], wide, gained)
    scale = 1.0 + dot(gained, wide)
    for at in range(len(wide)):
        beliefs.expected_weight[model, at] += gained[at] * value / scale
    shrink(beliefs.expected_covariance[model], gained, scale)
