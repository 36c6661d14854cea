"""The constants of the bandit, grouped by the part that they belong to.

One setting is meant for every zoo; tests and benchmarks vary single constants. Each line holds a constant's name, its
value, its unit in brackets, and one reason. The table in docs/bandit.md is a copy of these lines. A balance and a debt
are counted in answers: one unit is the difference between a satisfying and an unsatisfying answer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from messctl.learning.compiled import compiled
from messctl.policies.base import Floats


class SatisfactionTuning(NamedTuple):
    """What is expected of models before feedback, and how fast predictions follow feedback."""

    noise: float = 0.4  # [satisfaction] σ: standard deviation of the feedback on one answer
    spread: float = 0.08  # [satisfaction] standard deviation of the models' means around their common mean
    prior: float = 0.25  # [share of 1 − α] how far above α the common mean is expected before feedback
    reference_lead: float = 0.5  # [spreads] how much better the reference is expected to be
    shared_ridge: float = 16.0  # [answers] penalty on the weights that all models share; 0 leaves these out
    own_ridge: float = 32.0  # [answers] penalty on a model's own weights


class ForgettingTuning(NamedTuple):
    """How fast old feedback and old costs fade, so that a model that changes is noticed."""

    memory: float = 300.0  # [answers] the model's own answers after which feedback and costs have faded to 1/e
    idle_memory: float = 2000.0  # [answers] the same for answers of other models; all answers so far if that is more
    wrong_debt: float = 20.0  # [answers] beliefs count as wrong if the debt is larger than this
    wrong_rate: float = -0.1  # [satisfaction] and if the recent mean of s − α is lower than this
    wrong_memory: float = 300.0  # [answers] replaces idle_memory while beliefs count as wrong


class CostTuning(NamedTuple):
    """How the cost of an answer is predicted."""

    per_prompt: bool = True  # [yes or no] predict costs per prompt; otherwise by the running mean alone


class PriceTuning(NamedTuple):
    """How λ, the price of satisfaction, is solved and how it reacts to the balance."""

    reach: float = 0.98  # [share] the part of the attainable range that a solved price may aim at
    step: float = 0.01  # [satisfaction] λ₀ lies between the prices of α − step and α + step
    temper: float = 6.0  # [answers] λ grows e-fold when the balance falls by this
    temper_growth: float = 0.02  # [answers per feedback] the temper grows by this, so that λ calms down
    temper_limit: float = 110.0  # [answers] the temper never exceeds this, so that a long debt is still answered
    limit: float = 12.0  # [mean costs of the costliest model] λ never exceeds this: small gains are mostly noise
    limit_growth: float = 50.0  # [requests per model] the limit grows by its first value every time these have passed


class BalanceTuning(NamedTuple):
    """Which balance the price steers to, and what part of a surplus may be spent."""

    credit: float = 20.0  # [answers] the part of a surplus that may be spent later
    learning_debt: float = 0.25  # [guard depths] a debt that is allowed at first, for learning
    learning_fade: float = 800.0  # [requests] the allowed debt fades to 1/e in this time
    reserve: float = 6.0  # [lengths of bad luck] the surplus that is held against bad luck
    reserve_fade: float = 0.02  # [answers per feedback] the reserve falls by this, as the level tolerates more
    reserve_share: float = 0.3  # [share of the total cost] the reserve never costs more than this


class TrialTuning(NamedTuple):
    """When a coin gives a request to another model than the chosen one."""

    answers: float = 8.0  # [answers] a model with fewer gets early trials; again when they have faded
    rate: float = 0.5  # [probability] of an early trial, while one is due
    cost: float = 4.0  # [times the chosen model's mean cost] a trial never costs more than this
    doubt: float = 1.3  # [standard deviations] no early trial of a model whose mean is this far below α
    balance: float = 0.0  # [answers] no early trial while the balance is below this
    later_rate: float = 0.02  # [probability] of a trial of any affordable model, at any time


class SearchTuning(NamedTuple):
    """The search for a cheap model that keeps the promise alone."""

    cheap: float = 0.5  # [mean costs of the costliest model] a cheap model costs at most this; 0: no search
    hope: float = 1.0  # [standard deviations] a cheap model may suffice if its mean plus this reaches α
    time: float = 100.0  # [feedback per model] the search ends after this
    boldness: float = 0.4  # [standard deviations] a model that was left alone is overrated by this times √log
    slack: float = 0.035  # [satisfaction] the best model must be this far above α, to pay for the search
    doubt: float = 0.5  # [standard deviations] the best model's mean is taken to be this much lower
    price: float = 5.0  # [mean costs of the costliest model] λ never exceeds this in a search
    debt: float = 0.5  # [guard depths] with a larger debt, predictions per prompt are ignored


class PendingTuning(NamedTuple):
    """What answers count for while their feedback may still come."""

    answers: float = 8.0  # [answers] of a model that may be pending before it is held back
    growth: float = 4.0  # [answers per feedback] more may be pending of a model that is known better
    doubt: float = 1.0  # [standard deviations] a pending answer counts as its model's mean less this


class GuardTuning(NamedTuple):
    """The guard, which serves what can pay the debt."""

    depth: float = 8.0  # [answers] the debt below which the guard serves
    slope: float = 0.001  # [answers per feedback] the depth grows by this
    slack: float = 0.15  # [answers × satisfaction] the depth is smaller by this over the best model's slack
    retry: float = 1.0  # [standard deviations] weight of the bonus for a model that was left alone
    reference: float = 10.0  # [answers] the reference starts with this number of good answers
    doubt: float = 1.5  # [standard deviations] a careful guard takes each mean to be this much lower
    care: float = 10.0  # [answers] the guard is careful until the debt is this much deeper


class Tuning(NamedTuple):
    """All constants of the algorithm, by part."""

    satisfaction: SatisfactionTuning = SatisfactionTuning()
    forgetting: ForgettingTuning = ForgettingTuning()
    costs: CostTuning = CostTuning()
    price: PriceTuning = PriceTuning()
    balance: BalanceTuning = BalanceTuning()
    trials: TrialTuning = TrialTuning()
    search: SearchTuning = SearchTuning()
    pending: PendingTuning = PendingTuning()
    guard: GuardTuning = GuardTuning()


def constants_of(tuning: Tuning) -> Floats:
    """Return all constants as one array, in order: Python passes it to compiled code far faster than nested tuples."""
    return np.array([float(value) for group in tuning for value in group])


@compiled
def tuning_of(c: Floats) -> Tuning:
    """Return the constants by part again: the inverse of `constants_of`."""
    return Tuning(
        SatisfactionTuning(c[0], c[1], c[2], c[3], c[4], c[5]),
        ForgettingTuning(c[6], c[7], c[8], c[9], c[10]),
        CostTuning(c[11] != 0.0),
        PriceTuning(c[12], c[13], c[14], c[15], c[16], c[17], c[18]),
        BalanceTuning(c[19], c[20], c[21], c[22], c[23], c[24]),
        TrialTuning(c[25], c[26], c[27], c[28], c[29], c[30]),
        SearchTuning(c[31], c[32], c[33], c[34], c[35], c[36], c[37], c[38]),
        PendingTuning(c[39], c[40], c[41]),
        GuardTuning(c[42], c[43], c[44], c[45], c[46], c[47], c[48]),
    )
