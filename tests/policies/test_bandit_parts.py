"""Tests of the bandit's parts: satisfaction, price, reserve, trials, search, guard."""

import numpy as np
import pytest
from bandit_states import KNOWN, PLAIN, SEEDS, attained_levels, state_with
from making import learnable, prompts_for
from worlds import flat

from messctl.learning.snapshot import Snapshot
from messctl.policies.bandit import Bandit
from messctl.policies.bandit.choice import Prices, choose
from messctl.policies.bandit.guard import guard_choice, guard_depth
from messctl.policies.bandit.policy import GUARDED, SEARCHED, TRIED
from messctl.policies.bandit.price import price_of, reserve_of
from messctl.policies.bandit.satisfaction import Levels, learn_satisfaction, levels_of
from messctl.policies.bandit.search import is_searching
from messctl.policies.bandit.state import AUTO_V, Promise, fresh
from messctl.policies.bandit.trials import odds_of
from messctl.policies.bandit.tuning import SearchTuning, Tuning
from messctl.records import Feedback, Request
from messctl.replay.play import drive
from messctl.zoo import Settings, Zoo


@pytest.mark.parametrize("budget", [0.0, 0.002, 0.004, None])
def test_trials_stay_within_their_budget(budget):
    """The cost that is expected of trials beyond the choices, recomputed from the decisions."""
    rounds, prompts = learnable(1500), prompts_for(1500)
    policy = Bandit(rounds.zoo, Settings(alpha=0.8, trial_budget=budget))
    tried = paid = trials = 0.0
    for decision, _ in drive(policy, rounds, prompts):
        if decision.weighed.note == TRIED:
            terms = decision.weighed.terms.values()
            best = min(rounds.zoo.models, key=lambda model: sum(term[model] for term in terms))
            means = [decision.mean_cost.get(model, 0.0) for model in (decision.served, best)]
            tried += max(0.0, means[0] - means[1])
            trials += means[0] > means[1]
        paid += rounds.cost[rounds.request_ids.index(decision.request.request_id), rounds.zoo.index(decision.served)]
        assert budget is None or tried <= budget * paid * 1.02 + 1e-12
    assert tried == pytest.approx(policy._state.ledger.trial_cost)
    if budget is None:
        assert tried > 0.005 * paid
    else:
        assert (trials > 0) == (budget > 0)


@pytest.mark.parametrize("budget", [0.0, 0.01, np.inf])
def test_odds_sum_to_one_at_any_costs(budget):
    """Also with a budget that is spent: the choice costs nothing beyond itself, to the last bit."""
    rng = np.random.default_rng(1)
    for _ in range(500):
        state, promise, _ = state_with([0.9, 0.9, 0.9], rng.lognormal(0.0, 2.0, 3), [KNOWN, 3, KNOWN])
        state.ledger.trial_cost = 1e9
        best, promise = int(rng.integers(3)), promise._replace(trial_budget=budget)
        odds = odds_of(state, promise, Tuning(), np.zeros(3), rng.lognormal(0.0, 2.0, 3), 0.0, best)
        assert odds.sum() == pytest.approx(1.0)
        assert odds[best] > 0.4


@pytest.mark.parametrize(
    ("balance", "recent", "before", "memory"),
    [
        (0.0, 0.0, 0, 2000),
        (-20.1, -0.09, 0, 2000),
        (-19.9, -0.11, 0, 2000),
        (-20.1, -0.11, 0, 300),
        (0.0, 0.0, 10_000, 17_183),  # e-fold as many
        (-20.1, -0.11, 10_000, 300),
    ],
)
def test_the_mean_of_an_idle_model_fades_to_what_is_expected(balance, recent, before, memory):
    state, promise, levels_before = state_with([0.3, 0.9, 0.9], [1, 2, 30], [100, 100, 100])
    state.ledger.balance, state.ledger.recent_surplus = balance, recent
    state.tally.labels = before
    for _ in range(memory):
        learn_satisfaction(state, promise, Tuning(), 2, PLAIN, 0.9)
    assert state.answers[:2] == pytest.approx(100 / np.e, rel=0.01)
    assert state.satisfaction_sum[:2] / state.answers[:2] == pytest.approx([0.3, 0.9])
    assert state.answers[2] == pytest.approx(300, rel=0.5)
    levels = levels_of(state, promise, Tuning())
    assert levels_before.mean[0] + 0.05 < levels.mean[0] < levels.expected[0]


def test_only_the_credit_of_a_surplus_counts():
    """No matter which policy attained the surplus, or when."""
    zoo = Zoo.of(["small", "large"], "large")
    for balance, counted in ((1000.0, 20.0), (20.5, 20.0), (19.5, 19.5), (-300.0, -300.0)):
        policy = Bandit(zoo, Settings(alpha=0.8), Snapshot(decided=5000, balance=balance, queue=max(0.0, -balance)))
        decision = policy.decide(Request("r", "name a river"))
        assert decision.weighed.figures["balance"] == counted
        policy.learn(decision, Feedback(costs={decision.served: 1.0}, satisfied={decision.served: 1.0}))
        assert policy.snapshot().balance == pytest.approx(balance + 0.2)
        assert policy.decide(Request("s", "name a lake")).weighed.figures["balance"] == pytest.approx(
            min(20.0, counted + 0.2)
        )


