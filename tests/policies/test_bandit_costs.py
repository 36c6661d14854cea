"""Tests of what `bandit` expects an answer to cost: what is known beforehand, and what experience adds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import arbitrary_rounds, learnable, prompts_for, told

from messctl.policies.bandit import Bandit
from messctl.policies.bandit.costs import (
    BY_KNOWN,
    BY_MEAN,
    BY_RIDGE,
    best_way,
    expected_costs,
    foretold,
    pay,
    properties_of,
)
from messctl.policies.bandit.policy import COSTS
from messctl.policies.bandit.prompt import BUCKETS, PROPERTIES
from messctl.policies.bandit.state import ERRORS, RECALLED, REST, SOLVED, Tuning, fresh
from messctl.records import Request
from messctl.replay.play import drive
from messctl.zoo import Settings

few = settings(max_examples=15, deadline=None)
WIDTH = 1 + BUCKETS + PROPERTIES
amounts = st.floats(0.0, 1e3).map(lambda number: round(number, 3))
ways = pytest.mark.parametrize("way", [BY_KNOWN, BY_RIDGE, BY_MEAN])


def paid(costs, known, seed=0, tuning=None):
    """The state of one model once it was paid so much, by prompts of any properties."""
    state, rng = fresh(1, Tuning()), np.random.default_rng(seed)
    for cost, part in zip(costs, known, strict=True):
        pay(state, tuning or Tuning(), 0, rng.normal(0, 0.3, WIDTH), part, cost)
    return state


@pytest.mark.parametrize(("rate", "delay"), [(1.0, 0), (0.5, 7), (1.0, 500)])
def test_both_drivers_take_the_same_decisions(rate, delay):
    """To the last bit, what was expected of each model's cost included."""
    rounds, prompts = told(learnable(400)), prompts_for(400)
    arranged = rounds.arranged(seed=5, shuffle=True, feedback_rate=rate, feedback_delay=delay)
    policy, played = Bandit(rounds.zoo, Settings(alpha=0.85)), Bandit(rounds.zoo, Settings(alpha=0.85))
    steps, play = list(drive(policy, arranged, prompts)), played.play_on(arranged)
    assert [rounds.zoo.index(decision.served) for decision, _ in steps] == play.served.tolist()
    for name, array in policy._state._asdict().items():
        assert getattr(played._state, name).tobytes() == array.tobytes(), name


@given(rounds=arbitrary_rounds(), power=st.integers(-8, 8))
@few
def test_the_unit_of_cost_does_not_matter(rounds, power):
    policy, one = Bandit(rounds.zoo, Settings(alpha=0.6)), told(rounds)
    other = replace(one, cost=one.cost * 2.0**power, prompt_cost=one.prompt_cost * 2.0**power)
    assert policy.play(one).served.tolist() == policy.play(other).served.tolist()


def test_rows_of_rounds_keep_what_is_told():
    rounds = told(learnable(50))
    rows = np.array([7, 3, 3])
    assert rounds.rows(rows).prompt_cost.tolist() == rounds.prompt_cost[rows].tolist()
    assert learnable(50).rows(rows).prompt_cost is None


def test_to_be_told_nothing_is_to_be_told_0():
    rounds = learnable(300)
    nothing = replace(rounds, prompt_cost=np.zeros_like(rounds.cost))
    one, other = (Bandit(rounds.zoo, Settings(alpha=0.85)).play(each) for each in (rounds, nothing))
    assert one.served.tolist() == other.served.tolist()


