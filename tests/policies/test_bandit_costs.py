"""Tests of the cost that `bandit` expects of an answer: what is known in advance, and what it learns."""

from dataclasses import replace

import numpy as np
import pytest
from driving import drive
from hypothesis import given, settings
from hypothesis import strategies as st
from making import arbitrary_rounds, learnable, prompts_for, with_reading_costs

from messctl.policies.bandit import Bandit
from messctl.policies.bandit.choice import hopes, standing_of
from messctl.policies.bandit.costs import (
    BY_MEAN,
    BY_READING,
    BY_RIDGE,
    best_method,
    expected_costs,
    learn_cost,
    predicted_cost,
    properties_of,
)
from messctl.policies.bandit.policy import COSTS
from messctl.policies.bandit.satisfaction import levels_of
from messctl.policies.bandit.state import RECENT_PROMPTS, UNSOLVED, WIDTH, fresh
from messctl.policies.bandit.tuning import Tuning
from messctl.records import Request
from messctl.zoo import Settings

few = settings(max_examples=15, deadline=None)
amounts = st.floats(0.0, 1e3).map(lambda number: round(number, 3))
every_method = pytest.mark.parametrize("method", [BY_READING, BY_RIDGE, BY_MEAN])


def state_after(costs, reading, seed=0):
    """The state of one model after these costs, of which `reading` was known, for prompts of any properties."""
    state, rng = fresh(1, 0.8, Tuning()), np.random.default_rng(seed)
    for cost, part in zip(costs, reading, strict=True):
        learn_cost(state, Tuning(), 0, rng.normal(0, 0.3, WIDTH), part, cost)
    return state


@pytest.mark.parametrize(("rate", "delay"), [(1.0, 0), (0.5, 7), (1.0, 500)])
def test_both_drivers_take_the_same_decisions(rate, delay):
    """To the last bit, the expected costs included."""
    rounds, prompts = with_reading_costs(learnable(400)), prompts_for(400)
    arranged = rounds.arranged(seed=5, shuffle=True, feedback_rate=rate, feedback_delay=delay)
    policy, played = Bandit(rounds.zoo, Settings(alpha=0.85)), Bandit(rounds.zoo, Settings(alpha=0.85))
    steps, play = list(drive(policy, arranged, prompts)), played.play_on(arranged)
    assert [rounds.zoo.index(decision.served) for decision, _ in steps] == play.served.tolist()
    for name, part in policy._state._asdict().items():
        assert getattr(played._state, name).tobytes() == part.tobytes(), name


@given(rounds=arbitrary_rounds(), power=st.integers(-8, 8))
@few
def test_the_unit_of_cost_does_not_matter(rounds, power):
    policy, one = Bandit(rounds.zoo, Settings(alpha=0.6)), with_reading_costs(rounds)
    other = replace(one, cost=one.cost * 2.0**power, prompt_cost=one.prompt_cost * 2.0**power)
    assert policy.play(one).served.tolist() == policy.play(other).served.tolist()


def test_rows_of_rounds_keep_their_prompt_costs():
    rounds = with_reading_costs(learnable(50))
    rows = np.array([7, 3, 3])
    assert rounds.rows(rows).prompt_cost.tolist() == rounds.prompt_cost[rows].tolist()
    assert learnable(50).rows(rows).prompt_cost is None


def test_unknown_prompt_costs_are_the_same_as_0():
    rounds = learnable(300)
    nothing = replace(rounds, prompt_cost=np.zeros_like(rounds.cost))
    one, other = (Bandit(rounds.zoo, Settings(alpha=0.85)).play(each) for each in (rounds, nothing))
    assert one.served.tolist() == other.served.tolist()


@given(
    pairs=st.lists(st.tuples(amounts, amounts), min_size=2, max_size=12),
    share=st.floats(0, 1),
    both=amounts,
    method=st.sampled_from([BY_READING, BY_RIDGE]),
)
@few
def test_a_reading_cost_that_all_models_share_does_not_change_which_is_cheapest(pairs, share, both, method):
    """Two models whose costs are predicted by the same method, for a prompt of any length."""
    state, rng = fresh(2, 0.8, Tuning()), np.random.default_rng(0)
    for one, other in pairs:
        z, reading = rng.normal(0, 0.3, WIDTH), share * min(one, other)
        for model, cost in enumerate((one, other)):
            learn_cost(state, Tuning(), model, z, reading, cost)
    state.cost_records["errors"][:] = 1.0
    state.cost_records["errors"][:, method] = 0.0
    z, plain, more = rng.normal(0, 0.3, WIDTH), np.empty(2), np.empty(2)
    expected_costs(state, Tuning(), z, np.full(2, 0.0), plain)
    expected_costs(state, Tuning(), z, np.full(2, both), more)
    assert more == pytest.approx(plain + both, abs=1e-9)


@given(st.lists(st.tuples(amounts, st.floats(0, 2)), min_size=1, max_size=12), st.floats(0, 1e6), st.integers(0, 9))
@few
def test_the_reading_cost_has_no_limit_but_the_ridge_has(costs, reading, seed):
    """Reading fifty times as much costs fifty times as much; the rest stays within a factor 4 of its mean."""
    state = state_after([cost for cost, _ in costs], [cost * share for cost, share in costs], seed)
    properties = properties_of(np.random.default_rng(seed + 1).normal(0, 5, WIDTH))
    rest = np.mean([cost - cost * share for cost, share in costs])
    assert state.cost_records[0].rest == pytest.approx(rest, rel=1e-6, abs=1e-6)
    predicted = [predicted_cost(state, Tuning(), 0, properties, reading, method) for method in range(3)]
    assert predicted[BY_MEAN] == state.mean_cost[0] == pytest.approx(np.mean([cost for cost, _ in costs]))
    assert predicted[BY_READING] == pytest.approx(max(reading / 4, reading + rest), rel=1e-6, abs=1e-6)
    low, high = sorted((rest / 4, rest * 4))
    assert max(reading / 4, reading + low) - 1e-6 <= predicted[BY_RIDGE] <= max(reading / 4, reading + high) + 1e-6