def test_the_price_reacts_to_a_debt_after_any_number_of_requests():
    """If its reaction slowed down forever, a bias of the predictions would run up a debt in proportion to time."""
    state = fresh(2, Tuning())
    state.ledger.base_price = 1.0
    levels = Levels(*(np.array([0.7, 0.9]) for _ in range(3)))
    for answers in (100, 10_000, 10_000_000):
        state.tally.decided = state.tally.with_feedback = state.tally.labels = answers
        promise = Promise(0.8, 1, AUTO_V)
        even, owing = (price_of(state, promise, Tuning(), levels, b, 5.0, False) for b in (0.0, -110.0))
        assert owing / even >= np.e * (1 - 1e-9)


@pytest.mark.parametrize(
    ("satisfied", "cost", "answers", "careful", "served"),
    [
        ([0.5, 0.7, 0.9], [1, 2, 30], [KNOWN] * 3, True, 2),
        ([0.5, 0.7, 0.9], [1, 2, 30], [KNOWN] * 3, False, 2),
        ([0.9, 0.5, 0.5], [1, 2, 30], [KNOWN] * 3, True, 0),  # the reference need not be the best
        ([1.0, 0.84, 0.92], [1, 2, 30], [2, 10, 10], True, 2),  # two good answers prove little
        ([1.0, 0.84, 0.92], [1, 2, 30], [2, 10, 10], False, 0),
        ([0.3, 0.7, 0.78], [1, 2, 30], [0, 1000, 1000], False, 0),  # but a debt that goes on makes it tried
    ],
)
def test_the_guard_serves_the_model_that_can_pay(satisfied, cost, answers, careful, served):
    state, _, levels = state_with(satisfied, cost, answers)
    nothing, without_last = np.zeros(3), np.array([0.0, 0.0, np.inf])
    assert guard_choice(state, Tuning(), levels, nothing, nothing, careful) == served
    assert guard_choice(state, Tuning(), levels, nothing, without_last, careful) != 2


@pytest.mark.parametrize("balance", [-20.0, -0.5, 0.0, 3.0])
def test_early_trials_wait_until_there_is_no_debt(balance):
    state, promise, _ = state_with([0.9, 0.9, 0.9], [1, 1, 1], [KNOWN, 3, KNOWN])
    trials = Tuning().trials
    for pending, tried in ((0.0, balance >= 0), (4.9, balance >= 0), (5.0, False)):
        odds = odds_of(state, promise, Tuning(), np.array([0.0, pending, 0.0]), np.zeros(3), balance, 0)
        assert odds.sum() == pytest.approx(1.0)
        assert odds[1] == pytest.approx(trials.later_rate / 3 + (trials.rate if tried else 0.0))


def test_the_reserve_covers_bad_luck_within_a_share_of_the_total_cost():
    """Six lengths of luck, less with every feedback; never more than 30 % of the total cost would buy at λ₀."""
    wanted = {}
    for best in (0.82, 0.85, 0.95):
        state, promise, levels = state_with([0.5, 0.5, best], [1, 2, 30], [0, 0, 1e5])
        state.tally.decided = state.tally.with_feedback = state.tally.latest = 100
        state.ledger.base_price = 1e-9
        wanted[best] = reserve_of(state, promise, Tuning(), levels)
        top = levels.mean.max()
        assert top == pytest.approx(best, abs=1e-3)
        assert wanted[best] == pytest.approx(max(0.0, 6 * 0.4**2 / (2 * (top - 0.8)) - 0.02 * 100))
        state.ledger.base_price = 1000.0
        state.tally.with_feedback, state.tally.latest = 50, 100
        assert reserve_of(state, promise, Tuning(), levels) == pytest.approx(0.3 * 100 * 11 * 0.5 / 1000.0)
        state.tally.decided = 0
        assert reserve_of(state, promise, Tuning(), levels) == 0.0
    assert wanted[0.82] > wanted[0.85] > wanted[0.95] >= 0.0


@pytest.mark.parametrize(("below", "served"), [(0.5, 2), (9.5, 2), (10.5, 0)])
def test_the_guard_is_careful_for_ten_units_below_its_line(below, served):
    """A model that was long left alone is served once the debt is ten answers deeper than the line."""
    state, promise, levels = state_with([0.0, 0.6, 0.9], [1, 2, 30], [0, 30, 30])
    state.ledger.balance = -guard_depth(state, promise, Tuning(), levels) - below
    choice = choose(state, promise, Tuning(), PLAIN, Prices(np.zeros(3), np.zeros(3)), 0.5)
    assert choice.model == served
    assert choice.guarded