@given(
    pairs=st.lists(st.tuples(amounts, amounts), min_size=2, max_size=12), share=st.floats(0, 1), both=amounts, way=...
)
@few
def test_what_reading_costs_all_alike_does_not_change_which_is_cheapest(
    pairs: list[tuple[float, float]], share: float, both: float, way: bool
) -> None:
    """Two models whose costs are told in the same way, of a prompt of any length."""
    state, rng = fresh(2, Tuning()), np.random.default_rng(0)
    for one, other in pairs:
        z, known = rng.normal(0, 0.3, WIDTH), share * min(one, other)
        for model, cost in enumerate((one, other)):
            pay(state, Tuning(), model, z, known, cost)
    state.costs[:, ERRORS:] = 1.0
    state.costs[:, ERRORS + int(way)] = 0.0
    z, plain, more = rng.normal(0, 0.3, WIDTH), np.empty(2), np.empty(2)
    expected_costs(state, Tuning(), z, np.full(2, 0.0), plain)
    expected_costs(state, Tuning(), z, np.full(2, both), more)
    assert more == pytest.approx(plain + both, abs=1e-9)


@given(st.lists(st.tuples(amounts, st.floats(0, 2)), min_size=1, max_size=12), st.floats(0, 1e6), st.integers(0, 9))
@few
def test_what_is_known_is_not_clipped_and_the_ridge_is(costs, known, seed):
    """Reading fifty times as much costs fifty times as much; the rest stays within a factor 4 of its mean."""
    state = paid([cost for cost, _ in costs], [cost * share for cost, share in costs], seed)
    properties = properties_of(np.random.default_rng(seed + 1).normal(0, 5, WIDTH))
    rest = np.mean([cost - cost * share for cost, share in costs])
    assert state.costs[0, REST] == pytest.approx(rest, rel=1e-6, abs=1e-6)
    told_by = [foretold(state, 0, properties, known, way) for way in range(3)]
    assert told_by[BY_MEAN] == state.mean_cost[0] == pytest.approx(np.mean([cost for cost, _ in costs]))
    assert told_by[BY_KNOWN] == pytest.approx(max(known / 4, known + rest), rel=1e-6, abs=1e-6)
    low, high = sorted((rest / 4, rest * 4))
    assert max(known / 4, known + low) - 1e-6 <= told_by[BY_RIDGE] <= max(known / 4, known + high) + 1e-6


def test_every_way_is_judged_before_it_learns_and_the_best_is_taken():
    rng = np.random.default_rng(4)
    state, tuning, errors = fresh(1, Tuning()), Tuning(memory=20.0), np.zeros(3)
    for count in range(60):
        z, known, cost = rng.normal(0, 0.3, WIDTH), rng.exponential(5.0), rng.exponential(9.0)
        if count:  # of the first answer nothing could be told
            beforehand = [foretold(state, 0, properties_of(z), known, way) for way in range(3)]
            errors = errors * (1 - 1 / 20) + np.abs(cost - np.array(beforehand))
        pay(state, tuning, 0, z, known, cost)
        assert state.costs[0, ERRORS:] == pytest.approx(errors)
        assert best_way(state, 0) == errors.argmin()


@ways
def test_the_way_that_tells_best_is_found(way):
    """What was known is the most of the cost; or it and the prompt's look are; or it says nothing."""
    rng, state, z = np.random.default_rng(0), fresh(1, Tuning()), np.zeros(WIDTH)
    for _ in range(200):
        z[-1], known = rng.uniform(-1, 1), rng.exponential(50.0)
        rest = {BY_KNOWN: 10.0 + rng.normal(), BY_RIDGE: 10.0 + 8.0 * z[-1], BY_MEAN: 70.0 - known}[way]
        pay(state, Tuning(), 0, z, known, known + rest)
    assert best_way(state, 0) == way
    off, cost = Tuning(prompt_costs=False), np.empty(1)
    expected_costs(state, off, z, np.array([5.0]), cost)
    assert cost[0] == state.mean_cost[0]


def test_a_model_never_asked_costs_what_is_known_of_it():
    rounds = told(learnable(5))
    decision = Bandit(rounds.zoo, Settings()).decide(Request("r", "what?", prompt_cost={"large": 3.0}))
    assert decision.weighed.terms["expected cost"] == {"large": 3.0, "middle": 0.0, "small": 0.0}


