"""The plan: what asking a model is worth, if others may be asked after it.

After each answer the next step is the one with the best of λ·P(the shown answer is right) − cost: to stop and show the
answer that is believed most, or to ask one more model. What was paid counts no more. A plan looks ahead over every
group that an answer may join, and every bin of its confidence; at the last ask, over the groups alone.

Every value is computed for several prices λ at once: the decision needs one, and λ₀ is found on a grid of others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from messctl.learning.compiled import compiled
from messctl.policies.base import Floats
from messctl.policies.cascade.beliefs import BINS
from messctl.policies.cascade.difficulty import (
    MOST,
    STEPS,
    Asked,
    Odds,
    believed_after,
    groups_of,
    joint,
    most_believed,
)

NEGLIGIBLE = 1e-6
"""[probability] What is less likely is not looked at."""


class Prospects(NamedTuple):
    """What may come: `cost` (M,) of each model's answer, infinite for one that cannot be asked; and the odds.

    `tells` (M, 2, BINS) are the likelihoods of each bin of confidence; `has_confidence` (M,) is 0 if there are none.
    """

    cost: Floats
    odds: Odds
    tells: Floats
    has_confidence: Floats


class Worth(NamedTuple):
    """What a step is worth at each price, (prices,): `value` = λ·satisfaction − cost, and the `satisfaction`."""

    value: Floats
    satisfaction: Floats


@compiled
def unknown_worth(prices: Floats) -> Worth:
    """Return room for a worth."""
    return Worth(np.zeros(len(prices)), np.zeros(len(prices)))


@compiled
def set_stop(worth: Worth, prices: Floats, satisfaction: float) -> None:
    """Write what it is worth to show an answer now."""
    for at in range(len(prices)):
        worth.value[at] = prices[at] * satisfaction
        worth.satisfaction[at] = satisfaction


@compiled
def keep_better(worth: Worth, other: Worth) -> None:
    """Keep, at each price, the better of two steps in `worth`."""
    for at in range(len(worth.value)):
        if other.value[at] > worth.value[at]:
            worth.value[at] = other.value[at]
            worth.satisfaction[at] = other.satisfaction[at]


@compiled
def can_ask(asked: Asked, count: int, prospects: Prospects, model: int) -> bool:
    """Tell whether a model can be asked, and was not yet."""
    for at in range(count):
        if asked.model[at] == model:
            return False
    return prospects.cost[model] < np.inf


@compiled
def at_most_one_more(
    asked: Asked, count: int, cases: Floats, left: int, prospects: Prospects, prices: Floats, worth: Worth
) -> None:
    """Write what it is worth to stop, or, if some are `left`, to ask one more model and stop."""
    _, now = most_believed(count, cases)
    set_stop(worth, prices, now)
    if left < 1:
        return
    for model in range(len(prospects.cost)):
        if can_ask(asked, count, prospects, model):
            after = believed_after(asked, count, cases, prospects.odds, model)
            if after > now:
                for at in range(len(prices)):
                    value = prices[at] * after - prospects.cost[model]
                    if value > worth.value[at]:
                        worth.value[at] = value
                        worth.satisfaction[at] = after


@compiled
def ask_then_look(
    asked: Asked, count: int, left: int, model: int, prospects: Prospects, prices: Floats, worth: Worth
) -> None:
    """Write what it is worth to ask `model` now, and then to stop or to ask at most one more.

    `left` asks are allowed, this one included.
    """
    cases = np.empty((1 << MOST, STEPS))
    likely = joint(asked, count, prospects.odds, -1, 0.0, cases) if count > 0 else 1.0
    groups = groups_of(asked, count)
    then = unknown_worth(prices)
    asked.model[count] = model
    for at in range(len(prices)):
        worth.value[at] = -prospects.cost[model]
        worth.satisfaction[at] = 0.0
    bins = BINS if prospects.has_confidence[model] > 0.0 else 1
    for joined in range(groups + 1):
        asked.group[count] = joined
        for each in range(bins):
            for kind in range(2):
                asked.tells[count, kind] = prospects.tells[model, kind, each] if bins > 1 else 1.0
            chance = joint(asked, count + 1, prospects.odds, -1, 0.0, cases) / likely / bins if likely > 0.0 else 0.0
            if chance < NEGLIGIBLE:
                continue
            at_most_one_more(asked, count + 1, cases, left - 1, prospects, prices, then)
            for at in range(len(prices)):
                worth.value[at] += chance * then.value[at]
                worth.satisfaction[at] += chance * then.satisfaction[at]


@compiled
def after_first(asked: Asked, left: int, prospects: Prospects, prices: Floats, worth: Worth) -> None:
    """Write what it is worth, after the first answer, to stop or to go on with `left` asks."""
    cases = np.empty((1 << MOST, STEPS))
    joint(asked, 1, prospects.odds, -1, 0.0, cases)
    if left < 2:
        at_most_one_more(asked, 1, cases, left, prospects, prices, worth)
        return
    _, now = most_believed(1, cases)
    set_stop(worth, prices, now)
    second, first = unknown_worth(prices), asked.model[0]
    for model in range(len(prospects.cost)):
        if not can_ask(asked, 1, prospects, model):
            continue
        # Without confidence the order does not matter, except for what is paid: the cheaper model goes first.
        unordered = prospects.has_confidence[first] == 0.0 and prospects.has_confidence[model] == 0.0
        if unordered and prospects.cost[model] < prospects.cost[first]:
            continue
        ask_then_look(asked, 1, left, model, prospects, prices, second)
        keep_better(worth, second)


@compiled
def first_ask(asked: Asked, asks: int, model: int, prospects: Prospects, prices: Floats, worth: Worth) -> None:
    """Write what it is worth to ask `model` first, if `asks` ≥ 1 models may be asked in all."""
    then = unknown_worth(prices)
    asked.model[0], asked.group[0] = model, 0
    for at in range(len(prices)):
        worth.value[at] = -prospects.cost[model]
        worth.satisfaction[at] = 0.0
    cases = np.empty((1 << MOST, STEPS))
    bins = BINS if prospects.has_confidence[model] > 0.0 else 1
    for each in range(bins):
        for kind in range(2):
            asked.tells[0, kind] = prospects.tells[model, kind, each] if bins > 1 else 1.0
        chance = joint(asked, 1, prospects.odds, -1, 0.0, cases) / bins
        after_first(asked, asks - 1, prospects, prices, then)
        for at in range(len(prices)):
            worth.value[at] += chance * then.value[at]
            worth.satisfaction[at] += chance * then.satisfaction[at]


@compiled
def next_ask(asked: Asked, count: int, asks: int, prospects: Prospects, price: float) -> int:
    """Return the model to ask after `count` ≥ 1 answers, −1 to stop; `asks` is how many may be asked in all."""
    left = asks - count
    if left < 1:
        return -1
    cases = np.empty((1 << MOST, STEPS))
    joint(asked, count, prospects.odds, -1, 0.0, cases)
    _, now = most_believed(count, cases)
    best, most = -1, price * now
    prices = np.full(1, price)
    worth = unknown_worth(prices)
    for model in range(len(prospects.cost)):
        if not can_ask(asked, count, prospects, model):
            continue
        if left >= 2:
            ahead = Asked(asked.model.copy(), asked.group.copy(), asked.tells.copy())
            ask_then_look(ahead, count, left, model, prospects, prices, worth)
            value = worth.value[0]
        else:
            value = price * believed_after(asked, count, cases, prospects.odds, model) - prospects.cost[model]
        if value > most:
            best, most = model, value
    return best
