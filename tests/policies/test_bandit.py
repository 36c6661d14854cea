"""Tests of `bandit`: two drivers, adversarial worlds, starvation, propensities, sparse and late feedback."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import arbitrary_rounds, learnable, make_rounds, prompts_for
from worlds import WORLDS, flat

from messctl.learning.snapshot import Snapshot
from messctl.policies import build
from messctl.policies.bandit import Bandit
from messctl.policies.bandit.choice import Prices, choose
from messctl.policies.bandit.debt import record_delay
from messctl.policies.bandit.guard import guard_choice, guard_depth
from messctl.policies.bandit.pending import hold_back
from messctl.policies.bandit.policy import GUARDED, HELD_BACK, SEARCHED, TRIED
from messctl.policies.bandit.price import price_of, reserve_of
from messctl.policies.bandit.satisfaction import Levels, learn_satisfaction, levels_of
from messctl.policies.bandit.search import is_searching
from messctl.policies.bandit.state import AUTO_V, WIDTH, Promise, fresh
from messctl.policies.bandit.trials import odds_of
from messctl.policies.bandit.tuning import SatisfactionTuning, SearchTuning, Tuning
from messctl.records import Feedback, Request
from messctl.replay.play import drive
from messctl.zoo import Settings, Zoo

few = settings(max_examples=15, deadline=None)
SEEDS = 10


def levels(played):
    has_feedback = played.satisfied[~np.isnan(played.satisfied)]
    return np.cumsum(has_feedback) / np.arange(1, len(has_feedback) + 1)


def played_in(world, seed, share=0.95):
    made = WORLDS[world](seed)
    alpha = share * float(made.rounds.satisfied.mean(axis=0).max())
    return alpha, Bandit(made.rounds.zoo, Settings(alpha=alpha)).play(made.rounds)


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


def test_a_state_without_the_recent_mean_goes_on():
    """Earlier versions did not store it. The price is solved again; all else stays."""
    rounds, prompts = learnable(60), prompts_for(60)
    before = Bandit(rounds.zoo, Settings(alpha=0.85))
    list(drive(before, rounds, prompts))
    known = before.snapshot()
    known.cost_shared["ledger"] = known.cost_shared["ledger"][:3]
    after = Bandit(rounds.zoo, Settings(alpha=0.85), known)
    assert (after.queue, after.snapshot().balance) == (before.queue, before.snapshot().balance)
    assert after.decide(Request("next", prompts[0])).weighed.figures["λ"] > 0.0


def test_a_model_that_joins_is_tried():
    rounds, prompts = learnable(300), prompts_for(300)
    two = make_rounds(rounds.satisfied[:, :2], rounds.cost[:, :2], list(rounds.zoo.models[:2]), prompts)
    before = Bandit(two.zoo, Settings(alpha=0.85))
    list(drive(before, two, prompts))
    after = Bandit(rounds.zoo, Settings(alpha=0.85), before.snapshot())
    served = {decision.served for decision, _ in drive(after, rounds, prompts)}
    assert rounds.zoo.models[2] in served


@pytest.mark.parametrize("world", WORLDS)
def test_adversarial_worlds_end_at_alpha(world):
    """At least nine of ten seeds end within half a point of α.

    In one world the worst model becomes the best halfway, and the best the worst. There 9 of 60 orders end up to two
    points below, and seven of ten seeds are required.
    """
    ends = [levels(played)[-1] - alpha for alpha, played in (played_in(world, seed) for seed in range(SEEDS))]
    assert sum(end < -0.005 for end in ends) <= (3 if world == "swapped halfway" else 1), np.round(ends, 4)


@pytest.mark.parametrize("world", WORLDS)
def test_adversarial_worlds_never_dip_far(world):
    """From request 500 on, at least nine of ten seeds stay within two points of α.

    If the reference is the worst, trusting it first costs more: three points. If it becomes the worst halfway, and the
    worst model the best, unlearning both takes a debt: five points (14 of 60 orders exceed two points).
    """
    bound = {"the dearest is the worst": -0.03, "swapped halfway": -0.05}.get(world, -0.02)
    dips = [levels(played)[499:].min() - alpha for alpha, played in (played_in(world, seed) for seed in range(SEEDS))]
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
    assert levels(played)[-1] > 0.9 - 0.01


def test_the_reference_need_not_be_the_best():
    made = flat([0.5, 0.95, 0.6], [1, 5, 30], 4000)(1)
    played = Bandit(made.rounds.zoo, Settings(alpha=0.9)).play(made.rounds)
    assert levels(played)[-1] > 0.9 - 0.005
    assert (played.served == 2).mean() < 0.1


def test_the_debt_is_paid_even_with_wild_predictions():
    """With next to no regularisation predictions are noise; the guard uses plain means."""
    made = flat([0.5, 0.6, 0.95], [1, 2, 30], 4000)(2)
    tuning = Tuning(satisfaction=SatisfactionTuning(own_ridge=1e-3, shared_ridge=1e-3))
    played = Bandit(made.rounds.zoo, Settings(alpha=0.85), tuning=tuning).play(made.rounds)
    assert levels(played)[-1] > 0.85 - 0.01


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


@pytest.mark.parametrize(("rate", "delay"), [(1.0, 40), (0.5, 25), (1.0, 0), (0.1, 5)])
def test_pending_feedback_counts_as_the_models_mean_less_a_doubt(rate, delay, monkeypatch):
    """The balance, recomputed from the decisions: the feedback that came, and what may still come."""
    rounds, prompts = learnable(400), prompts_for(400)
    arranged = rounds.arranged(seed=5, shuffle=True, feedback_rate=rate, feedback_delay=delay)
    policy = Bandit(rounds.zoo, Settings(alpha=0.8))
    decide, standings = policy.decide, []

    def recording(request):
        standings.append((levels_of(policy._state, policy._promise, Tuning()), policy._state.answers.copy()))
        return decide(request)

    monkeypatch.setattr(policy, "decide", recording)
    steps = list(drive(policy, arranged, prompts))
    for t, (decision, _) in enumerate(steps):
        due = [satisfied for _, satisfied in steps[: max(0, t - delay)]]
        has_feedback = [number + 1 for number, satisfied in enumerate(due) if satisfied is not None]
        latest = max(has_feedback, default=0)
        # Feedback on decision k comes once k + delay were decided; for well-known models it is given up in time.
        longest = 2 * (8 + delay) if has_feedback else 1024
        coming = [(t - 1 - at, each) for at, (each, _) in enumerate(steps[:t]) if at >= latest]
        share = len(has_feedback) / latest if has_feedback else 1.0
        levels, answers = standings[t]
        expected = sum(satisfied - 0.8 for satisfied in due if satisfied is not None)
        for ago, each in coming:
            index = rounds.zoo.index(each.served)
            pending = ago < longest or answers[index] < 8
            expected += pending * share * (levels.mean[index] - 0.4 / np.sqrt(levels.answers[index]) - 0.8)
        assert decision.weighed.figures["balance"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("pending", "answers", "reference_gone", "held"),
    [
        ([8, 8, 900], [0, 0, 0], False, []),
        ([9, 8, 900], [0, 0, 0], False, [0]),
        ([9, 9, 900], [0, 0, 0], False, [0, 1]),
        ([9, 9, 900], [1, 0, 0], False, [1]),
        ([48, 49, 900], [10, 10, 0], False, [1]),
        ([9, 9, 0], [0, 0, 0], True, []),  # somebody must answer
    ],
)
def test_a_model_with_too_many_pending_answers_is_held_back(pending, answers, reference_gone, held):
    state, promise, _ = state_with([0.5, 0.5, 0.5], [1, 2, 30], answers)
    extra = np.array([0.0, 1.0, np.inf if reference_gone else 0.0])
    after = hold_back(state, promise, Tuning(), np.array(pending, dtype=float), extra)
    extra[held] = np.inf
    assert after.tolist() == extra.tolist()


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


def share_of(steps, model):
    """The share of the requests that the model served."""
    return np.mean([decision.served == model for decision, _ in steps])


def test_without_any_feedback_the_reference_serves():
    rounds, prompts = learnable(600), prompts_for(600)
    silent = rounds.arranged(seed=5, shuffle=True, feedback_rate=0.0, feedback_delay=0)
    steps = list(drive(Bandit(rounds.zoo, Settings(alpha=0.8)), silent, prompts))
    for model in rounds.zoo.models:
        share = share_of(steps, model)
        assert share > 0.95 if model == rounds.zoo.reference else share * 600 <= 9
    notes = {decision.weighed.note for decision, _ in steps}
    assert HELD_BACK in notes


def test_after_feedback_stops_the_choices_stay_the_same():
    """Feedback that came at once, and stopped, is soon given up."""
    rounds, prompts = learnable(3000), prompts_for(3000)
    stopping = replace(rounds, has_feedback=np.arange(3000) < 1500)
    policy = Bandit(rounds.zoo, Settings(alpha=0.8))
    steps = list(drive(policy, stopping, prompts))
    before, after = share_of(steps[1000:1500], rounds.zoo.reference), share_of(steps[1500:], rounds.zoo.reference)
    assert 0.0 < before < 0.5
    assert after <= before + 0.05
    assert steps[-1][0].weighed.figures["balance"] == pytest.approx(policy.snapshot().balance, abs=1.0)


def test_a_new_model_is_held_back_if_feedback_has_stopped():
    """Also if much is known of the others, from a trace with feedback at once that is not part of the promise."""
    prompts = prompts_for(600)
    teacher = Bandit(Zoo.of(["small", "large"], "large"), Settings(alpha=0.8))
    for number, prompt in enumerate(prompts[:400]):
        decision = teacher.decide(Request(f"t{number}", prompt))
        served = decision.served
        good = float(served == "large" or number % 10 < 8)
        teacher.learn(decision, Feedback(costs={served: 1.0 if served == "small" else 5.0}, satisfied={served: good}))
    taught = teacher.snapshot()
    for learned in (taught, replace(taught, decided=0, queue=0.0, balance=0.0)):
        zoo = Zoo.of(["new", "small", "large"], "large")
        policy = Bandit(zoo, Settings(alpha=0.8), learned)
        asked_of = Counter()
        for number, prompt in enumerate(prompts):
            decision = policy.decide(Request(f"r{number}", prompt))
            asked_of[decision.served] += 1
            policy.learn(
                decision, Feedback(costs={decision.served: {"new": 0.1, "small": 1.0, "large": 5.0}[decision.served]})
            )
        assert 0 < asked_of["new"] <= 9


def test_the_known_delay_grows_by_a_quarter_and_falls_by_a_hundredth():
    """The first feedback sets it."""
    state, _, _ = state_with([0.5], [1], [0])
    seen = []
    for delay in (100, 100, 500, 0, 0, 99):
        record_delay(state, float(delay))
        seen.append(state.ledger.delay)
    assert seen == pytest.approx([100, 100, 200, 198, 196.02, 194.0598])


def test_the_promise_holds_with_late_feedback():
    """All of it a hundred requests late: no end half a point low, no dip of more than five points."""
    for world in ("no signal", "strong signal"):
        for seed in range(SEEDS):
            made = WORLDS[world](seed)
            alpha = 0.95 * float(made.rounds.satisfied.mean(axis=0).max())
            played = Bandit(made.rounds.zoo, Settings(alpha=alpha)).play(replace(made.rounds, delay=100))
            assert levels(played)[-1] >= alpha - 0.006, (world, seed)
            assert levels(played)[499:].min() >= alpha - 0.05, (world, seed)


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


@pytest.mark.parametrize(("world", "model"), [("degrades halfway", 0), ("swapped halfway", 2)])
def test_a_model_that_degrades_is_given_up(world, model):
    """In the last fifth of the requests the model that failed serves few."""
    shares = [(played.served[-400:] == model).mean() for _, played in (played_in(world, seed) for seed in range(5))]
    assert np.mean(shares) < 0.25, shares


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
    assert min(worst) > 0.4
    assert max(debts) < 80


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


def test_a_model_that_becomes_expensive_is_replaced():
    made = flat([0.9, 0.9, 0.95], [1, 3, 10], 4000)(0)
    cost = made.rounds.cost.copy()
    cost[2000:, 0] = 9.0
    played = Bandit(made.rounds.zoo, Settings(alpha=0.85)).play(replace(made.rounds, cost=cost))
    assert (played.served[1000:2000] == 0).mean() > 0.7
    assert (played.served[-1000:] == 1).mean() > 0.5


@pytest.mark.parametrize(("rate", "delay"), [(0.1, 0), (1.0, 100), (0.3, 30)])
def test_the_promise_holds_with_sparse_and_late_feedback(rate, delay):
    ends = []
    for seed in range(SEEDS):
        made = flat([0.6, 0.8, 0.9], [1, 5, 30], 4000)(seed)
        arranged = made.rounds.arranged(seed=seed, shuffle=True, feedback_rate=rate, feedback_delay=delay)
        ends.append(levels(Bandit(made.rounds.zoo, Settings(alpha=0.85)).play(arranged))[-1] - 0.85)
    assert sum(end < -0.01 for end in ends) <= 1, np.round(ends, 4)


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


def test_rounds_without_any_feedback_are_played():
    made = WORLDS["no signal"](0)
    arranged = made.rounds.arranged(seed=0, shuffle=False, feedback_rate=0.0, feedback_delay=0)
    played = Bandit(made.rounds.zoo, Settings(alpha=0.85)).play(arranged)
    assert played.queue_final == 0.0
    assert np.isfinite(played.predicted).all()


def test_feedback_may_be_graded_and_repeated_and_come_in_any_order():
    rounds, prompts = learnable(50), prompts_for(50)
    policy = Bandit(rounds.zoo, Settings(alpha=0.8))
    decisions = [policy.decide(Request(f"r{row}", prompts[row])) for row in range(50)]
    for decision in reversed(decisions):
        policy.learn(decision, Feedback())
        policy.learn(decision, Feedback(satisfied={decision.served: 0.5}))
        policy.learn(decision, Feedback(costs={decision.served: 1.0}))
    assert policy.queue > 0


def test_it_costs_less_than_tuned_messplus_on_a_learnable_trace():
    rounds = learnable(1500, 3)
    arranged = rounds.arranged(seed=0, shuffle=True, feedback_rate=1.0, feedback_delay=0)
    ours = Bandit(rounds.zoo, Settings(alpha=0.88)).play(arranged)
    rivals = [
        build("messplus", rounds, Settings(alpha=0.88, v=v, c=c)).play(arranged)
        for v in (0.03, 0.1, 0.3, 1.0)
        for c in (0.1, 0.3, 1.0)
    ]
    least = min(rival.cost.mean() for rival in rivals if rival.attained >= 0.875)
    assert ours.attained >= 0.875
    assert ours.cost.mean() < least


KNOWN = 100.0


PLAIN = np.zeros(WIDTH)
PLAIN[0] = 1.0  # a prompt that says nothing


def state_with(satisfied, cost, answers):
    """A state in which each model has this mean satisfaction over this number of answers, and this mean cost."""
    answers = np.array(answers, dtype=float)
    state = fresh(len(cost), Tuning())
    state.answers[:], state.satisfaction_sum[:] = answers, answers * satisfied
    state.mean_cost[:], state.cost_count[:] = cost, 10
    tally, total = state.tally, int(answers.sum())
    tally.decided = tally.with_feedback = tally.latest = tally.labels = total
    promise = Promise(0.8, len(cost) - 1, AUTO_V)
    return state, promise, levels_of(state, promise, Tuning())


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
    assert is_searching(state, promise, Tuning(), levels, extra, cheap) is expected
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
    assert choice.searched is searched
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


def test_the_search_finds_a_cheap_model_that_suffices():
    """Ten models that cost 1, one of which keeps the promise, and one at 30: the search costs less, at the promise."""
    searched, plain = [], []
    for seed in range(SEEDS):
        rounds = flat([*np.linspace(0.5, 0.74, 9), 0.84, 0.92], [*np.linspace(0.9, 1.1, 10), 30.0])(seed).rounds
        for costs, tuning in ((searched, Tuning()), (plain, Tuning(search=SearchTuning(cheap=0.0)))):
            played = Bandit(rounds.zoo, Settings(alpha=0.82), tuning=tuning).play(rounds)
            assert levels(played)[-1] > 0.82 - 0.01
            costs.append(played.cost.mean())
    assert np.mean(searched) < 0.9 * np.mean(plain)