def test_each_method_is_measured_before_it_learns_and_the_best_one_is_used():
    rng = np.random.default_rng(4)
    state, tuning, errors = fresh(1, 0.8, Tuning()), Tuning(memory=20.0), np.zeros(3)
    for count in range(60):
        z, reading, cost = rng.normal(0, 0.3, WIDTH), rng.exponential(5.0), rng.exponential(9.0)
        if count:  # the first answer cannot be predicted
            predicted = [predicted_cost(state, Tuning(), 0, properties_of(z), reading, method) for method in range(3)]
            errors = errors * (1 - 1 / 20) + np.abs(cost - np.array(predicted))
        learn_cost(state, tuning, 0, z, reading, cost)
        assert state.cost_records[0].errors == pytest.approx(errors)
        assert best_method(state, 0) == errors.argmin()


@every_method
def test_the_method_that_predicts_best_is_found(method):
    """Reading makes up most of the cost; or reading and the prompt's properties do; or neither says anything."""
    rng, state, z = np.random.default_rng(0), fresh(1, 0.8, Tuning()), np.zeros(WIDTH)
    for _ in range(200):
        z[-1], reading = rng.uniform(-1, 1), rng.exponential(50.0)
        rest = {BY_READING: 10.0 + rng.normal(), BY_RIDGE: 10.0 + 8.0 * z[-1], BY_MEAN: 70.0 - reading}[method]
        learn_cost(state, Tuning(), 0, z, reading, reading + rest)
    assert best_method(state, 0) == method


def test_a_model_that_never_answered_is_expected_to_cost_its_reading():
    rounds = with_reading_costs(learnable(5))
    decision = Bandit(rounds.zoo, Settings()).decide(Request("r", "what?", prompt_cost={"large": 3.0}))
    assert decision.weighed.terms["expected cost"] == {"large": 3.0, "middle": 0.0, "small": 0.0}


def test_the_price_is_solved_for_the_recent_prompts_at_their_known_costs():
    """λ₀ lies midway, in logarithms, between the prices at which they attain a point less than α and a point more.

    Recomputed from the state, by another search.
    """
    alpha, rounds = 0.8, with_reading_costs(learnable(600))
    policy = Bandit(rounds.zoo, Settings(alpha=alpha))
    policy.play_on(rounds)
    policy._state.ledger.base_price = UNSOLVED
    snapshot = policy.snapshot()
    again = Bandit(rounds.zoo, Settings(alpha=alpha), snapshot)
    again.decide(Request("next", "what is", prompt_cost={"small": 900.0, "middle": 1.0, "large": 2.0}))
    state, costs, chances = again._state, np.empty((RECENT_PROMPTS, 3)), np.empty((RECENT_PROMPTS, 3))
    assert state.tally.prompts == 601
    assert state.recent_reading[:, 600 % RECENT_PROMPTS].tolist() == [2.0, 1.0, 900.0]
    weights, levels = again.weights, levels_of(state, again._promise, Tuning())
    for at, z in enumerate(state.recent_prompts):
        expected_costs(state, Tuning(), z, np.ascontiguousarray(state.recent_reading[:, at]), costs[at])
        chances[at] = np.clip(weights.bias + weights.weight @ z, 0, 1)
    standing = standing_of(state, again._promise, Tuning(), levels, np.zeros(3), np.zeros(3))
    bonus = np.empty(3)
    hopes(again._promise, Tuning(), levels, standing, np.zeros(3), bonus)
    hoped = np.minimum(1, chances + bonus)

    def attained(price):
        return chances[np.arange(RECENT_PROMPTS), (costs - price * hoped).argmin(axis=1)].mean()

    def least(target):
        low, high = 1e-3, 1e6
        while high / low > 1 + 1e-9:
            price = (low * high) ** 0.5
            low, high = (price, high) if attained(price) < target else (low, price)
        return high

    assert least(alpha - 0.01) < least(alpha + 0.01)
    assert state.ledger.base_price == pytest.approx((least(alpha - 0.01) * least(alpha + 0.01)) ** 0.5, rel=1e-5)


def test_knowing_the_cost_of_reading_saves_cost():
    """Conversations grow, and a question does not show how long the earlier turns are."""
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


def test_a_state_of_an_earlier_version_loses_its_cost_ridge_alone():
    """What it knows of answers stays. The running mean of costs is used until another method has proved better."""
    rounds, prompts = learnable(200), prompts_for(200)
    before = Bandit(rounds.zoo, Settings(alpha=0.85))
    list(drive(before, rounds, prompts))
    saved = before.snapshot()
    old = {
        name: replace(model, cost_arrays={name: model.cost_arrays[name] for name in ("cost_weight", "cost_cov")})
        for name, model in saved.models.items()
    }
    after = Bandit(rounds.zoo, Settings(alpha=0.85), replace(saved, models=old))
    for name, array in before._arrays.items():
        if name not in COSTS:
            assert after._arrays[name].tobytes() == array.tobytes(), name
    prompt_cost = {"small": 9.0, "middle": 9.0, "large": 9.0}
    weighed = after.decide(Request("next", "what?", prompt_cost=prompt_cost)).weighed
    assert weighed.terms["expected cost"] == {model: saved.models[model].mean_cost for model in rounds.zoo.models}
    for _ in range(40):
        learn_cost(after._state, Tuning(), 0, np.zeros(WIDTH), 9.0, 10.0)
    assert best_method(after._state, 0) != BY_MEAN
