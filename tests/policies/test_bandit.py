"""Tests of `bandit` as a whole: both drivers, stored states, made-up worlds, propensities."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from bandit_states import SEEDS, attained_levels, played_in
from driving import drive
from hypothesis import given, settings
from hypothesis import strategies as st
from making import arbitrary_rounds, learnable, make_rounds, prompts_for
from worlds import WORLDS, flat

from messctl.policies import build
from messctl.policies.bandit import Bandit
from messctl.policies.bandit.tuning import Tuning
from messctl.records import Feedback, Request
from messctl.zoo import Settings

few = settings(max_examples=15, deadline=None)


@pytest.mark.parametrize(("rate", "delay"), [(1.0, 0), (1.0, 3), (0.4, 0), (0.5, 7), (0.0, 0), (1.0, 500), (0.1, 40)])
def test_both_drivers_take_the_same_decisions(rate, delay):
    rounds, prompts = learnable(400), prompts_for(400)
    arranged = rounds.arranged(seed=5, shuffle=True, feedback_rate=rate, feedback_delay=delay)
    promise = Settings(alpha=0.85)
    policy = Bandit(rounds.zoo, promise)
    played = policy.play(arranged)
    steps = list(drive(policy, arranged, prompts))
    models = rounds.zoo.models
    assert [decision.served for decision, _ in steps] == [models[index] for index in played.served]
    assert [decision.queue for decision, _ in steps] == played.queue_before.tolist()
    predicted = np.array([[decision.predicted[model] for model in models] for decision, _ in steps])
    assert predicted.tobytes() == played.predicted.tobytes()
    means = np.array([[decision.mean_cost.get(model, np.nan) for model in models] for decision, _ in steps])
    assert means.tobytes() == played.mean_cost.tobytes()
    assert policy.queue == played.queue_final
    assert policy.weights.weight.tobytes() == played.weights.weight.tobytes()
    assert policy.weights.bias.tobytes() == played.weights.bias.tobytes()


@given(rounds=arbitrary_rounds(), alpha=st.sampled_from([0.0, 0.6, 1.0]), delay=st.sampled_from([0, 2, 1000]))
@few
def test_any_rounds_are_played_and_certified(rounds, alpha, delay):
    arranged = rounds.arranged(seed=1, shuffle=True, feedback_rate=0.7, feedback_delay=delay)
    policy = Bandit(rounds.zoo, Settings(alpha=alpha))
    played = policy.play(arranged)
    assert np.isfinite(played.predicted).all()
    assert played.served.min() >= 0
    has_feedback = played.satisfied[~np.isnan(played.satisfied)]
    assert has_feedback.sum() >= alpha * len(has_feedback) - played.queue_final - 1e-9


@given(rounds=arbitrary_rounds(), power=st.integers(-8, 8))
@few
def test_the_unit_of_cost_does_not_matter(rounds, power):
    policy = Bandit(rounds.zoo, Settings(alpha=0.6))
    scaled = replace(rounds, cost=rounds.cost * 2.0**power)
    assert policy.play(rounds).served.tolist() == policy.play(scaled).served.tolist()


def test_a_policy_restored_after_every_request_decides_the_same():
    rounds, prompts = learnable(300), prompts_for(300)
    whole, part = (Bandit(rounds.zoo, Settings(alpha=0.85)) for _ in range(2))
    expected = [decision.served for decision, _ in drive(whole, rounds, prompts)]
    served = []
    for row in range(300):
        part = Bandit(rounds.zoo, Settings(alpha=0.85), part.snapshot())
        decision = part.decide(Request(f"r{row}", prompts[row]))
        served.append(decision.served)
        index = rounds.zoo.index(decision.served)
        part.learn(decision, Feedback(costs={decision.served: rounds.cost[row, index]}))
        part.learn(decision, Feedback(satisfied={decision.served: rounds.satisfied[row, index]}))
    assert served == expected


@pytest.mark.parametrize("met", [0, 150])
def test_requests_that_another_policy_decided_do_not_count(met):
    """Another policy served 5,000 requests, before or in between: feedback and its delay go on as if it had not."""
    rounds, prompts = learnable(300), prompts_for(300)

    def served(elsewhere):
        policy, chosen = Bandit(rounds.zoo, Settings(alpha=0.85)), []
        coins = np.random.default_rng(3)
        for row in range(300):
            known = policy.snapshot()
            policy = Bandit(
                rounds.zoo, Settings(alpha=0.85), replace(known, decided=known.decided + elsewhere * (row == met))
            )
            policy._coin = coins
            decision = policy.decide(Request(f"r{row}", prompts[row]))
            assert decision.request_number == row + 1 + elsewhere * (row >= met)
            chosen.append(decision.served)
            index = rounds.zoo.index(decision.served)
            policy.learn(decision, Feedback(costs={decision.served: rounds.cost[row, index]}))
            policy.learn(decision, Feedback(satisfied={decision.served: rounds.satisfied[row, index]}))
        return chosen, policy.snapshot()

    (alone, before), (chosen, after) = served(0), served(5000)
    assert chosen == alone
    assert after.decided == before.decided + 5000


def test_a_snapshot_holds_the_whole_state():
    rounds, prompts = learnable(300), prompts_for(300)
    policy = Bandit(rounds.zoo, Settings(alpha=0.85))
    list(drive(policy, rounds, prompts))
    again = Bandit(rounds.zoo, Settings(alpha=0.85), policy.snapshot())
    for name, part in policy._state._asdict().items():
        assert getattr(again._state, name).tobytes() == part.tobytes(), name


def test_a_state_of_the_earlier_bandit_goes_on():
    """Requests, the debt, plain means and costs stay; what was learned of prompts is learned anew."""
    rounds, prompts = learnable(60), prompts_for(60)
    before = Bandit(rounds.zoo, Settings(alpha=0.85))
    list(drive(before, rounds, prompts))
    known = before.snapshot()
    for name in ("shared_weight", "shared_covariance", "recent_prompts", "trust", "variance"):
        del known.shared[name]
    del known.cost_shared["base_price"]
    for model in known.models.values():
        del model.arrays["own_weight"], model.arrays["own_covariance"]
    after = Bandit(rounds.zoo, Settings(alpha=0.85), replace(known, version=2))
    assert (after.queue, after.snapshot().balance) == (before.queue, before.snapshot().balance)
    for name in ("good", "answers", "costs", "counts"):
        expected = before._arrays[name].copy()
        if name == "counts":
            expected[3] = 0  # no prompt is kept for solving λ₀
        assert after._arrays[name].tobytes() == expected.tobytes(), name
    assert not after.weights.weight.any()
    assert after.decide(Request("next", prompts[0])).weighed.figures["λ"] > 0.0


def test_a_model_that_joins_is_tried():
    rounds, prompts = learnable(300), prompts_for(300)
    two = make_rounds(rounds.satisfied[:, :2], rounds.cost[:, :2], list(rounds.zoo.models[:2]), prompts)
    before = Bandit(two.zoo, Settings(alpha=0.85))
    list(drive(before, two, prompts))
    after = Bandit(rounds.zoo, Settings(alpha=0.85), before.snapshot())
    served = {decision.served for decision, _ in drive(after, rounds, prompts)}
    assert rounds.zoo.models[2] in served


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_adversarial_worlds_end_at_alpha(world):
    """At least nine of ten seeds end within half a point of α.

    In one world the worst model becomes the best halfway, and the best the worst. There 9 of 20 orders end one or two
    points below, and four of ten seeds are required.
    """
    ends = [attained_levels(played)[-1] - alpha for alpha, played in (played_in(world, seed) for seed in range(SEEDS))]
    assert sum(end < -0.005 for end in ends) <= (6 if world == "swapped halfway" else 1), np.round(ends, 4)


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_adversarial_worlds_never_dip_far(world):
    """From request 500 on, at least nine of ten seeds stay within two points of α.

    If the reference is the worst, trusting it first costs more: three points. If it becomes the worst halfway, and the
    worst model the best, unlearning both takes a debt: five points (14 of 60 orders exceed two points).
    """
    bound = {"the dearest is the worst": -0.03, "swapped halfway": -0.05}.get(world, -0.02)
    dips = [
        attained_levels(played)[499:].min() - alpha
        for alpha, played in (played_in(world, seed) for seed in range(SEEDS))
    ]
    assert sum(dip < bound for dip in dips) <= 1, np.round(dips, 4)


@pytest.mark.parametrize("lies", [3, 10, 30])
def test_the_only_model_that_keeps_the_promise_is_found_after_a_bad_start(lies):
    """Only one model can keep the promise, and its first answers are all bad."""
    made = flat([0.5, 0.6, 0.95], [1, 2, 30], 4000)(0)
    satisfied = made.rounds.satisfied.copy()
    satisfied[: lies * 3, 2] = 0.0
    rounds = replace(made.rounds, satisfied=satisfied)
    played = Bandit(rounds.zoo, Settings(alpha=0.9)).play(rounds)
    assert (played.served[-1000:] == 2).mean() > 0.5
    assert attained_levels(played)[-1] > 0.9 - 0.01


def test_the_reference_need_not_be_the_best():
    made = flat([0.5, 0.95, 0.6], [1, 5, 30], 4000)(1)
    played = Bandit(made.rounds.zoo, Settings(alpha=0.9)).play(made.rounds)
    assert attained_levels(played)[-1] > 0.9 - 0.005
    assert (played.served == 2).mean() < 0.1


def test_the_debt_is_paid_even_with_wild_predictions():
    """With next to no regularisation predictions are noise; the guard uses plain means."""
    made = flat([0.5, 0.6, 0.95], [1, 2, 30], 4000)(2)
    tuning = Tuning(own_ridge=1e-3, shared_ridge=1e-3)
    played = Bandit(made.rounds.zoo, Settings(alpha=0.85), tuning=tuning).play(made.rounds)
    assert attained_levels(played)[-1] > 0.85 - 0.01


@pytest.mark.slow
def test_propensities_are_the_shares_with_which_models_are_served():
    """From one state, under many coins: the share of each model is the propensity that is logged with it."""
    made = flat([0.6, 0.8, 0.9], [1, 2, 3], 150)(0)
    for early in (3, 150):
        policy = Bandit(made.rounds.zoo, Settings(alpha=0.7))
        list(drive(policy, replace(made.rounds, order=made.rounds.order[:early]), made.prompts))
        snapshot, logged, served = policy.snapshot(), {}, Counter()
        for seed in range(2000):
            decision = Bandit(made.rounds.zoo, Settings(alpha=0.7, seed=seed), snapshot).decide(Request("r", "prove"))
            served[decision.served] += 1
            assert logged.setdefault(decision.served, decision.propensity) == decision.propensity
            assert decision.queried == (decision.served,)
        assert len(served) > 1
        assert sum(logged.values()) == pytest.approx(1.0)
        for model, share in logged.items():
            assert served[model] / 2000 == pytest.approx(share, abs=5 * (share * (1 - share) / 2000) ** 0.5)


def test_replay_and_live_log_the_same_propensities():
    rounds, prompts = learnable(200), prompts_for(200)
    policy = Bandit(rounds.zoo, Settings(alpha=0.85, seed=3))
    logged = [decision.propensity for decision, _ in drive(policy, rounds, prompts)]
    played = policy.play(rounds)
    assert logged == played.propensity.tolist()
    assert 0 < min(logged) < max(logged) <= 1


def test_a_fixed_v_prices_satisfaction_as_messplus_does():
    """λ = Q·c/V: a larger V saves more and lets the debt grow."""
    rounds = learnable(1500, 2)
    debts, costs = zip(
        *(
            (played.queue_final, played.cost.mean())
            for played in (Bandit(rounds.zoo, Settings(alpha=0.85, v=v)).play(rounds) for v in (0.05, 2.0, 1e6))
        ),
        strict=True,
    )
    assert debts[0] < debts[2]
    assert costs[0] > costs[2]


@pytest.mark.parametrize(("world", "model"), [("degrades halfway", 0), ("swapped halfway", 2)])
def test_a_model_that_degrades_is_given_up(world, model):
    """In the last fifth of the requests the model that failed serves few."""
    shares = [(played.served[-400:] == model).mean() for _, played in (played_in(world, seed) for seed in range(5))]
    assert np.mean(shares) < 0.25, shares


@pytest.mark.slow
def test_a_good_model_that_suddenly_fails_is_given_up_at_once():
    """The surplus of 900 answers that it attained in 6,000 requests is not spent on it."""
    worst, debts = [], []
    for seed in range(5):
        made = flat([0.95, 0.9, 0.95], [1, 2, 3], 8000)(seed)
        satisfied = made.rounds.satisfied.copy()
        satisfied[6000:, 0] = 0.0
        played = Bandit(made.rounds.zoo, Settings(alpha=0.8)).play(replace(made.rounds, satisfied=satisfied))
        assert (played.served[5000:6000] == 0).mean() > 0.9
        worst.append(min(played.satisfied[at : at + 200].mean() for at in range(6000, 7800, 10)))
        debts.append(played.queue_after.max())
    assert min(worst) > 0.3
    assert max(debts) < 80


def test_a_model_that_becomes_expensive_is_replaced():
    made = flat([0.9, 0.9, 0.95], [1, 3, 10], 4000)(0)
    cost = made.rounds.cost.copy()
    cost[2000:, 0] = 9.0
    played = Bandit(made.rounds.zoo, Settings(alpha=0.85)).play(replace(made.rounds, cost=cost))
    assert (played.served[1000:2000] == 0).mean() > 0.7
    assert (played.served[-1000:] == 1).mean() > 0.5


def test_it_costs_less_than_tuned_messplus_on_a_learnable_trace():
    rounds = learnable(1500, 3)
    arranged = rounds.arranged(seed=0, shuffle=True, feedback_rate=1.0, feedback_delay=0)
    ours = Bandit(rounds.zoo, Settings(alpha=0.88)).play(arranged)
    rivals = [
        build("messplus", rounds, Settings(alpha=0.88, v=v, c=c)).play(arranged)
        for v in (0.03, 0.1, 0.3, 1.0)
        for c in (0.1, 0.3, 1.0)
    ]
    least = min(rival.cost.mean() for rival in rivals if rival.attained >= 0.88)
    assert ours.attained >= 0.88
    assert ours.cost.mean() < least
