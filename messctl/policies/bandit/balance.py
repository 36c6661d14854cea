"""The balance: how far the promise is met, the virtual queue, the reserve, and how regularly feedback comes.

The balance B = Σ(s − α) is never clipped. While the best model serves, it is a random walk that rises by the slack d
per answer, with the variance v. It ever falls by more than x with probability exp(−2dx/v). The reserve
R = 1 + ln(1/δ)·v/2d is what bad luck uses up with the probability δ, and one answer. It is filled once, over the first
answers, and then held: a surplus that is paid once, and not per request.

Of a surplus no more than the largest reserve counts. Otherwise a model that fails after thousands of good answers would
serve thousands more.
"""

from __future__ import annotations

import math

import numpy as np

from messctl.learning.compiled import compiled
from messctl.learning.virtual_queue import advance
from messctl.policies.bandit.satisfaction import Levels, least_variance
from messctl.policies.bandit.state import PENDING_LIMIT, Promise, State
from messctl.policies.bandit.tuning import Tuning
from messctl.policies.base import Floats


@compiled
def slack_of(promise: Promise, tuning: Tuning, levels: Levels, extra: Floats) -> float:
    """Return d > 0, how far the best model that can be asked is above α; `extra` (M,) is infinite for the others."""
    best = -np.inf
    for model in range(len(extra)):
        if extra[model] < np.inf:
            best = max(best, levels.mean[model])
    return max(tuning.resolution, best - promise.alpha)


@compiled
def reserve_of(state: State, tuning: Tuning, slack: float) -> float:
    """Return R ≥ 1, the surplus that bad luck uses up with probability δ only, in answers."""
    variance = max(least_variance(tuning), state.ledger.variance)
    return 1.0 - math.log(tuning.chance) * variance / (2.0 * slack)


@compiled
def setpoint_of(state: State, tuning: Tuning, reserve: float) -> float:
    """Return h, the balance that is aimed at: the reserve, as far as it is to be filled by now."""
    return reserve * (1.0 - math.exp(-state.tally.with_feedback / tuning.ramp))


@compiled
def record_delay(state: State, tuning: Tuning, delay: float) -> None:
    """Record that feedback came `delay` ≥ 0 requests after its answer, in a running mean."""
    known = state.ledger.delay
    state.ledger.delay = delay if known < 0.0 else known + (delay - known) / tuning.prior


@compiled
def usable_balance(state: State) -> float:
    """Return the balance less the part of a surplus that may not be spent."""
    return state.ledger.balance - state.ledger.forfeited


@compiled
def limit_credit(state: State, tuning: Tuning) -> None:
    """Forfeit the part of a surplus that is more than the largest reserve."""
    largest = reserve_of(state, tuning, tuning.resolution)
    state.ledger.forfeited = max(state.ledger.forfeited, state.ledger.balance - largest)


@compiled
def record_balance(state: State, tuning: Tuning, alpha: float, number: int, satisfied: float) -> None:
    """Add the feedback on request `number` to the balance and to the virtual queue.

    Requests count from 1; 0 stands for one that this policy did not decide.
    """
    ledger, tally = state.ledger, state.tally
    ledger.balance += satisfied - alpha
    limit_credit(state, tuning)
    ledger.queue = advance(ledger.queue, alpha, satisfied)
    if number > 0:  # feedback on another policy's answer tells nothing about how regularly feedback comes here
        tally.with_feedback += 1
        record_delay(state, tuning, float(min(PENDING_LIMIT, max(0, tally.decided - number))))
        tally.latest = max(tally.latest, min(number, tally.decided))


@compiled
def feedback_share(state: State) -> float:
    """Return the share of answers that get feedback, in 0..1, as far as it has come; 1 before any has."""
    latest = state.tally.latest
    return min(1.0, state.tally.with_feedback / latest) if latest else 1.0
