"""The choice: argmin of Ĉ_m + u_m − λ·ŝ_m, unless the guard, the search or a trial decides.

Ĉ_m is the predicted cost of the answer, and u_m what the request says that the model costs now beyond it, such as
loading it. Models that cannot be asked, or that are held back until feedback comes, have an infinite u_m: they are
neither chosen, nor tried, nor served by the guard.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from messctl.learning.compiled import compiled
from messctl.policies.bandit.costs import expected_costs
from messctl.policies.bandit.guard import guard_choice, guard_depth
from messctl.policies.bandit.pending import balance_with_pending, count_pending, hold_back, record_served
from messctl.policies.bandit.price import is_solving_due, least, price_of, remember_prompt, solve
from messctl.policies.bandit.satisfaction import levels_of, predict
from messctl.policies.bandit.search import is_searching, overrated_means, search_price
from messctl.policies.bandit.state import Promise, State
from messctl.policies.bandit.trials import cost_of_trial, draw, odds_of
from messctl.policies.bandit.tuning import Tuning
from messctl.policies.base import Floats


class Prices(NamedTuple):
    """What is known of a request's cost in advance, in the unit of the costs, each (M,).

    `reading` is what reading the prompt will cost, 0 if that is unknown. `extra` is what each model would cost now
    beyond its answer; infinite for a model that cannot be asked.
    """

    reading: Floats
    extra: Floats


class Choice(NamedTuple):
    """The model to serve, and what the choice was made of; arrays are (M,).

    `value` is the satisfaction that was weighed against `cost`, and `best` the model with the least sum. `odds` are the
    probabilities of being served. `held_back` tells that another model would be the best, but for pending feedback.
    """

    model: int
    predicted: Floats
    cost: Floats
    value: Floats
    odds: Floats
    price: float
    balance: float
    best: int
    guarded: bool
    searched: bool
    held_back: bool


@compiled
def choose(state: State, promise: Promise, tuning: Tuning, z: Floats, prices: Prices, coin: float) -> Choice:
    """Return the choice for the prompt `z` (WIDTH,), and record it; `coin` is uniform in 0..1 and decides on trials."""
    models = len(prices.extra)
    levels = levels_of(state, promise, tuning)
    predicted, cost, cheap = np.empty(models), np.empty(models), np.empty(models)
    predict(state, z, levels.expected, predicted)
    expected_costs(state, tuning, z, prices.reading, cost)
    remember_prompt(state, z, prices.reading)
    if is_solving_due(state):
        state.ledger.base_price = solve(state, promise, tuning, levels.expected)
    pending = count_pending(state, tuning)
    extra = hold_back(state, promise, tuning, pending, prices.extra)
    balance = balance_with_pending(state, promise, tuning, levels, pending)
    depth = guard_depth(state, promise, tuning, levels)
    searching = is_searching(state, promise, tuning, levels, extra, cheap)
    searched = searching and balance < -tuning.search.debt * depth
    if searched:
        price, value = search_price(state, tuning), overrated_means(state, tuning, levels, cheap)
    else:
        price, value = price_of(state, promise, tuning, levels, balance, depth, searching), predicted
    best = least(cost + extra, value, price, state.mean_cost)
    held_back = least(cost + prices.extra, value, price, state.mean_cost) != best
    guarded = balance < -depth
    if guarded:
        careful = balance >= -depth - tuning.guard.care
        served = guard_choice(state, tuning, levels, pending, extra, careful)
        odds = np.zeros(models)
        odds[served] = 1.0
    else:
        odds = odds_of(state, promise, tuning, pending, extra, balance, best)
        served = draw(odds, coin)
        state.ledger.trial_cost += cost_of_trial(state, extra, best, served)
    record_served(state, served)
    return Choice(served, predicted, cost, value, odds, price, balance, best, guarded, searched, held_back)
