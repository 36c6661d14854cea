"""What is awaited: answers whose feedback may still come, what they are worth, and whom to ask no more until then."""

from __future__ import annotations

import numpy as np

from messctl.learning.compiled import compiled
from messctl.policies.bandit.debt import balance_of, heard_share
from messctl.policies.bandit.state import DECIDED, LATE, LATEST, Promise, State, Tuning
from messctl.policies.base import Floats


@compiled
def note_served(state: State, model: int) -> None:
    """Number the next decision, and note that it serves `model`."""
    number = state.counts[DECIDED] + 1
    state.counts[DECIDED] = number
    state.served_at[:, number % LATE] = 0  # another may have failed to serve it
    state.served_at[model, number % LATE] = number


@compiled
def count_awaited(state: State, tuning: Tuning, awaited: Floats) -> None:
    """Write how many answers of each model are still to be judged into `awaited` (M,), at the rate at which they were.

    An answer is awaited as long as none after it was judged: for LATE requests, but where more than a few of its
    model's are known, for no more than about twice as long as feedback took of late.
    """
    awaited[:] = 0.0
    share, longest = heard_share(state), float(LATE)
    if state.lateness[0] >= 0.0:
        longest = min(longest, 2.0 * (tuning.late_answers + state.lateness[0]))
    decided = state.counts[DECIDED]
    for number in range(max(state.counts[LATEST], decided - LATE) + 1, decided + 1):
        for model in range(len(awaited)):
            if state.served_at[model, number % LATE] == number:
                recent = number > decided - int(longest)
                awaited[model] += share if recent or state.answers[model] < tuning.late_answers else 0.0


@compiled
def awaited_balance(
    state: State, promise: Promise, tuning: Tuning, means: Floats, known: Floats, awaited: Floats
) -> float:
    """Return the balance that is counted on, with what is awaited: as its model's plain mean, doubted."""
    balance = balance_of(state)
    for model in range(len(means)):
        doubt = tuning.late_doubt * tuning.noise / np.sqrt(known[model])
        balance += awaited[model] * (means[model] - doubt - promise.alpha)
    return balance


@compiled
def hold_back(state: State, promise: Promise, tuning: Tuning, awaited: Floats, extra: Floats) -> None:
    """Make models of which more is awaited than is known infinitely dear in `extra` (M,), but for the reference.

    None is held back where the reference cannot be asked.
    """
    if extra[promise.reference] == np.inf:
        return
    for model in range(len(extra)):
        most = tuning.late_answers + tuning.late_growth * state.answers[model]
        if model != promise.reference and awaited[model] > most:
            extra[model] = np.inf