def test_the_price_is_solved_for_the_recent_prompts_as_they_were_known_to_cost():
    """λ₀ lies midway, in logarithms, between where they would attain a point less than α and a point more.

    Recomputed from the state, by another search.
    """
    alpha, rounds = 0.8, told(learnable(600))
    policy = Bandit(rounds.zoo, Settings(alpha=alpha))
    policy.play_on(rounds)
    state = policy._state
    state.ledger[SOLVED] = -1.0
    snapshot = policy.snapshot()
    again = Bandit(rounds.zoo, Settings(alpha=alpha), snapshot)
    again.decide(Request("next", "what is", prompt_cost={"small": 900.0, "middle": 1.0, "large": 2.0}))
    state, costs, chances = again._state, np.empty((128, 3)), np.empty((128, 3))
    assert state.counts[RECALLED] == 601
    assert state.recent_known[:, 600 % 128].tolist() == [2.0, 1.0, 900.0]
    weights = again.weights
    for at in range(128):
        expected_costs(state, Tuning(), state.recent[at], np.ascontiguousarray(state.recent_known[:, at]), costs[at])
        chances[at] = np.clip(weights.bias + weights.weight @ state.recent[at, 1:], 0, 1)

    def attained(price):
        return chances[np.arange(128), (costs - price * chances).argmin(axis=1)].mean()

    def least(target):
        low, high = 1e-3, 1e6
        while high / low > 1 + 1e-9:
            price = (low * high) ** 0.5
            low, high = (price, high) if attained(price) < target else (low, price)
        return high

    assert least(alpha - 0.01) < least(alpha + 0.01)
    assert state.ledger[SOLVED] == pytest.approx((least(alpha - 0.01) * least(alpha + 0.01)) ** 0.5, rel=1e-5)


def test_what_a_prompt_costs_to_read_is_worth_knowing():
    """Where conversations grow, and a question does not show how long the one before it was."""
    spent, levels = {True: 0.0, False: 0.0}, []
    for seed in range(4):
        rounds, rng = learnable(2000, seed), np.random.default_rng(seed)
        reading = rng.lognormal(0.0, 1.5, (2000, 1)) * np.array([20.0, 4.0, 1.0])  # large, middle, small
        rounds = replace(rounds, cost=reading + 0.2 * rounds.cost)
        for known in (True, False):
            given = replace(rounds, prompt_cost=reading if known else None)
            played = Bandit(rounds.zoo, Settings(alpha=0.88, seed=seed)).play(given)
            spent[known] += played.cost.mean()
            levels.append(played.attained)
    assert min(levels) >= 0.875
    assert spent[True] < 0.7 * spent[False]


def test_a_state_from_before_costs_were_told_loses_the_cost_ridge_alone():
    """Its arrays of answers are as they were; of costs the mean is trusted, until another way has shown better."""
    rounds, prompts = learnable(200), prompts_for(200)
    before = Bandit(rounds.zoo, Settings(alpha=0.85))
    list(drive(before, rounds, prompts))
    saved = before.snapshot()
    old = {
        name: replace(model, cost_arrays={name: model.cost_arrays[name] for name in ("cost_weight", "cost_cov")})
        for name, model in saved.models.items()
    }
    after = Bandit(rounds.zoo, Settings(alpha=0.85), replace(saved, models=old))
    for name, array in before._state._asdict().items():
        if name not in COSTS:
            assert getattr(after._state, name).tobytes() == array.tobytes(), name
    told_now = {"small": 9.0, "middle": 9.0, "large": 9.0}
    weighed = after.decide(Request("next", "what?", prompt_cost=told_now)).weighed
    assert weighed.terms["expected cost"] == {model: saved.models[model].mean_cost for model in rounds.zoo.models}
    for _ in range(40):
        pay(after._state, Tuning(), 0, np.zeros(WIDTH), 9.0, 10.0)
    assert best_way(after._state, 0) != BY_MEAN
