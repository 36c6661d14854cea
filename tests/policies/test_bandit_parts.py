"""Tests of the bandit's parts: satisfaction, trust, reserve, price, trials, guard."""

import numpy as np
import pytest
from bandit_states import KNOWN, PLAIN, state_with
from driving import drive
from making import learnable, prompts_for
from worlds import flat

from messctl.learning.snapshot import Snapshot
from messctl.policies.bandit import Bandit
from messctl.policies.bandit.balance import reserve_of, setpoint_of, slack_of
from messctl.policies.bandit.choice import Prices, choose, standing_of
from messctl.policies.bandit.policy import GUARDED, TRIED
from messctl.policies.bandit.price import SMALLEST, least_price, price_of
from messctl.policies.bandit.satisfaction import learn_satisfaction, learn_trust, levels_of, needed_hope, trust_of
from messctl.policies.bandit.state import AUTO_V, WIDTH, Promise, fresh
from messctl.policies.bandit.trials import affordable_models, odds_of
from messctl.policies.bandit.tuning import Tuning
from messctl.records import Feedback, Request
from messctl.zoo import Settings, Zoo

NOTHING = Prices(np.zeros(3), np.zeros(3))
"""Nothing is known of a request's cost in advance, and every model can be asked."""


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
        assert tried > 0.0
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
        odds = odds_of(state, promise, Tuning(), rng.lognormal(0.0, 2.0, 3), best)
        assert odds.sum() == pytest.approx(1.0)
        assert odds[best] >= 0.98 - 1e-12


@pytest.mark.parametrize(
    ("tried", "affordable"), [(0.0, [0, 1, 2]), (15.0, [0, 1, 2]), (25.0, [0, 1]), (35.0, [0]), (50.0, [0])]
)
def test_what_trials_have_cost_is_no_longer_in_their_budget(tried, affordable):
    """The budget is a tenth of the 420 that were paid; a trial costs 0, 10 or 20 beyond the first model."""
    state, promise, _ = state_with([0.9, 0.9, 0.9], [10.0, 20.0, 30.0], [7, 7, 7])
    state.ledger.trial_cost = tried
    found = affordable_models(state, promise._replace(trial_budget=0.1), Tuning(), np.zeros(3), 0)
    assert np.flatnonzero(found).tolist() == affordable


def test_an_unknown_model_is_as_good_as_the_promise_and_the_reference_a_little_better():
    _, _, levels = state_with([0.0, 0.0, 0.0], [1, 2, 30], [0, 0, 0])
    assert levels.mean == pytest.approx([0.8, 0.8, (8 * 0.8 + 20 * 0.88) / 28])
    assert levels.deviation == pytest.approx(np.sqrt(0.8 * 0.2 / np.array([8, 8, 28])))


@pytest.mark.parametrize("before", [0, 100_000])
def test_the_mean_of_an_idle_model_fades_to_the_promise(before):
    """Slowly: after as many answers of others as its memory holds, or as there were so far if that is more."""
    state, promise, levels_before = state_with([0.3, 0.9, 0.9], [1, 2, 30], [100, 100, 100])
    tuning = Tuning(idle_memory=2000.0)
    state.tally.labels = before
    for _ in range(2000):
        learn_satisfaction(state, promise, tuning, 2, PLAIN, 0.9)
    kept = np.exp(-1) if before == 0 else 0.98
    assert state.answers[:2] == pytest.approx(100 * kept, rel=0.01)
    assert state.satisfaction_sum[:2] / state.answers[:2] == pytest.approx([0.3, 0.9])
    assert state.answers[2] == pytest.approx(1000, rel=0.4)
    levels = levels_of(state, promise, tuning)
    assert levels_before.mean[0] < levels.mean[0] < promise.alpha


