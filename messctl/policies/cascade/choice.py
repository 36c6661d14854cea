"""The choice: which model is asked first, and at which price λ the next steps are weighed.

Balance, reserve, setpoint and guard are the bandit's. Each model's level is the running mean of its predictions; that
counts for as many answers as are known of it, `trust` at most, beside those that were asked alone. λ₀ is found on a
grid of prices: the running mean of what plans promise at each price says where they attain α.

Below the guard's line, and with any debt, λ is at least the largest price. Predictions are doubted if the best model
would need more than `doubt` requests to pay the debt back, each by the slack: then one model is asked, by the levels
alone, as the bandit's guard does. A trial asks one model alone, too.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from messctl.learning.compiled import compiled
from messctl.policies.bandit.choice import Prices, hopes, standing_of
from messctl.policies.bandit.choice import choose as choose_one
from messctl.policies.bandit.costs import expected_costs
from messctl.policies.bandit.linear import dot
from messctl.policies.bandit.pending import count_pending, hold_back, record_served
from messctl.policies.bandit.price import largest_price, least, rise
from messctl.policies.bandit.satisfaction import Levels, least_variance
from messctl.policies.bandit.state import RECENT_PROMPTS, Promise, State
from messctl.policies.bandit.trials import affordable_models, cost_of_trial
from messctl.policies.bandit.tuning import Tuning as BanditTuning
from messctl.policies.base import Floats
from messctl.policies.cascade.agreement import agree, are_scarce
from messctl.policies.cascade.beliefs import BINS, PLANNED, PRICES, RIGHT, WRONG, Beliefs
from messctl.policies.cascade.confidence import likelihoods
from messctl.policies.cascade.difficulty import STEPS, Odds, by_difficulty, nothing_asked
from messctl.policies.cascade.plan import Prospects, first_ask, unknown_worth
from messctl.policies.cascade.rules import Rules
from messctl.policies.cascade.tuning import Tuning

LOWEST, HIGHEST = math.log(1e-3), math.log(1e2)
"""[largest mean costs] The grid of prices lies between these, in equal steps of the logarithm."""
EDGE = 0.02
"""[share of what the grid attains] λ₀ is not sought nearer to its ends."""


class Way(NamedTuple):
    """How a request may go on after its first answer.

    `price` is λ. `alone` tells that no other model may be asked: a trial, or the guard in doubt. `planned` tells that
    the plan, too, asks this model first. `alone_chance` is the probability that this model is asked alone, and
    `planned_chance` that the request goes by the plan.
    """

    price: float
    alone: bool
    planned: bool
    alone_chance: float
    planned_chance: float


class First(NamedTuple):
    """The model to ask first, the way it goes on, and what the choice was made of; arrays are (M,).

    `best` is the model that the plan, or the guard, asks first.
    """

    model: int
    way: Way
    predicted: Floats
    cost: Floats
    balance: float
    best: int
    guarded: bool


@compiled
def choose_alone(state: State, promise: Promise, bandit: BanditTuning, z: Floats, prices: Prices, coin: float) -> First:
    """Return the bandit's own choice, of one model that is asked alone."""
    choice = choose_one(state, promise, bandit, z, prices, coin)
    way = Way(choice.price, True, choice.model == choice.best, choice.odds[choice.model], 0.0)
    return First(choice.model, way, choice.predicted, choice.cost, choice.balance, choice.best, choice.guarded)


@compiled
def levels_of(state: State, beliefs: Beliefs, promise: Promise, tuning: BanditTuning, looks: Tuning) -> Levels:
    """Return what is known of models without looking at the prompt."""
    models = len(beliefs.level)
    mean, deviation = np.empty(models), np.empty(models)
    variance = max(least_variance(tuning), state.ledger.variance)
    for model in range(models):
        believed = tuning.prior + min(tuning.trust, beliefs.known[model])
        answers = state.answers[model] + believed
        total = state.satisfaction_sum[model] + believed * beliefs.level[model]
        if model == promise.reference:
            answers += looks.trust
            total += looks.trust * (promise.alpha + tuning.hope * (1.0 - promise.alpha))
        mean[model] = min(1.0, total / answers)
        deviation[model] = math.sqrt(variance / answers)
    return Levels(mean, deviation)


@compiled
def ability(beliefs: Beliefs, model: int, wide: Floats) -> float:
    """Return a_m(z), the logit of being right at the mean difficulty."""
    return dot(beliefs.shared_weight, wide) + dot(beliefs.own_weight[model], wide)


@compiled
def odds_of(beliefs: Beliefs, tuning: Tuning, wide: Floats, predicted: Floats) -> Odds:
    """Return the odds of answers to the prompt, and write each model's mean of being right into `predicted` (M,)."""
    right = np.empty((len(predicted), STEPS))
    for model in range(len(predicted)):
        predicted[model] = by_difficulty(ability(beliefs, model, wide), tuning.spread, right[model])
    if are_scarce(beliefs, tuning):
        return Odds(right, 0.0, 0.0)
    return Odds(right, agree(beliefs, WRONG, wide), agree(beliefs, RIGHT, wide))


@compiled
def prospects_of(beliefs: Beliefs, tuning: Tuning, odds: Odds, cost: Floats) -> Prospects:
    """Return what may come; `cost` (M,) is infinite for models that cannot be asked."""
    models = len(cost)
    tells, has_confidence = np.ones((models, 2, BINS)), np.zeros(models)
    for model in range(models):
        if likelihoods(beliefs, tuning, model, tells[model]):
            has_confidence[model] = 1.0
    return Prospects(cost, odds, tells, has_confidence)


@compiled
def grid_price(at: int) -> float:
    """Return the price in place `at` of the grid, in units of the largest mean cost."""
    return math.exp(LOWEST + (HIGHEST - LOWEST) * at / (PRICES - 1))


