"""The parts of the cascade: difficulty, agreement, confidence and plan, each held against a plain reckoning."""

import itertools
import math
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from messctl.learning.compiled import plainly
from messctl.policies.bandit.state import WIDTH
from messctl.policies.cascade import agreement, beliefs, choice, confidence, difficulty, plan
from messctl.policies.cascade.beliefs import BINS, RIGHT, WIDE, WRONG
from messctl.policies.cascade.difficulty import GRID, MOST, STEPS, WEIGHT, Odds
from messctl.policies.cascade.plan import Prospects
from messctl.policies.cascade.tuning import Tuning, constants_of, tuning_of

ROOT = Path(__file__).parents[2]
CODE = ROOT / "messctl" / "policies" / "cascade"
ROW = re.compile(r"^\| `(?:(\w+)\.)?(\w+)` \| (\S+) \| (.+?) \| (.+?) \|$", re.MULTILINE)
FIXED = re.compile(r'^([A-Z_]+) = (\S+)\n"""\[(.+?)\] (.+?)"""$', re.MULTILINE)
TUNED = re.compile(r"^    (\w+): \w+ = (\S+)  # \[(.+?)\] (.+)$", re.MULTILINE)


@pytest.fixture(autouse=True)
def _plain():
    """Run everything in its plain form: to compile it takes longer than all of this."""
    with plainly():
        yield


# --- constants ------------------------------------------------------------------


def lines():
    """The constants of the code: module, name, value, unit, reason; no module stands for `tuning`."""
    yield from (("", *found) for found in TUNED.findall((CODE / "tuning.py").read_text("utf-8")))
    for path in CODE.glob("*.py"):
        yield from ((path.stem, *found) for found in FIXED.findall(path.read_text("utf-8")))


def test_the_table_of_constants_is_that_of_the_code():
    table = ROW.findall((ROOT / "docs" / "second-look.md").read_text("utf-8"))
    assert sorted(table) == sorted(lines())
    for module, name, value, _, _ in table:
        found = (
            getattr(import_module(f"messctl.policies.cascade.{module}"), name) if module else Tuning()._asdict()[name]
        )
        assert float(value) == found


def test_at_most_twelve_constants_say_how_to_look():
    assert len(Tuning()) <= 12


def test_the_array_of_constants_gives_the_constants_by_name_again():
    tuning = Tuning(*map(float, range(1, 1 + len(Tuning()))))
    assert tuning_of(constants_of(tuning)) == tuning


# --- difficulty -------------------------------------------------------------------


def random_odds(generator, models=3):
    right = np.empty((models, STEPS))
    for model in range(models):
        difficulty.by_difficulty(generator.normal(), 2.0, right[model])
    return Odds(right, float(generator.uniform(0.05, 0.95)), float(generator.uniform(0.05, 0.95)))


def asked_of(models, groups, tells=None):
    asked = difficulty.nothing_asked()
    asked.model[: len(models)], asked.group[: len(models)] = models, groups
    if tells is not None:
        asked.tells[: len(models)] = tells
    return asked


def ways_to_group(count):
    """Return every way to sort `count` answers into groups, each numbered by its first answer's place."""
    ways = [()]
    for _ in range(count):
        ways = [(*way, group) for way in ways for group in range(max(way, default=-1) + 2)]
    return ways


def chance_of_groups(groups, right, odds):
    """Return the probability of the groups, if these answers are `right`, from the story of how answers come to be.

    An answer joins, with the probability of its kind, an earlier one of its kind, each of these alike.
    """
    chance = 1.0
    for at, is_right in enumerate(right):
        alike = [earlier for earlier in range(at) if right[earlier] == is_right]
        same = [earlier for earlier in range(at) if groups[earlier] == groups[at]]
        if any(right[earlier] != is_right for earlier in same):
            return 0.0
        agree = odds.right_agree if is_right else odds.wrong_agree
        if alike:
            chance *= agree * len(same) / len(alike) if same else 1.0 - agree
    return chance


def cases_of(models, groups, odds, tells=None):
    """Return the unscaled probability of each case of right and wrong, with the difficulty: {right: (STEPS,)}."""
    tells = np.ones((len(models), 2)) if tells is None else tells
    return {
        right: chance_of_groups(groups, right, odds)
        * WEIGHT
        * np.prod(
            [
                np.where(bit, odds.right[model], 1.0 - odds.right[model]) * tells[at, int(bit)]
                for at, (model, bit) in enumerate(zip(models, right, strict=True))
            ],
            axis=0,
        )
        for right in itertools.product((False, True), repeat=len(models))
    }


