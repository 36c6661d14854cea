"""Learning: the feedback on the shown answer tells something of every answer that was asked.

Equal answers share the feedback, since they are equally right. Of other answers it says how likely they are to be
right, through the difficulty and the agreement. Model m's logit a_m(z) = w·z + w_m·z moves along the expected gradient
E[y_m − σ(a_m − θ)], as far as the case is known: an answer whose truth stays unknown teaches next to nothing. So it
does no harm that answers are shown only if they are believed.
"""

from __future__ import annotations

import math

import numpy as np

from messctl.learning.compiled import compiled
from messctl.policies.bandit.linear import dot, gain, shrink
from messctl.policies.bandit.satisfaction import learn_satisfaction
from messctl.policies.bandit.state import State
from messctl.policies.base import Floats
from messctl.policies.cascade.agreement import LEAST_INFORMATION, count_pairs, learn_agreement
from messctl.policies.cascade.beliefs import Beliefs
from messctl.policies.cascade.choice import odds_of
from messctl.policies.cascade.confidence import bin_of, count, surprise
from messctl.policies.cascade.difficulty import MOST, STEPS, Asked, Odds, joint
from messctl.policies.cascade.look import Seen, asked_of
from messctl.policies.cascade.rules import Rules


@compiled
def move_weights(beliefs: Beliefs, model: int, wide: Floats, gradient: float, information: float) -> None:
    """Move the shared weight and the model's own by one step of their common Kalman filter."""
    known = max(LEAST_INFORMATION, information)
    own_gain, shared_gain = np.empty(len(wide)), np.empty(len(wide))
    gain(beliefs.own_covariance[model], wide, own_gain)
    gain(beliefs.shared_covariance, wide, shared_gain)
    scale = 1.0 + known * (dot(own_gain, wide) + dot(shared_gain, wide))
    for at in range(len(wide)):
        beliefs.own_weight[model, at] += own_gain[at] * gradient / scale
        beliefs.shared_weight[at] += shared_gain[at] * gradient / scale
    shrink(beliefs.own_covariance[model], own_gain, scale / known)
    shrink(beliefs.shared_covariance, shared_gain, scale / known)


@compiled
def learn_answer(
    beliefs: Beliefs, asked: Asked, at: int, size: int, cases: Floats, odds: Odds, wide: Floats, logprob: float
) -> float:
    """Learn from the answer in place `at` of `size`. Returns how likely it is right, with the feedback known."""
    model = asked.model[at]
    is_right, gradient, square, variance = 0.0, 0.0, 0.0, 0.0
    for right in range(1 << size):
        bit = float((right >> at) & 1)
        for step in range(STEPS):
            chance, p = cases[right, step], odds.right[model, step]
            is_right += chance * bit
            gradient += chance * (bit - p)
            square += chance * (bit - p) * (bit - p)
            variance += chance * p * (1.0 - p)
    sure = max(0.0, 1.0 - 4.0 * is_right * (1.0 - is_right))
    beliefs.known[model] += sure
    move_weights(beliefs, model, wide, gradient, variance - (square - gradient * gradient))
    if not math.isnan(logprob):
        count(beliefs, model, bin_of(beliefs, model, surprise(beliefs, model, wide, logprob)), is_right, sure)
    return is_right


@compiled
def learn_shown(
    state: State,
    beliefs: Beliefs,
    rules: Rules,
    seen: Seen,
    size: int,
    shown: int,
    alone: bool,
    satisfied: float,
    wide: Floats,
) -> None:
    """Learn the feedback on the answer in place `shown` of `size`.

    The bandit learns only from answers that were asked `alone`, whatever they looked like.
    """
    cases, predicted = np.empty((1 << MOST, STEPS)), np.empty(len(beliefs.level))
    asked = asked_of(beliefs, rules.looks, seen, size, wide)
    odds = odds_of(beliefs, rules.looks, wide, predicted)
    joint(asked, size, odds, asked.group[shown], satisfied, cases)
    count_pairs(beliefs, seen.group, size)
    if size > 1 and odds.right_agree > 0.0:
        learn_agreement(beliefs, asked, size, cases, wide)
    for at in range(size):
        learn_answer(beliefs, asked, at, size, cases, odds, wide, seen.logprob[at])
    model, ledger = asked.model[shown], state.ledger
    if alone:
        learn_satisfaction(state, rules.promise, rules.bandit, model, wide[:-1], satisfied)
        return
    state.tally.labels += 1
    if shown == 0:
        residual = satisfied - beliefs.level[model]
        known = min(rules.bandit.memory, rules.bandit.trust + state.tally.labels)
        ledger.variance += (residual * residual - ledger.variance) / known
