"""What the cascade believes of answers, beyond what the bandit knows: arrays that change in place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from messctl.learning.compiled import compiled
from messctl.policies.bandit.state import WIDTH
from messctl.policies.base import Floats
from messctl.policies.cascade.tuning import Tuning

WIDE = WIDTH + 1
"""[features] A prompt's z, and a constant 1 at the end."""
BINS = 5
"""[bins] Confidences are sorted into these, by their rank."""
REMEMBERED = 256
"""[answers] of a model, whose confidences are remembered to rank the next one."""
PRICES = 24
"""[prices] at which the attainment of plans is known."""
WRONG, RIGHT = range(2)
"""The kinds of answers: the places in `agree_weight` and in `table`."""
LEVEL_VARIANCE = 1.0
"""[logits²] of the level that all models share, before anything is learned."""
OWN_LEVEL_VARIANCE = 0.5
"""[logits²] of a model's own level; half of that for the reference."""


class Beliefs(NamedTuple):
    """All that is believed of answers; M models, D = WIDE."""

    shared_weight: Floats  # (D,) of the logit of being right
    shared_covariance: Floats  # (D, D)
    own_weight: Floats  # (M, D)
    own_covariance: Floats  # (M, D, D)
    agree_weight: Floats  # (2, D) of the logit that two WRONG, or two RIGHT, answers are equal
    agree_covariance: Floats  # (2, D, D)
    level: Floats  # (M,) running mean of each model's predicted satisfaction
    known: Floats  # (M,) [answers] of which it is known whether they are right
    expected_weight: Floats  # (M, D) of the confidence that a prompt leads to expect
    expected_covariance: Floats  # (M, D, D)
    recent: Floats  # (M, REMEMBERED) confidences beyond what was expected
    seen: Floats  # (M,) [answers] whose confidence is known
    table: Floats  # (M, 2, BINS) [answers] wrong and right ones, by the rank of their confidence
    curve: Floats  # (PRICES,) running mean of the satisfaction that plans promise at each price
    tally: Floats  # (3,) see below


PLANNED, PAIRS, EQUAL = range(3)
"""The places in `tally`: planned requests, pairs of answers to one request, and those that were equal."""


def fresh(models: int, reference: int, alpha: float, hope: float, tuning: Tuning) -> Beliefs:
    """Return what is believed before anything is known: each model is about as good as α, the reference better."""
    deviation = math.sqrt(1.0 + math.pi * tuning.spread * tuning.spread / 8.0)
    own = np.tile(np.eye(WIDE) * (tuning.own_variance * deviation**2), (models, 1, 1))
    own[:, -1, -1] = OWN_LEVEL_VARIANCE * deviation**2
    own[reference, -1, -1] /= 2.0
    shared = np.eye(WIDE) * (tuning.shared_variance * deviation**2)
    shared[-1, -1] = LEVEL_VARIANCE * deviation**2
    agree = np.tile(np.eye(WIDE) * tuning.shared_variance, (2, 1, 1))
    agree[:, -1, -1] = LEVEL_VARIANCE
    expected = np.tile(np.eye(WIDE), (models, 1, 1))
    expected[:, -1, -1] = 100.0  # the first confidence decides
    beliefs = Beliefs(
        shared_weight=np.zeros(WIDE),
        shared_covariance=shared,
        own_weight=np.zeros((models, WIDE)),
        own_covariance=own,
        agree_weight=np.zeros((2, WIDE)),
        agree_covariance=agree,
        level=np.zeros(models),
        known=np.zeros(models),
        expected_weight=np.zeros((models, WIDE)),
        expected_covariance=expected,
        recent=np.zeros((models, REMEMBERED)),
        seen=np.zeros(models),
        table=np.zeros((models, 2, BINS)),
        curve=np.zeros(PRICES),
        tally=np.zeros(3),
    )
    usual, better = alpha + 0.25 * (1.0 - alpha), alpha + hope * (1.0 - alpha)
    beliefs.shared_weight[-1] = logit(usual) * deviation
    beliefs.own_weight[reference, -1] = (logit(better) - logit(usual)) * deviation
    beliefs.agree_weight[:, -1] = logit(tuning.wrong_agree), logit(tuning.right_agree)
    return beliefs


def stored_arrays(beliefs: Beliefs) -> Mapping[str, npt.NDArray[Any]]:
    """Return the arrays, as views, under the names by which snapshots store them."""
    return {f"look_{name}": array for name, array in beliefs._asdict().items()}


@compiled
def logit(probability: float) -> float:
    """Return ln(p / (1 − p)) of a probability, kept within 0.001..0.999."""
    p = min(0.999, max(0.001, probability))
    return math.log(p / (1.0 - p))


@compiled
def sigmoid(value: float) -> float:
    """Return 1 / (1 + e^−v)."""
    return 1.0 / (1.0 + math.exp(-min(50.0, max(-50.0, value))))
