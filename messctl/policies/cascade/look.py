"""The look at the answers so far: ask another model, or show the answer that is believed most."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from messctl.learning.compiled import compiled
from messctl.policies.bandit.choice import Prices
from messctl.policies.bandit.costs import expected_costs
from messctl.policies.bandit.pending import count_pending, hold_back
from messctl.policies.bandit.state import PENDING_LIMIT, State
from messctl.policies.base import Floats
from messctl.policies.cascade.agreement import are_scarce
from messctl.policies.cascade.beliefs import BINS, Beliefs
from messctl.policies.cascade.choice import Way, odds_of, prospects_of
from messctl.policies.cascade.confidence import bin_of, likelihoods, surprise
from messctl.policies.cascade.difficulty import MOST, STEPS, Asked, Places, joint, most_believed, nothing_asked
from messctl.policies.cascade.plan import next_ask
from messctl.policies.cascade.rules import Rules
from messctl.policies.cascade.tuning import Tuning


class Seen(NamedTuple):
    """What is seen of the answers to one request, in the order in which they were asked; room for MOST of them.

    `model` and `group` (MOST,) are as in `Asked`. `logprob` (MOST,) is each answer's mean log-probability, NaN if that
    is unknown.
    """

    model: Places
    group: Places
    logprob: Floats


class Look(NamedTuple):
    """What follows from the answers so far: the `next` model to ask, or −1, and the answer that is believed most.

    `shown` is its place, and `believed` how likely it is right, NaN if nothing was weighed. `chance`, in 0..1, says how
    likely exactly these models were to be asked, given their answers.
    """

    next: int
    shown: int
    believed: float
    chance: float


@compiled
def nothing_seen() -> Seen:
    """Return room for answers."""
    return Seen(np.zeros(MOST, dtype=np.int64), np.zeros(MOST, dtype=np.int64), np.full(MOST, np.nan))


@compiled
def asked_of(beliefs: Beliefs, tuning: Tuning, seen: Seen, count: int, wide: Floats) -> Asked:
    """Return the answers with what their confidence tells; all apart if equal ones are too scarce to count on."""
    asked, tells, apart = nothing_asked(), np.empty((2, BINS)), are_scarce(beliefs, tuning)
    for at in range(count):
        model = seen.model[at]
        asked.model[at], asked.group[at] = model, at if apart else seen.group[at]
        if not math.isnan(seen.logprob[at]) and likelihoods(beliefs, tuning, model, tells):
            each = bin_of(beliefs, model, surprise(beliefs, model, wide, seen.logprob[at]))
            for kind in range(2):
                asked.tells[at, kind] = tells[kind, each]
    return asked


@compiled
def look(
    state: State,
    beliefs: Beliefs,
    rules: Rules,
    wide: Floats,
    prices: Prices,
    way: Way,
    seen: Seen,
    count: int,
) -> Look:
    """Return what follows from `count` ≥ 1 answers to the prompt `wide` (WIDE,)."""
    models, tuning, asks = len(prices.extra), rules.looks, rules.asks
    if way.alone and not (way.planned and way.planned_chance > 0.0):
        return Look(-1, 0, np.nan, way.alone_chance)
    predicted, cost, cases = np.empty(models), np.empty(models), np.empty((1 << MOST, STEPS))
    asked = asked_of(beliefs, tuning, seen, count, wide)
    odds = odds_of(beliefs, tuning, wide, predicted)
    following = -1
    if count < asks:
        expected_costs(state, rules.bandit, wide[:-1], prices.reading, cost)
        extra = hold_back(state, rules.promise, rules.bandit, count_pending(state, rules.bandit), prices.extra)
        following = next_ask(asked, count, asks, prospects_of(beliefs, tuning, odds, cost + extra), way.price)
    if way.alone:
        return Look(-1, 0, np.nan, way.alone_chance + (way.planned_chance if following < 0 else 0.0))
    joint(asked, count, odds, -1, 0.0, cases)
    shown, believed = most_believed(count, cases)
    if following >= 0:
        return Look(following, shown, believed, way.planned_chance)
    chance = way.planned_chance
    if count == 1:
        chance += way.alone_chance
    return Look(-1, shown, believed, chance)


@compiled
def record_shown(state: State, first: int, shown: int) -> None:
    """Record that another model's answer is shown than that of the one asked first."""
    number = state.tally.decided
    state.served_at[first, number % PENDING_LIMIT] = 0
    state.served_at[shown, number % PENDING_LIMIT] = number
