"""Tests of `bandit` with late, sparse, missing and repeated feedback."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from bandit_states import SEEDS, attained_levels, state_with
from driving import drive
from making import learnable, prompts_for
from worlds import WORLDS, flat

from messctl.learning.snapshot import Snapshot
from messctl.policies.bandit import Bandit
from messctl.policies.bandit.balance import record_delay
from messctl.policies.bandit.pending import hold_back
from messctl.policies.bandit.policy import HELD_BACK
from messctl.policies.bandit.satisfaction import levels_of
from messctl.policies.bandit.state import UNKNOWN_DELAY
from messctl.policies.bandit.tuning import Tuning
from messctl.records import Feedback, Request
from messctl.zoo import Settings, Zoo


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
            expected += pending * share * (levels.mean[index] - levels.deviation[index] - 0.8)
        assert decision.weighed.figures["balance"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("pending", "answers", "reference_gone", "held"),
    [
        ([8, 8, 900], [0, 0, 0], False, []),
        ([9, 8, 900], [0, 0, 0], False, [0]),
        ([9, 9, 900], [0, 0, 0], False, [0, 1]),
        ([9, 9, 900], [1, 0, 0], False, [1]),
        ([18, 19, 900], [10, 10, 0], False, [1]),
        ([9, 9, 0], [0, 0, 0], True, []),  # somebody must answer
    ],
)
def test_a_model_with_too_many_pending_answers_is_held_back(pending, answers, reference_gone, held):
    state, promise, _ = state_with([0.5, 0.5, 0.5], [1, 2, 30], answers)
    extra = np.array([0.0, 1.0, np.inf if reference_gone else 0.0])
    after = hold_back(state, promise, Tuning(), np.array(pending, dtype=float), extra)
    extra[held] = np.inf
    assert after.tolist() == extra.tolist()


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
    assert before < 0.5
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


def test_the_known_delay_is_a_running_mean_that_begins_with_the_first():
    """Each feedback moves it by an eighth of the difference: one old answer says little."""
    state, _, _ = state_with([0.5], [1], [0])
    seen = []
    for delay in (100, 100, 500, 0, 0, 100):
        record_delay(state, Tuning(), float(delay))
        seen.append(state.ledger.delay)
    assert seen == pytest.approx([100, 100, 150, 131.25, 114.84375, 112.98828125])


def test_requests_count_from_the_first_one_that_this_policy_decided():
    """Another policy decided five before: feedback that comes two requests late is two requests late."""
    policy = Bandit(Zoo.of(["small", "large"], "large"), Settings(alpha=0.8), Snapshot(decided=5))
    first, *_ = [policy.decide(Request(f"r{row}", "name a river")) for row in range(3)]
    assert first.request_number == 6
    policy.learn(first, Feedback(satisfied={first.served: 1.0}))
    tally, ledger = policy._state.tally, policy._state.ledger
    assert (tally.decided, tally.latest, tally.with_feedback, tally.elsewhere) == (3, 1, 1, 5)
    assert ledger.delay == 2.0


def test_what_was_learned_before_a_promise_is_no_part_of_it():
    zoo, promise = Zoo.of(["small", "large"], "large"), Settings(alpha=0.8)
    teacher = Bandit(zoo, promise, Snapshot(decided=5))
    for row in range(3):
        decision = teacher.decide(Request(f"r{row}", "name a river"))
        teacher.learn(decision, Feedback(costs={decision.served: 1.0}, satisfied={decision.served: 0.0}))
    teacher._state.ledger.trial_cost = teacher._state.ledger.forfeited = 7.0
    policy = Bandit(zoo, promise, replace(teacher.snapshot(), decided=0, queue=0.0, balance=0.0))
    tally, ledger = policy._state.tally, policy._state.ledger
    assert (tally.decided, tally.latest, tally.with_feedback, tally.elsewhere, tally.labels) == (0, 0, 0, 0, 3)
    assert (ledger.trial_cost, ledger.forfeited, ledger.delay) == (0.0, 0.0, UNKNOWN_DELAY)
    assert policy.decide(Request("next", "name a lake")).request_number == 1


@pytest.mark.slow
def test_the_promise_holds_with_late_feedback():
    """All of it a hundred requests late: no end half a point low, no dip of more than five points."""
    for world in ("no signal", "strong signal"):
        for seed in range(SEEDS):
            made = WORLDS[world](seed)
            alpha = 0.95 * float(made.rounds.satisfied.mean(axis=0).max())
            played = Bandit(made.rounds.zoo, Settings(alpha=alpha)).play(replace(made.rounds, delay=100))
            assert attained_levels(played)[-1] >= alpha - 0.006, (world, seed)
            assert attained_levels(played)[499:].min() >= alpha - 0.05, (world, seed)


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "delay"), [(0.1, 0), (1.0, 100), (0.3, 30)])
def test_the_promise_holds_with_sparse_and_late_feedback(rate, delay):
    ends = []
    for seed in range(SEEDS):
        made = flat([0.6, 0.8, 0.9], [1, 5, 30], 4000)(seed)
        arranged = made.rounds.arranged(seed=seed, shuffle=True, feedback_rate=rate, feedback_delay=delay)
        ends.append(attained_levels(Bandit(made.rounds.zoo, Settings(alpha=0.85)).play(arranged))[-1] - 0.85)
    assert sum(end < -0.01 for end in ends) <= 1, np.round(ends, 4)


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