@pytest.mark.parametrize("graded", [[1.0, 0.0], [0.7, 0.8], [0.75, 0.75]])
def test_the_variance_of_feedback_is_measured(graded):
    """Graded feedback is steadier than thumbs, and so needs a smaller reserve."""
    state, promise, _ = state_with([0.8, 0.8, 0.8], [1, 2, 30], [0, 0, 0])
    for at in range(20_000):
        learn_satisfaction(state, promise, Tuning(), 0, PLAIN, graded[at % 2])
    assert state.ledger.variance == pytest.approx(np.var(graded), abs=2e-3)
    levels = levels_of(state, promise, Tuning())
    assert levels.deviation.min() > 0
    expected = 1 + np.log(1 / 0.003) * max(1e-4, state.ledger.variance) / (2 * 0.05)
    assert reserve_of(state, Tuning(), 0.05) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("satisfied", "answers", "gone", "hoped"),
    [
        ([0.5, 0.7, 0.9], [KNOWN] * 3, [], None),  # the last one keeps the promise
        ([0.5, 0.7, 0.9], [KNOWN] * 3, [2], 1),
        ([0.5, 0.5, 0.5], [3, KNOWN, KNOWN], [], 0),  # three bad answers may have been bad luck
        ([0.5, 0.5, 0.799], [3, KNOWN, 1e4], [], 2),
        ([0.5, 0.5, 0.77], [3, KNOWN, 1e5], [], 0),  # by now the last one is surely below
    ],
)
def test_hope_goes_as_far_as_some_model_needs_to_keep_the_promise(satisfied, answers, gone, hoped):
    """No further: the model that is nearest to α, by its own error, just reaches it."""
    _, promise, levels = state_with(satisfied, [1, 2, 30], answers)
    extra = np.zeros(3)
    extra[gone] = np.inf
    hope = needed_hope(promise, levels, extra)
    reached = np.where(extra < np.inf, levels.mean + hope * levels.deviation, 0.0)
    if hoped is None:
        assert hope == 0.0
    else:
        assert reached.argmax() == hoped
        assert reached.max() == pytest.approx(0.8)


def test_predictions_are_trusted_as_far_as_they_proved_themselves():
    """The slope of what happened on what was predicted, less one deviation, within 0..1."""
    rng = np.random.default_rng(1)
    for slope, low, high in ((0.0, 0.0, 0.1), (0.5, 0.35, 0.55), (1.0, 0.8, 1.0), (3.0, 1.0, 1.0), (-1.0, 0.0, 0.0)):
        state = fresh(1, 0.8, Tuning())
        assert trust_of(state) == 0.0
        moved = rng.normal(0, 0.2, 4000)
        for each in moved:
            learn_trust(state, Tuning(), slope * each + rng.normal(0, 0.4), each)
        assert low <= trust_of(state) <= high


def test_wild_predictions_are_not_trusted():
    """Next to no regularisation makes noise of the predictions; prompts say nothing here."""
    made = flat([0.5, 0.6, 0.95], [1, 2, 30], 3000)(2)
    policy = Bandit(made.rounds.zoo, Settings(alpha=0.85), tuning=Tuning(own_ridge=1e-3, shared_ridge=1e-3))
    policy.play_on(made.rounds)
    assert trust_of(policy._state) < 0.2


def test_of_a_surplus_no_more_than_the_largest_reserve_counts():
    """No matter which policy attained the surplus, or when."""
    zoo = Zoo.of(["small", "large"], "large")
    largest = 1 + np.log(1 / 0.003) * 0.16 / 0.02
    for balance, counted in ((1000.0, largest), (largest + 0.5, largest), (19.5, 19.5), (-300.0, -300.0)):
        policy = Bandit(zoo, Settings(alpha=0.8), Snapshot(decided=5000, balance=balance, queue=max(0.0, -balance)))
        decision = policy.decide(Request("r", "name a river"))
        assert decision.weighed.figures["balance"] == pytest.approx(counted)
        policy.learn(decision, Feedback(costs={decision.served: 1.0}, satisfied={decision.served: 1.0}))
        assert policy.snapshot().balance == pytest.approx(balance + 0.2)
        after = policy.decide(Request("s", "name a lake")).weighed.figures["balance"]
        assert after == pytest.approx(min(largest, counted + 0.2), abs=1e-9)


def test_bad_luck_uses_up_the_reserve_as_rarely_as_it_says():
    """A random walk with the slack and the variance of a model that is served forever: how often it falls that far."""
    rng, alpha, best = np.random.default_rng(3), 0.8, 0.84
    state = fresh(1, alpha, Tuning())
    state.ledger.variance = best * (1 - best)
    reserve = reserve_of(state, Tuning(), best - alpha)
    walks = np.cumsum((rng.random((4000, 3000)) < best) - alpha, axis=1)
    luck = 3 * (0.003 / 4000) ** 0.5
    assert 0.0 < (walks.min(axis=1) < -reserve).mean() <= 0.003 + luck


def test_the_reserve_is_larger_the_less_slack_there_is_and_is_filled_over_time():
    for best in (0.805, 0.82, 0.85, 0.95):
        state, promise, levels = state_with([0.5, 0.5, best], [1, 2, 30], [0, 0, 1e5])
        slack = slack_of(promise, Tuning(), levels, np.zeros(3))
        assert slack == pytest.approx(max(0.01, best - 0.8), abs=1e-3)
        reserve = reserve_of(state, Tuning(), slack)
        assert reserve == pytest.approx(1 + np.log(1 / 0.003) * 0.16 / (2 * slack))
        for answers, filled in ((0, 0.0), (300, 1 - np.exp(-1)), (10_000, 1.0)):
            state.tally.with_feedback = answers
            assert setpoint_of(state, Tuning(), reserve) == pytest.approx(filled * reserve)