HOPEFUL = [0.6, 0.78, 0.9]  # the second may yet keep the promise of 0.8, the last can pay for finding out


@pytest.mark.parametrize(
    ("satisfied", "cost", "answers", "changed", "expected"),
    [
        (HOPEFUL, [1, 2, 30], [90, 90, 90], {}, True),
        (HOPEFUL, [1, 2, 30], [100, 100, 100], {}, False),  # by now predictions per prompt are better
        ([0.6, 0.6, 0.9], [1, 2, 30], [90, 90, 90], {}, False),  # none of the cheap ones may
        ([0.6, 0.6, 0.9], [1, 2, 30], [140, 1, 140], {}, True),  # but one with a single answer may
        ([0.6, 0.78, 0.83], [1, 2, 30], [90, 90, 90], {}, False),  # what it costs could not be paid back
        (HOPEFUL, [1, 20, 30], [90, 90, 90], {}, False),  # one cheap model is no choice
        (HOPEFUL, [1, 2, 30], [90, 90, 90], {"v": 1.0}, False),  # a V sets the price
        (HOPEFUL, [1, 2, 30], [90, 90, 90], {"latest": 10_000}, False),  # too few answers get feedback
        (HOPEFUL, [1, 2, 30], [90, 90, 90], {"gone": 1}, False),  # it cannot be asked
    ],
)
def test_the_search_is_on_only_if_a_cheap_model_may_suffice(satisfied, cost, answers, changed, expected):
    state, promise, levels = state_with(satisfied, cost, answers)
    promise = promise._replace(v=changed.get("v", AUTO_V))
    state.tally.latest = changed.get("latest", state.tally.latest)
    extra, cheap = np.zeros(3), np.empty(3)
    extra[changed.get("gone", 2)] = np.inf if "gone" in changed else 0.0
    assert is_searching(state, promise, Tuning(), levels, extra, cheap) == expected
    assert not is_searching(state, promise, Tuning(search=SearchTuning(cheap=0.0)), levels, extra, cheap)


@pytest.mark.parametrize(("balance", "searched", "served"), [(0.0, False, 0), (-5.0, True, 1), (-20.0, True, 2)])
def test_a_search_serves_the_boldest_cheap_model_until_the_guard_does(balance, searched, served):
    """No expensive model is chosen in debt, though it is better on this prompt: 28 more for 0.1 is above 5·c."""
    state, promise, _ = state_with(HOPEFUL, [1, 2, 30], [100, 20, 100])
    state.own_weight[:, 0] += [0.0, 0.0, 0.1]
    state.ledger.balance, state.ledger.base_price = balance, 1e-6 if balance == 0.0 else 1e6
    state.tally.with_feedback = state.tally.latest = state.tally.decided = 2020
    state.tally.prompts = 1000  # λ₀ is not solved again at once
    choice = choose(state, promise, Tuning(), PLAIN, Prices(state.mean_cost, np.zeros(3)), 0.5)
    assert choice.model == served
    assert choice.searched == searched
    assert choice.price <= Tuning().search.price * 30


def test_the_terms_of_a_search_explain_its_choice():
    """The served model has the least sum of the terms, unless the note names the guard or a trial."""
    made = flat([*np.linspace(0.5, 0.74, 9), 0.84, 0.92], [*np.linspace(0.9, 1.1, 10), 30.0])(1)
    policy = Bandit(made.rounds.zoo, Settings(alpha=0.82))
    notes = []
    for decision, _ in drive(policy, made.rounds, made.prompts):
        terms = decision.weighed.terms.values()
        total = {model: sum(term[model] for term in terms) for model in made.rounds.zoo.models}
        notes.append(decision.weighed.note)
        if "search" in decision.weighed.note:
            assert "−λ·(s̄ + b)" in decision.weighed.terms
            assert decision.weighed.figures["λ"] == pytest.approx(150.0, rel=0.2)
        if notes[-1] in ("", SEARCHED):
            assert total[decision.served] <= min(total.values()) + 1e-9
    assert min(notes.count(note) for note in ("", SEARCHED, GUARDED)) > 10


@pytest.mark.slow
def test_the_search_finds_a_cheap_model_that_suffices():
    """Ten models that cost 1, one of which keeps the promise, and one at 30: the search costs less, at the promise."""
    searched, plain = [], []
    for seed in range(SEEDS):
        rounds = flat([*np.linspace(0.5, 0.74, 9), 0.84, 0.92], [*np.linspace(0.9, 1.1, 10), 30.0])(seed).rounds
        for costs, tuning in ((searched, Tuning()), (plain, Tuning(search=SearchTuning(cheap=0.0)))):
            played = Bandit(rounds.zoo, Settings(alpha=0.82), tuning=tuning).play(rounds)
            assert attained_levels(played)[-1] > 0.82 - 0.01
            costs.append(played.cost.mean())
    assert np.mean(searched) < 0.9 * np.mean(plain)
