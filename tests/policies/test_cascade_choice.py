"""The cascade's choices: λ, a debt, trials, and how likely it is that exactly these models were asked."""

from collections import Counter

import numpy as np
import pytest
from bandit_states import KNOWN, PLAIN, state_with

from messctl.learning.compiled import plainly
from messctl.policies.bandit.balance import reserve_of, slack_of
from messctl.policies.bandit.choice import Prices
from messctl.policies.bandit.tuning import Tuning as BanditTuning
from messctl.policies.cascade import beliefs, choice
from messctl.policies.cascade.choice import First, Way
from messctl.policies.cascade.look import look, nothing_seen
from messctl.policies.cascade.rules import Rules
from messctl.policies.cascade.tuning import Tuning

WIDE_PLAIN = np.append(PLAIN, 1.0)
NOTHING = Prices(np.zeros(3), np.zeros(3))
"""Nothing is known of a request's cost in advance, and every model can be asked."""


@pytest.fixture(autouse=True)
def _plain():
    """Run everything in its plain form: to compile it takes longer than all of this."""
    with plainly():
        yield


def known(balance, asks=3):
    """A state, beliefs and rules: three models of rising cost, of means 0.5, 0.7 and 0.9; α is 0.8."""
    means, cost = [0.5, 0.7, 0.9], [1.0, 2.0, 30.0]
    state, promise, _ = state_with(means, cost, [KNOWN] * 3)
    state.ledger.balance = balance
    believed = beliefs.fresh(3, 2, 0.8, 0.4, Tuning())
    believed.tally[beliefs.PLANNED] = 100.0
    believed.curve[:] = np.linspace(0.5, 0.95, beliefs.PRICES)
    believed.level[:] = means
    return state, believed, Rules(promise, BanditTuning(), Tuning(), asks)


def chosen(balance, asks=3, coin=0.5):
    return choice.choose(*known(balance, asks), WIDE_PLAIN, NOTHING, coin)


def slack():
    state, believed, rules = known(0.0)
    levels = choice.levels_of(state, believed, rules.promise, rules.bandit, rules.looks)
    return slack_of(rules.promise, rules.bandit, levels, np.zeros(3))


def test_the_price_falls_e_fold_with_every_reserve_of_surplus():
    state, _, rules = known(0.0)
    reserve = reserve_of(state, rules.bandit, slack())
    prices = [chosen(balance).way.price for balance in (6.0, 6.0 + reserve, 6.0 + 3 * reserve)]
    assert prices == pytest.approx([prices[0], prices[0] / np.e, prices[0] / np.e**3], rel=0.05)


@pytest.mark.parametrize(("requests", "alone"), [(0.1, False), (19.9, False), (20.1, True), (1000.0, True)])
def test_if_a_debt_takes_more_than_20_requests_to_pay_the_model_with_the_best_level_answers_alone(requests, alone):
    first = chosen(-requests * slack())
    assert (first.guarded, first.way.alone) == (True, alone)
    if alone:
        assert (first.model, first.best, first.way.alone_chance) == (2, 2, 1.0)


def test_a_trial_of_a_single_ask_is_not_what_was_planned():
    firsts = [chosen(30.0, asks=1, coin=coin) for coin in np.linspace(0.0, 0.999, 200)]
    assert {first.model == first.best for first in firsts} == {True, False}
    for first in firsts:
        assert first.way.planned == (first.model == first.best)


def test_a_trial_is_as_likely_as_its_chance_says():
    """With coins from 0 to 1 in equal steps, and one model too expensive to be tried."""
    state, _, rules = known(30.0)
    counts, chances, coins = Counter(), {}, (np.arange(3000) + 0.5) / 3000
    for coin in coins:
        first = First(1, Way(5.0, False, True, 0.0, 1.0), np.zeros(3), np.zeros(3), 30.0, 1, False)
        tried = choice.maybe_try(state, rules.promise, rules.bandit, np.zeros(3), first, coin)
        counts[tried.model, tried.way.alone] += 1
        chances[tried.model, tried.way.alone] = tried.way.alone_chance if tried.way.alone else tried.way.planned_chance
    assert set(counts) == {(0, True), (1, True), (1, False)}
    for way, count in counts.items():
        assert count / len(coins) == pytest.approx(chances[way], abs=1e-3)
    assert sum(chances.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("price", "alone", "planned", "goes_on", "chance"),
    [
        (0.0, False, True, False, 0.99),  # a trial would have asked the same model, and nobody else
        (1e9, False, True, True, 0.98),
        (0.0, True, True, False, 0.99),  # the plan would have stopped here, too
        (1e9, True, True, False, 0.01),  # the plan would have gone on
        (0.0, True, False, False, 0.01),  # the plan would have begun with another model
    ],
)
def test_the_chance_of_what_was_asked_counts_every_way_to_it(price, alone, planned, goes_on, chance):
    seen = nothing_seen()
    step = look(*known(30.0), WIDE_PLAIN, NOTHING, Way(price, alone, planned, 0.01, 0.98), seen, 1)
    assert (step.next >= 0, step.shown) == (goes_on, 0)
    assert step.chance == pytest.approx(chance)