@compiled
def base_price(beliefs: Beliefs, promise: Promise, tuning: BanditTuning) -> float:
    """Return λ₀ in units of the largest mean cost: the geometric mean of the prices just below and above α."""
    low, high = beliefs.curve[0], beliefs.curve[PRICES - 1]
    edge, logarithm = EDGE * (high - low), 0.0
    for step in (-tuning.resolution, tuning.resolution):
        target = min(high - edge, max(low + edge, promise.alpha + step))
        at = 0
        while at < PRICES - 1 and beliefs.curve[at] < target:
            at += 1
        place = float(at)
        if at > 0:
            gained = max(1e-9, beliefs.curve[at] - beliefs.curve[at - 1])
            place = at - 1 + min(1.0, max(0.0, (target - beliefs.curve[at - 1]) / gained))
        logarithm += 0.5 * (LOWEST + (HIGHEST - LOWEST) * place / (PRICES - 1))
    return math.exp(logarithm)


@compiled
def plan_first(beliefs: Beliefs, asks: int, prospects: Prospects, scale: float, price: float) -> int:
    """Return the model that a plan asks first at `price`, and learn what plans promise at each price of the grid."""
    prices = np.empty(PRICES + 1)
    for at in range(PRICES):
        prices[at] = scale * grid_price(at)
    prices[PRICES] = price
    best, worth, room = -1, unknown_worth(prices), nothing_asked()
    most, promised = np.full(PRICES + 1, -np.inf), np.zeros(PRICES + 1)
    for model in range(len(prospects.cost)):
        if prospects.cost[model] == np.inf:
            continue
        first_ask(room, asks, model, prospects, prices, worth)
        for at in range(PRICES + 1):
            if worth.value[at] > most[at]:
                most[at], promised[at] = worth.value[at], worth.satisfaction[at]
                if at == PRICES:
                    best = model
    beliefs.tally[PLANNED] += 1.0
    for at in range(PRICES):
        beliefs.curve[at] += (promised[at] - beliefs.curve[at]) / min(beliefs.tally[PLANNED], float(RECENT_PROMPTS))
    return best


@compiled
def choose(state: State, beliefs: Beliefs, rules: Rules, wide: Floats, prices: Prices, coin: float) -> First:
    """Return the model to ask first for the prompt `wide` (WIDE,), and record it; `coin` in 0..1 decides on trials."""
    promise, bandit, tuning = rules.promise, rules.bandit, rules.looks
    if rules.asks < 2 or are_scarce(beliefs, tuning):
        return choose_alone(state, promise, bandit, wide[:-1], prices, coin)
    models, z = len(prices.extra), wide[:-1]
    predicted, cost, bonus = np.empty(models), np.empty(models), np.empty(models)
    odds = odds_of(beliefs, tuning, wide, predicted)
    decided = min(float(state.tally.decided + 1), float(RECENT_PROMPTS))
    for model in range(models):
        beliefs.level[model] += (predicted[model] - beliefs.level[model]) / decided
    expected_costs(state, bandit, z, prices.reading, cost)
    levels = levels_of(state, beliefs, promise, bandit, tuning)
    pending = count_pending(state, bandit)
    extra = hold_back(state, promise, bandit, pending, prices.extra)
    standing = standing_of(state, promise, bandit, levels, pending, extra)
    largest = largest_price(state, cost, standing.slack)
    scale = max(1e-300, state.mean_cost.max())
    price = largest
    if beliefs.tally[PLANNED] > 0.0:
        surplus = standing.balance - standing.setpoint
        price = min(largest, scale * base_price(beliefs, promise, bandit) * rise(-surplus, standing.reserve))
    guarded = standing.balance < max(0.0, standing.line)
    if guarded:
        price = max(price, largest * rise(max(0.0, -standing.balance), standing.reserve))
    if -standing.balance > tuning.doubt * standing.slack:
        hopes(promise, bandit, levels, standing, extra, bonus)
        best = least(cost + extra, np.minimum(1.0, levels.mean + bonus), price, state.mean_cost)
        record_served(state, best)
        return First(best, Way(price, True, True, 1.0, 0.0), predicted, cost, standing.balance, best, guarded)
    prospects = prospects_of(beliefs, tuning, odds, cost + extra)
    best = plan_first(beliefs, rules.asks, prospects, scale, price)
    if guarded:
        record_served(state, best)
        return First(best, Way(price, False, True, 0.0, 1.0), predicted, cost, standing.balance, best, guarded)
    return maybe_try(
        state,
        promise,
        bandit,
        extra,
        First(best, Way(price, False, True, 0.0, 1.0), predicted, cost, standing.balance, best, False),
        coin,
    )


@compiled
def maybe_try(state: State, promise: Promise, bandit: BanditTuning, extra: Floats, first: First, coin: float) -> First:
    """Return the choice with its odds; or, if the `coin` says so, a trial of a model that is asked alone."""
    affordable = affordable_models(state, promise, bandit, extra, first.best)
    each = bandit.trial_rate / max(1, affordable.sum())
    model, alone = first.best, False
    if coin >= 1.0 - bandit.trial_rate:
        place = int((coin - (1.0 - bandit.trial_rate)) / bandit.trial_rate * affordable.sum())
        for other in range(len(affordable)):
            if affordable[other]:
                if place == 0:
                    model, alone = other, True
                place -= 1
        state.ledger.trial_cost += cost_of_trial(state, extra, first.best, model)
    record_served(state, model)
    alone_chance = each if affordable[model] else 0.0
    way = Way(first.way.price, alone, model == first.best, alone_chance, 1.0 - bandit.trial_rate)
    return First(model, way, first.predicted, first.cost, first.balance, first.best, first.guarded)
