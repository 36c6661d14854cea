"""The debt: the balance, the virtual queue, and how regularly feedback comes.

The balance B = Σ(s − α) is never clipped: it tells how far the promise is met so far. Of a surplus only `credit` may be
spent later. Otherwise a model that fails after thousands of good answers would serve thousands more.
"""

from __future__ import annotations

from messctl.learning.compiled import compiled
from messctl.learning.virtual_queue import advance
from messctl.policies.bandit.state import PENDING_LIMIT, State
from messctl.policies.bandit.tuning import Tuning

RECENT_ANSWERS = 50
"""[answers] Length of the running mean of s − α, which shows that beliefs are wrong."""
DELAY_KEPT = 0.99
"""[factor per feedback] The known delay of feedback falls by this when feedback comes earlier."""
DELAY_GROWN = 0.25
"""[share] The known delay grows by this share of what feedback is later: one old answer says little."""


@compiled
def record_delay(state: State, delay: float) -> None:
    """Record that feedback came `delay` ≥ 0 requests after its answer."""
    known = state.ledger.delay
    if known < 0.0:
        state.ledger.delay = delay
    elif delay > known:
        state.ledger.delay = known + DELAY_GROWN * (delay - known)
    else:
        state.ledger.delay = max(delay, DELAY_KEPT * known)


@compiled
def usable_balance(state: State) -> float:
    """Return the balance less the part of a surplus that may not be spent."""
    return state.ledger.balance - state.ledger.forfeited


@compiled
def limit_credit(state: State, tuning: Tuning) -> None:
    """Forfeit the part of a surplus that is more than `credit`."""
    state.ledger.forfeited = max(state.ledger.forfeited, state.ledger.balance - tuning.balance.credit)


@compiled
def record_debt(state: State, tuning: Tuning, alpha: float, number: int, satisfied: float) -> None:
    """Add the feedback on request `number` to the balance and to the virtual queue.

    Requests count from 1; 0 stands for one that this policy did not decide.
    """
    ledger = state.ledger
    tally = state.tally
    ledger.balance += satisfied - alpha
    limit_credit(state, tuning)
    ledger.recent_surplus += (satisfied - alpha - ledger.recent_surplus) / RECENT_ANSWERS
    ledger.queue = advance(ledger.queue, alpha, satisfied)
    if number > 0:  # feedback on another policy's answer tells nothing about how regularly feedback comes here
        tally.with_feedback += 1
        record_delay(state, float(min(PENDING_LIMIT, max(0, tally.decided - number))))
        tally.latest = max(tally.latest, min(number, tally.decided))


@compiled
def feedback_share(state: State) -> float:
    """Return the share of answers that get feedback, in 0..1, as far as it has come; 1 before any has."""
    latest = state.tally.latest
    return min(1.0, state.tally.with_feedback / latest) if latest else 1.0
