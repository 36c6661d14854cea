"""The debt: the balance, how deep it may get, and the guard, which serves what can pay it."""

from __future__ import annotations

import numpy as np

from messctl.learning.compiled import compiled
from messctl.learning.virtual_queue import advance
from messctl.policies.bandit.state import (
    BALANCE,
    DECIDED,
    HEARD,
    LABELS,
    LATE,
    LATENESS_GROWN,
    LATENESS_KEPT,
    LATEST,
    LEAST_SLACK,
    QUEUE,
    RECENT,
    RECENT_ANSWERS,
    Promise,
    State,
    Tuning,
)
from messctl.policies.base import Floats


@compiled
def note_lateness(state: State, late: float) -> None:
    """Take it that feedback came so many requests later."""
    known = state.lateness[0]
    if known < 0.0:
        state.lateness[0] = late
    elif late > known:
        state.lateness[0] = known + LATENESS_GROWN * (late - known)
    else:
        state.lateness[0] = max(late, LATENESS_KEPT * known)


@compiled
def balance_of(state: State) -> float:
    """Return the balance Σ(s − α) that is counted on: what was forgone is not."""
    return state.ledger[BALANCE] - state.forgone[0]


@compiled
def forgo(state: State, tuning: Tuning) -> None:
    """Count on no more of what was attained beyond α than may be spent later.

    Were all of it spent, a model that failed after thousands of good answers would serve for thousands more.
    """
    state.forgone[0] = max(state.forgone[0], state.ledger[BALANCE] - tuning.credit)


@compiled
def owe(state: State, tuning: Tuning, alpha: float, number: int, satisfied: float) -> None:
    """Take the feedback on decision `number` (from 1; 0: not one of these) into the balance and the virtual queue."""
    state.ledger[BALANCE] += satisfied - alpha
    forgo(state, tuning)
    state.ledger[RECENT] += (satisfied - alpha - state.ledger[RECENT]) / RECENT_ANSWERS
    state.ledger[QUEUE] = advance(state.ledger[QUEUE], alpha, satisfied)
    if number > 0:  # of an answer that somebody else chose it says nothing that it was judged, or when
        state.counts[HEARD] += 1
        note_lateness(state, float(min(LATE, max(0, state.counts[DECIDED] - number))))
        state.counts[LATEST] = max(state.counts[LATEST], min(number, state.counts[DECIDED]))


@compiled
def heard_share(state: State) -> float:
    """Return the share of answers that get feedback, as far as it has come; 1 before any has."""
    latest = state.counts[LATEST]
    return min(1.0, state.counts[HEARD] / latest) if latest else 1.0


@compiled
def depth(state: State, promise: Promise, tuning: Tuning, means: Floats) -> float:
    """Return how far the balance may fall before the guard serves: less where the debt is slow to pay."""
    slack = max(LEAST_SLACK, means.max() - promise.alpha)
    deep = max(1.0, tuning.guard_depth - tuning.guard_slack / slack) + tuning.guard_slope * state.counts[HEARD]
    # Where few answers are judged, each is a larger part of the promise; but one bad answer is no emergency.
    return max(1.0, deep * np.sqrt(heard_share(state)))


@compiled
def guard(
    state: State, tuning: Tuning, means: Floats, known: Floats, awaited: Floats, extra: Floats, careful: bool
) -> int:
    """Return the model that can pay the debt, as far as plain means tell; the cheaper one on a tie.

    If `careful`, one that surely can: a model that is little known is doubted. One whose answers are awaited is not
    left alone.
    """
    index = np.empty(len(means))
    doubt = tuning.guard_doubt if careful else 0.0
    best = 0
    for model in range(len(means)):
        fair = len(means) * (state.answers[model] + awaited[model] + 1.0)
        left_alone = max(0.0, np.log((state.counts[LABELS] + 1.0) / fair))
        bonus = tuning.guard_retry * np.sqrt(left_alone / (known[model] + awaited[model]))
        index[model] = means[model] + tuning.noise * (bonus - doubt / np.sqrt(known[model]))
        if extra[model] == np.inf:
            index[model] = -np.inf
        tied = index[model] == index[best] and state.mean_cost[model] < state.mean_cost[best]
        if index[model] > index[best] or tied:
            best = model
    return best