def test_the_price_rises_e_fold_with_every_reserve_of_debt_up_to_a_limit():
    """It reacts alike after any number of requests."""
    state = fresh(2, 0.8, Tuning())
    state.ledger.base_price = 1.0
    promise = Promise(0.8, 1, AUTO_V)
    for answers in (100, 10_000, 10_000_000):
        state.tally.decided = state.tally.with_feedback = state.tally.labels = answers
        prices = [price_of(state, promise, surplus, 10.0, 15.0) for surplus in (10.0, 0.0, -10.0, -1e9)]
        assert prices == pytest.approx([1 / np.e, 1.0, np.e, 15.0])


@pytest.mark.parametrize(("target", "price"), [(0.3, SMALLEST * 100.0), (0.7, 1.0 / 0.3), (0.85, 80.0), (0.95, 100.0)])
def test_the_least_price_at_which_a_target_is_attained(target, price):
    """Models that satisfy 0.5, 0.8 and 0.9 cost 1, 2 and 10: the next one pays off at 1/0.3, and then at 8/0.1."""
    cost, value = np.array([[1.0, 2.0, 10.0]]), np.array([[0.5, 0.8, 0.9]])
    found = least_price(cost, value, value, target, 100.0, cost[0])
    assert found == pytest.approx(price, rel=1e-4)
    if target in (0.3, 0.95):
        assert found == price, "nothing is sought where no search is needed"


@pytest.mark.parametrize(
    ("satisfied", "answers", "balance", "served"),
    [
        ([0.5, 0.7, 0.9], [KNOWN] * 3, -100.0, 2),
        ([0.9, 0.5, 0.5], [KNOWN] * 3, -100.0, 0),  # the reference need not be the best
        ([0.5, 0.895, 0.9], [1e5] * 3, 1.0, 1),  # to fill the reserve, so small a gain is not worth 28
        ([0.5, 0.895, 0.9], [1e5] * 3, -100.0, 2),  # to pay a large debt it is
        ([0.3, 0.7, 0.78], [0, 1000, 1000], -100.0, 0),  # a debt that goes on makes an unknown model tried
    ],
)
@pytest.mark.parametrize("coin", [0.0, 0.5, 0.999])
def test_the_guard_serves_the_model_that_can_pay(satisfied, answers, balance, served, coin):
    """Whatever is predicted of the prompt, and without any trial."""
    state, promise, _ = state_with(satisfied, [1, 2, 30], answers)
    z = np.ones(WIDTH)
    state.own_weight[:] = np.array([[0.01], [-0.01], [-0.02]])
    state.ledger.agreement = state.ledger.power = 1.0
    state.ledger.balance = balance
    choice = choose(state, promise, Tuning(), z, NOTHING, coin)
    assert (choice.model, choice.guarded, choice.odds[served]) == (served, True, 1.0)
    state.ledger.balance = 1000.0
    assert not choose(state, promise, Tuning(), z, NOTHING, coin).guarded


def test_curiosity_is_paid_out_of_a_surplus():
    """From none at the guard's line to one deviation where the reserve is full."""
    state, promise, levels = state_with([0.7, 0.85, 0.9], [1, 2, 30], [10, KNOWN, KNOWN])
    state.tally.with_feedback = state.tally.latest = state.tally.decided = 10_000
    standing = standing_of(state, promise, Tuning(), levels, np.zeros(3), np.zeros(3))
    for share, hoped in ((0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (2.0, 1.0)):
        state.served_at[:] = 0  # nothing waits for feedback
        state.ledger.balance = standing.line + share * (standing.setpoint - standing.line)
        choice = choose(state, promise, Tuning(), PLAIN, NOTHING, 0.5)
        assert choice.value - choice.predicted == pytest.approx(
            np.minimum(1, levels.mean + hoped * levels.deviation) - levels.mean
        )


def test_the_terms_explain_the_choice():
    """The served model has the least sum of the terms, unless the note tells of a trial."""
    made = flat([*np.linspace(0.5, 0.74, 9), 0.84, 0.92], [*np.linspace(0.9, 1.1, 10), 30.0])(1)
    policy = Bandit(made.rounds.zoo, Settings(alpha=0.82))
    notes = []
    for decision, _ in drive(policy, made.rounds, made.prompts):
        terms = decision.weighed.terms.values()
        total = {model: sum(term[model] for term in terms) for model in made.rounds.zoo.models}
        notes.append(decision.weighed.note)
        assert ("−λ·(s̄ + b)" if notes[-1] == GUARDED else "−λ·(ŝ + b)") in decision.weighed.terms
        if notes[-1] != TRIED:
            assert total[decision.served] <= min(total.values()) + 1e-9
    assert min(notes.count(note) for note in ("", TRIED, GUARDED)) > 10