def bits(right):
    return sum(1 << at for at, bit in enumerate(right) if bit)


def test_the_difficulty_is_a_normal_distribution_in_equal_steps():
    np.testing.assert_allclose(GRID, np.linspace(-2.0, 2.0, STEPS), atol=1e-12)
    np.testing.assert_allclose(WEIGHT, norm.pdf(GRID) / norm.pdf(GRID).sum(), rtol=1e-12)
    right = np.empty(STEPS)
    assert difficulty.by_difficulty(0.0, 2.0, right) == pytest.approx(0.5)
    np.testing.assert_allclose(right, 1.0 / (1.0 + np.exp(-2.0 * GRID)), rtol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_probabilities_of_all_groups_and_cases_sum_to_one(count):
    odds = random_odds(np.random.default_rng(count), models=4)
    cases = np.empty((1 << MOST, STEPS))
    total = sum(
        difficulty.joint(asked_of(range(count), groups), count, odds, -1, 0.0, cases) for groups in ways_to_group(count)
    )
    assert len(ways_to_group(count)) == (1, 2, 5, 15)[count - 1]
    assert total == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_the_cases_of_right_and_wrong_are_those_of_a_plain_sum(seed):
    generator = np.random.default_rng(seed)
    odds, count = random_odds(generator), 3
    tells = generator.uniform(0.2, 3.0, (count, 2))
    models = generator.permutation(3)
    for groups in ways_to_group(count):
        cases = np.empty((1 << MOST, STEPS))
        likely = difficulty.joint(asked_of(models, groups, tells), count, odds, -1, 0.0, cases)
        expected = cases_of(models, groups, odds, tells)
        assert likely == pytest.approx(sum(each.sum() for each in expected.values()), rel=1e-12)
        for right, chance in expected.items():
            np.testing.assert_allclose(cases[bits(right)], chance / likely, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("satisfied", [0.0, 0.3, 1.0])
def test_feedback_on_the_shown_group_weighs_the_cases(satisfied):
    odds, groups, models = random_odds(np.random.default_rng(1)), (0, 1, 0), (0, 1, 2)
    cases = np.empty((1 << MOST, STEPS))
    difficulty.joint(asked_of(models, groups), 3, odds, 0, satisfied, cases)
    expected = {
        right: chance * (satisfied if right[0] else 1.0 - satisfied)
        for right, chance in cases_of(models, groups, odds).items()
    }
    total = sum(each.sum() for each in expected.values())
    for right, chance in expected.items():
        np.testing.assert_allclose(cases[bits(right)], chance / total, rtol=1e-10, atol=1e-15)


def test_what_nothing_explains_leaves_all_cases_alike():
    odds = Odds(np.full((2, STEPS), 0.5), 0.0, 0.0)
    cases = np.empty((1 << MOST, STEPS))
    assert difficulty.joint(asked_of((0, 1), (0, 0)), 2, odds, -1, 0.0, cases) == 0.0
    assert cases[:4].tolist() == np.full((4, STEPS), 1 / (4 * STEPS)).tolist()


def test_models_that_are_often_right_are_right_together_more_often_than_by_chance():
    right = np.empty((2, STEPS))
    means = [difficulty.by_difficulty(1.0, 2.0, right[model]) for model in range(2)]
    cases = np.empty((1 << MOST, STEPS))
    odds = Odds(right, 0.5, 1.0)
    likely = difficulty.joint(asked_of((0, 1), (0, 0)), 2, odds, -1, 0.0, cases)
    assert cases[3].sum() * likely > means[0] * means[1] + 0.01


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_one_more_answer_is_worth_is_a_plain_expectation(seed, count):
    generator = np.random.default_rng(seed)
    odds = random_odds(generator, models=4)
    for groups in ways_to_group(count):
        models = range(count)
        cases = np.empty((1 << MOST, STEPS))
        asked = asked_of(models, groups)
        likely = difficulty.joint(asked, count, odds, -1, 0.0, cases)
        expected = 0.0
        for joined in range(max(groups) + 2):
            then = cases_of((*models, count), (*groups, joined), odds)
            believed = [sum(chance.sum() for right, chance in then.items() if right[at]) for at in range(count + 1)]
            expected += max(believed) / likely
        after = difficulty.believed_after(asked, count, cases, odds, count)
        assert after == pytest.approx(expected, rel=1e-9)
        assert after >= difficulty.most_believed(count, cases)[1] - 1e-12, "one more answer never tells less"


def test_the_first_of_two_answers_that_are_believed_alike_is_shown():
    cases = np.zeros((1 << MOST, STEPS))
    cases[3] = WEIGHT
    assert difficulty.most_believed(2, cases) == (0, pytest.approx(1.0))


# --- plan -------------------------------------------------------------------------


def prospects(odds, cost, tells=None):
    models = len(cost)
    has = np.zeros(models) if tells is None else np.ones(models)
    return Prospects(np.array(cost), odds, np.ones((models, 2, BINS)) if tells is None else tells, has)


def flat(*levels, wrong=0.4, right=0.95):
    return Odds(np.array([[level] * STEPS for level in levels]), wrong, right)


def next_ask(odds, cost, price, groups=(0,), asks=3, tells=None):
    asked = asked_of(range(len(groups)), groups)
    return plan.next_ask(asked, len(groups), asks, prospects(odds, cost, tells), price)


def test_nobody_is_asked_if_nothing_can_be_gained():
    assert next_ask(flat(0.6, 0.9, 0.9), [1.0, 1.0, 1.0], 0.0) == -1, "a satisfied answer is worth nothing"
    assert next_ask(flat(1.0, 0.9, 0.9), [1.0, 1e-9, 1e-9], 1e6) == -1, "the first is surely right"
    assert next_ask(flat(0.6, 0.9, 0.9), [1.0, math.inf, math.inf], 1e6) == -1, "nobody can be asked"
    assert next_ask(flat(0.6, 0.9, 0.9), [1.0, 1.0, 1.0], 1e6, asks=1) == -1, "nobody may be asked"
    assert next_ask(flat(0.6, 0.0, 0.0, wrong=0.0), [1.0, 0.01, 0.01], 10.0) == -1, "nobody else is ever right"


def test_a_better_model_is_asked_if_it_is_worth_its_cost_and_only_then():
    odds = flat(0.5, 0.95, wrong=0.0, right=0.0)
    gained = 0.95 - 0.5
    assert next_ask(odds, [1.0, 4.0], 4.0 / gained * 1.01, asks=2) == 1
    assert next_ask(odds, [1.0, 4.0], 4.0 / gained * 0.99, asks=2) == -1


@pytest.mark.parametrize("scale", [2.0**-20, 2.0**20])
def test_the_unit_of_cost_does_not_matter_to_the_plan(scale):
    generator = np.random.default_rng(5)
    for _ in range(10):
        odds, cost = random_odds(generator), generator.uniform(0.1, 5.0, 3)
        price = float(generator.uniform(1.0, 30.0))
        assert next_ask(odds, cost, price) == next_ask(odds, cost * scale, price * scale)


def best_plan(models, groups, odds, cost, price, left):
    """Return the value of the best plan from here on, and its first step, by plain recursion."""
    cases = cases_of(models, groups, odds)
    likely = sum(each.sum() for each in cases.values())
    believed = [sum(chance.sum() for right, chance in cases.items() if right[at]) for at in range(len(models))]
    best, step = price * max(believed) / likely, -1
    for model in range(len(cost)) if left else ():
        if model in models:
            continue
        value = -cost[model]
        for joined in range(max(groups) + 2):
            then = cases_of((*models, model), (*groups, joined), odds)
            chance = sum(each.sum() for each in then.values()) / likely
            if chance > 0.0:
                value += chance * best_plan((*models, model), (*groups, joined), odds, cost, price, left - 1)[0]
        if value > best + 1e-12:
            best, step = value, model
    return best, step


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("asks", [2, 3])
def test_the_next_step_is_the_best_of_all_plans(seed, asks):
    generator = np.random.default_rng(seed)
    odds, cost = random_odds(generator), generator.uniform(0.1, 3.0, 3)
    price = float(generator.uniform(2.0, 40.0))
    for groups in ((0,), (0, 0), (0, 1)):
        if len(groups) < asks:
            _, step = best_plan(tuple(range(len(groups))), groups, odds, cost, price, asks - len(groups))
            assert next_ask(odds, cost, price, groups, asks) == step


@pytest.mark.parametrize("wrong", [0.0, 0.2, 0.4])
def test_of_two_models_that_are_asked_anyway_the_cheaper_is_asked_first(wrong):
    """Without confidence both orders are worth the same."""
    odds = flat(0.9, 0.9, 0.5, wrong=wrong)
    assert choice.plan_first(new_beliefs(), 3, prospects(odds, [2.0, 1.0, 1.5]), 2.0, 200.0) == 1
    assert choice.plan_first(new_beliefs(), 3, prospects(odds, [1.0, 2.0, 1.5]), 2.0, 200.0) == 0


# --- agreement --------------------------------------------------------------------


def new_beliefs(models=3, reference=2):
    return beliefs.fresh(models, reference, 0.8, 0.5, Tuning())


WIDE_ONE = np.append(np.zeros(WIDTH), 1.0)


def test_before_anything_is_known_answers_agree_as_the_constants_say():
    known = new_beliefs()
    assert agreement.agree(known, WRONG, WIDE_ONE) == pytest.approx(Tuning().wrong_agree)
    assert agreement.agree(known, RIGHT, WIDE_ONE) == pytest.approx(Tuning().right_agree)


@pytest.mark.parametrize("rate", [0.05, 0.9])
@pytest.mark.parametrize("kind", [WRONG, RIGHT])
def test_how_often_answers_agree_is_learned(kind, rate):
    known, generator = new_beliefs(), np.random.default_rng(3)
    cases = np.zeros((1 << MOST, STEPS))
    cases[3 if kind == RIGHT else 0] = WEIGHT  # it is known that both are right, or wrong
    for _ in range(300):
        equal = generator.random() < rate
        agreement.learn_agreement(known, asked_of((0, 1), (0, 0 if equal else 1)), 2, cases, WIDE_ONE)
    assert agreement.agree(known, kind, WIDE_ONE) == pytest.approx(rate, abs=0.08)
    other = RIGHT if kind == WRONG else WRONG
    start = Tuning().right_agree if other == RIGHT else Tuning().wrong_agree
    assert agreement.agree(known, other, WIDE_ONE) == pytest.approx(start, abs=0.01)


def test_equal_answers_are_scarce_once_enough_pairs_were_seen_and_few_were_equal():
    known, apart = new_beliefs(), np.arange(MOST)
    assert not agreement.are_scarce(known, Tuning())
    for _ in range(7):
        agreement.count_pairs(known, apart, 3)
    assert known.tally[beliefs.PAIRS] == 21
    assert agreement.are_scarce(known, Tuning())
    agreement.count_pairs(known, np.zeros(MOST, dtype=np.int64), 3)
    assert known.tally[beliefs.EQUAL] == 3
    assert not agreement.are_scarce(known, Tuning())


# --- confidence -------------------------------------------------------------------


def test_confidences_are_sorted_into_bins_of_equal_size():
    known, generator = new_beliefs(), np.random.default_rng(4)
    for value in generator.normal(size=200):
        known.recent[0, int(known.seen[0])] = value
        known.seen[0] += 1.0
    found = [confidence.bin_of(known, 0, value) for value in known.recent[0, :200]]
    assert np.bincount(found, minlength=BINS).tolist() == [40] * BINS
    assert [confidence.bin_of(known, 0, value) for value in (-1e9, 1e9)] == [0, BINS - 1]


def test_nothing_is_said_of_a_model_of_which_too_little_was_seen():
    known, out = new_beliefs(), np.full((2, BINS), -1.0)
    assert not confidence.likelihoods(known, Tuning(), 0, out)
    assert (out == -1.0).all()


def test_the_bins_are_as_likely_as_they_were_among_right_and_wrong_answers():
    known, out = new_beliefs(), np.empty((2, BINS))
    known.seen[0] = 1000.0
    known.table[0] = [[400.0, 100.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 100.0, 400.0]]
    assert confidence.likelihoods(known, Tuning(), 0, out)
    np.testing.assert_allclose(out.mean(axis=1), [1.0, 1.0])
    assert min(out[WRONG, 0], out[RIGHT, -1]) > 3.5
    assert max(out[RIGHT, 0], out[WRONG, -1]) < 0.2


def test_what_a_prompt_leads_to_expect_is_learned_and_no_surprise_any_more():
    known = new_beliefs()
    assert known.expected_weight.shape == (3, WIDE)
    for _ in range(50):
        confidence.observe(known, 1, WIDE_ONE, -0.1)
    assert confidence.surprise(known, 1, WIDE_ONE, -0.1) == pytest.approx(0.0, abs=1e-3)
    assert confidence.surprise(known, 1, WIDE_ONE, -0.01) > 2.0
    assert confidence.surprise(known, 1, WIDE_ONE, 0.0) == confidence.surprise(known, 1, WIDE_ONE, -1e-9)


def test_the_names_and_shapes_of_what_is_stored_are_those_of_the_beliefs():
    stored = beliefs.stored_arrays(new_beliefs())
    assert {name.removeprefix("look_") for name in stored} == set(beliefs.Beliefs._fields)
    assert stored["look_own_weight"].shape == (3, WIDE)
