"""The choice: argmin of Ĉ_m + u_m − λ·(ŝ_m + b_m).

Ĉ_m is the predicted cost of the answer, and u_m what the request says that the model costs now beyond it, such as
loading it. Models that cannot be asked, or that are held back until feedback comes, have an infinite u_m: they are
neither chosen nor tried. b_m is what is hoped for beyond the prediction: at least as many standard deviations as some
model needs to reach α, and one deviation if the reserve is full. So curiosity is paid out of a surplus.

If the balance falls below its line the guard decides: λ is larger than it may be otherwise, and rises with the debt;
predictions per prompt do not count, and nothing is tried.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from messctl.learning.compiled import compiled
from messctl.policies.bandit.balance import reserve_of, setpoint_of, slack_of
from messctl.policies.bandit.costs import expected_costs
from messctl.policies.bandit.pending import balance_with_pending, count_pending, hold_back, record_served
from messctl.policies.bandit.price import is_solving_due, largest_price, least, price_of, remember_prompt, rise, solve
from messctl.policies.bandit.satisfaction import Levels, levels_of, needed_hope, predict, trust_of
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
    held_back: bool


class Standing(NamedTuple):
    """Where the balance stands, in answers: itself, the setpoint, the reserve, and the guard's line; and the slack."""

    balance: float
    setpoint: float
    reserve: float
    line: float
    slack: float


@compiled
def standing_of(
    state: State, promise: Promise, tuning: Tuning, levels: Levels, pending: Floats, extra: Floats
) -> Standing:
    """Return where the balance stands; `pending` (M,) answers still wait for feedback."""
    balance = balance_with_pending(state, promise, levels, pending)
    slack = slack_of(promise, tuning, levels, extra)
    reserve = reserve_of(state, tuning, slack)
    setpoint = setpoint_of(state, tuning, reserve)
    return Standing(balance, setpoint, reserve, setpoint - tuning.line * reserve, slack)


@compiled
def hopes(promise: Promise, tuning: Tuning, levels: Levels, standing: Standing, extra: Floats, bonus: Floats) -> None:
    """Write b of each model into `bonus` (M,)."""
    curiosity = min(1.0, max(0.0, (standing.balance - standing.line) / (tuning.line * standing.reserve)))
    hope = max(curiosity, needed_hope(promise, levels, extra))
    for model in range(len(bonus)):
        bonus[model] = hope * levels.deviation[model]


@compiled
def choose(state: State, promise: Promise, tuning: Tuning, z: Floats, prices: Prices, coin: float) -> Choice:
    """Return the choice for the prompt `z` (WIDTH,), and record it; `coin` is uniform in 0..1 and decides on trials."""
    models = len(prices.extra)
    levels, trust = levels_of(state, promise, tuning), trust_of(state)
    predicted, cost = np.empty(models), np.empty(models)
    value, bonus = np.empty(models), np.empty(models)
    predict(state, levels, trust, z, predicted)
    expected_costs(state, tuning, z, prices.reading, cost)
    remember_prompt(state, z, prices.reading)
    pending = count_pending(state, tuning)
    extra = hold_back(state, promise, tuning, pending, prices.extra)
    standing = standing_of(state, promise, tuning, levels, pending, extra)
    hopes(promise, tuning, levels, standing, extra, bonus)
    largest = largest_price(state, cost, standing.slack)
    if is_solving_due(state):
        state.ledger.base_price = solve(state, promise, tuning, levels, bonus, trust, largest)
    guarded = standing.balance < standing.line
    price = price_of(state, promise, standing.balance - standing.setpoint, standing.reserve, largest)
    if guarded:
        price = max(price, largest * rise(max(0.0, min(0.0, standing.line) - standing.balance), standing.reserve))
    for model in range(models):
        value[model] = min(1.0, (levels.mean[model] if guarded else predicted[model]) + bonus[model])
    best = least(cost + extra, value, price, state.mean_cost)
    held_back = least(cost + prices.extra, value, price, state.mean_cost) != best
    odds = np.zeros(models)
    odds[best] = 1.0
    if not guarded:
        odds = odds_of(state, promise, tuning, extra, best)
    served = draw(odds, coin)
    state.ledger.trial_cost += cost_of_trial(state, extra, best, served)
    record_served(state, served)
    return Choice(served, predicted, cost, value, odds, price, standing.balance, best, guarded, held_back)
