"""Pending feedback: what answers count for while their feedback may still come, and which models must wait for it.

Feedback may come late, or never. The answers after the newest one with feedback are pending, at the rate at which
answers got feedback so far. Answers of a model that is known well are given up earlier, once it is known how late
feedback comes. A pending answer counts in the balance as its model's mean less one deviation: so a debt that is run up
without feedback shows as soon as the first feedback comes.

A model with many pending answers is held back, unless it is the reference. So every model is asked a little at first,
and then the reference alone until feedback comes. If feedback never comes, the reference stays: nothing shows that
another model would do.
"""

from __future__ import annotations

import numpy as np

from messctl.learning.compiled import compiled
from messctl.policies.bandit.balance import feedback_share, usable_balance
from messctl.policies.bandit.satisfaction import Levels
from messctl.policies.bandit.state import PENDING_LIMIT, Promise, State
from messctl.policies.bandit.tuning import Tuning
from messctl.policies.base import Floats

PATIENCE = 2.0
"""[factor] Feedback on a model that is known well is expected for this times the known delay, and a little more."""


@compiled
def record_served(state: State, model: int) -> None:
    """Number the next request, and record that `model` serves it."""
    number = state.tally.decided + 1
    state.tally.decided = number
    state.served_at[:, number % PENDING_LIMIT] = 0  # another model may have failed to serve this number
    state.served_at[model, number % PENDING_LIMIT] = number


@compiled
def count_pending(state: State, tuning: Tuning) -> Floats:
    """Return the number of answers with pending feedback, by model (M,), at the rate at which feedback came so far."""
    pending = np.zeros(len(state.answers))
    share, longest = feedback_share(state), float(PENDING_LIMIT)
    if state.ledger.delay >= 0.0:
        longest = min(longest, PATIENCE * (tuning.prior + state.ledger.delay))
    decided = state.tally.decided
    for number in range(max(state.tally.latest, decided - PENDING_LIMIT) + 1, decided + 1):
        for model in range(len(pending)):
            if state.served_at[model, number % PENDING_LIMIT] == number:
                recent = number > decided - int(longest)
                pending[model] += share if recent or state.answers[model] < tuning.prior else 0.0
    return pending


@compiled
def balance_with_pending(state: State, promise: Promise, levels: Levels, pending: Floats) -> float:
    """Return the usable balance, with each pending answer counted as its model's mean less one deviation."""
    balance = usable_balance(state)
    for model in range(len(pending)):
        balance += pending[model] * (levels.mean[model] - levels.deviation[model] - promise.alpha)
    return balance


@compiled
def hold_back(state: State, promise: Promise, tuning: Tuning, pending: Floats, extra: Floats) -> Floats:
    """Return `extra` (M,), infinite for models with more pending answers than is known of them; never the reference.

    No model is held back if the reference cannot be asked.
    """
    held = extra.copy()
    if extra[promise.reference] == np.inf:
        return held
    for model in range(len(extra)):
        if model != promise.reference and pending[model] > tuning.prior + state.answers[model]:
            held[model] = np.inf
    return held
