"""The choice: by price, by the guard, or by a coin that tries a model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from messctl.learning.compiled import compiled
from messctl.policies.bandit.awaited import awaited_balance, count_awaited, hold_back, note_served
from messctl.policies.bandit.costs import expected_costs, paid_so_far
from messctl.policies.bandit.debt import depth, guard
from messctl.policies.bandit.price import least, price_of, solve
from messctl.policies.bandit.satisfaction import expect, plain_means, predict
from messctl.policies.bandit.search import searching, weigh_levels
from messctl.policies.bandit.state import RECALLED, SOLVED, UNSOLVED, WINDOW, Promise, State, Tuning
from messctl.policies.base import Floats

# Places in the figures of a Weighing
WEIGHED_PRICE, WEIGHED_BALANCE, WEIGHED_BEST, WEIGHED_GUARDED, WEIGHED_SEARCHED, WEIGHED_HELD_BACK = range(6)

BoolArray = npt.NDArray[np.bool_]

Weighing = tuple[Floats, Floats, Floats, Floats]
"""What a choice was made of, all (M,) but the last: Ĉ; the satisfaction that was weighed against it; the odds with
which each model was to be served; and figures (6,)."""


@compiled
def weighing(models: int) -> Weighing:
    """Return room for what a choice is made of."""
    return np.empty(models), np.empty(models), np.empty(models), np.empty(6)


@compiled
def surplus(state: State, extra: Floats, best: int, model: int) -> float:
    """Return what a trial of `model` is expected to cost beyond the choice, at least 0."""
    return max(0.0, (state.mean_cost[model] + extra[model]) - (state.mean_cost[best] + extra[best]))


@compiled
def write_affordable(
    state: State, promise: Promise, tuning: Tuning, extra: Floats, best: int, affordable: BoolArray
) -> None:
    """Write which models may be tried in the place of `best`: none is too dear, or more than the budget is left for."""
    dearest = tuning.trial_cost * (state.mean_cost[best] + extra[best])
    left = np.inf
    if promise.trial_budget < np.inf:
        left = promise.trial_budget * paid_so_far(state) - state.tried[0]
    for model in range(len(affordable)):
        cheap_enough = state.mean_cost[model] + extra[model] <= dearest
        affordable[model] = cheap_enough and surplus(state, extra, best, model) <= max(0.0, left)


@compiled
def tried_next(state: State, promise: Promise, tuning: Tuning, awaited: Floats, affordable: BoolArray) -> int:
    """Return the affordable model with the fewest answers, awaited or known, that early trial is due to, or −1."""
    chosen, fewest = -1, tuning.trial_answers
    for model in range(len(affordable)):
        answers = state.answers[model]
        asked = answers + awaited[model]
        if asked < fewest and affordable[model]:
            doubt = tuning.trial_doubt * tuning.noise / np.sqrt(max(1.0, answers))
            if answers < 3.0 or state.good[model] / answers + doubt > promise.alpha:
                chosen, fewest = model, asked
    return chosen


@compiled
def odds_of(
    state: State,
    promise: Promise,
    tuning: Tuning,
    awaited: Floats,
    extra: Floats,
    balance: float,
    best: int,
    odds: Floats,
) -> None:
    """Write each model's probability of being served, where `best` is what cost and satisfaction speak for."""
    odds[:] = 0.0
    affordable = np.empty(len(odds), dtype=np.bool_)
    write_affordable(state, promise, tuning, extra, best, affordable)
    rest = 1.0
    trial = tried_next(state, promise, tuning, awaited, affordable)
    if trial >= 0 and balance >= tuning.trial_balance:
        odds[trial] += tuning.trial_rate
        rest -= tuning.trial_rate
    for model in range(len(odds)):
        if affordable[model]:
            odds[model] += tuning.retrial_rate / affordable.sum()
    odds[best] += rest - tuning.retrial_rate


@compiled
def draw(odds: Floats, coin: float) -> int:
    """Return the model on which a uniform coin falls."""
    last = 0
    for model in range(len(odds)):
        if odds[model] > 0.0:
            last = model
            if coin < odds[model]:
                return model
            coin -= odds[model]
    return last


@compiled
def choose(
    state: State,
    promise: Promise,
    tuning: Tuning,
    z: Floats,
    prices: tuple[Floats, Floats],
    coin: float,
    predicted: Floats,
    weighed: Weighing,
) -> int:
    """Return the model to serve; write what is predicted of each, and into `weighed` what the choice was made of.

    `prices` are what reading the prompt will cost each model, (M,), 0 where that is not known, and what each would
    cost now beyond its answer, (M,), infinitely much where it cannot be asked.
    """
    reading, extra = prices[0], prices[1].copy()
    counts = state.counts
    models = len(predicted)
    cost, worth, odds, figures = weighed
    level, means, known = np.empty(models), np.empty(models), np.empty(models)
    expect(state, promise, tuning, level)
    plain_means(state, promise, tuning, level, means, known)
    predict(state, z, level, predicted)
    expected_costs(state, tuning, z, reading, cost)
    state.recent[counts[RECALLED] % WINDOW] = z
    for model in range(models):
        state.recent_known[model, counts[RECALLED] % WINDOW] = reading[model]
    counts[RECALLED] += 1
    recalled = counts[RECALLED]
    often = recalled < 32 or recalled % (8 if recalled < 512 else 32) == 0
    if often or state.ledger[SOLVED] == UNSOLVED:
        state.ledger[SOLVED] = solve(state, promise, tuning, level)
    awaited = np.empty(models)
    count_awaited(state, tuning, awaited)
    hold_back(state, promise, tuning, awaited, extra)
    balance = awaited_balance(state, promise, tuning, means, known, awaited)
    deep = depth(state, promise, tuning, means)
    cheap = np.empty(models)
    search = searching(state, promise, tuning, means, known, extra, cheap)
    price = price_of(state, promise, tuning, balance, deep, means, search)
    worth[:] = predicted
    searched = search and balance < -tuning.search_debt * deep
    if searched:
        price = weigh_levels(state, tuning, means, known, cheap, worth)
    best = least(cost + extra, worth, price, state.mean_cost)
    guarded = balance < -deep
    figures[WEIGHED_HELD_BACK] = least(cost + prices[1], worth, price, state.mean_cost) != best
    figures[WEIGHED_PRICE], figures[WEIGHED_BALANCE] = price, balance
    figures[WEIGHED_BEST], figures[WEIGHED_GUARDED], figures[WEIGHED_SEARCHED] = best, guarded, searched
    if guarded:
        served = guard(state, tuning, means, known, awaited, extra, balance >= -deep - tuning.guard_care)
        odds[:] = 0.0
        odds[served] = 1.0
    else:
        odds_of(state, promise, tuning, awaited, extra, balance, best, odds)
        served = draw(odds, coin)
        state.tried[0] += surplus(state, extra, best, served)
    note_served(state, served)
    return served
