"""Playing a trace through policies: order, replicas, debts, and golden numbers."""

from dataclasses import replace

import numpy as np
import pytest
from making import learnable, make_recording

from messctl.errors import UnknownNameError
from messctl.policies import build, default_names
from messctl.replay.holdout import Holdout, held_out
from messctl.replay.loading import load
from messctl.replay.play import replay, with_queue_at
from messctl.replay.result import Conditions
from messctl.zoo import Settings


def test_an_unknown_policy_is_refused_before_anything_is_played():
    played = []
    with pytest.raises(UnknownNameError, match="did you mean 'hindsight'"):
        replay(
            make_recording(learnable(9)),
            ["random", "hindsigt"],
            Settings(alpha=0.1),
            Conditions(),
            played.append,
        )
    assert played == []


@pytest.mark.parametrize("conditions", [Conditions(), Conditions(feedback_delay=4, feedback_rate=0.6)])
def test_the_queue_at_alpha_is_that_of_a_policy_that_aims_at_alpha(conditions):
    """The same answers give the same queue, even if the policy aimed at another level."""
    recording = make_recording(learnable(200))
    for policy in ("messplus", "bandit"):
        own = replay(recording, [policy], Settings(alpha=0.75), conditions).played[policy]
        other = with_queue_at(replace(own, alpha=0.9), 0.75, delay=conditions.feedback_delay)
        assert with_queue_at(own, 0.75) is own
        assert other.alpha == 0.75
        for name in ("queue_before", "queue_after"):
            assert getattr(other, name).tobytes() == getattr(own, name).tobytes()


@pytest.mark.parametrize("holdout", [None, Holdout(0.4)])
def test_replicas_share_nothing_and_their_debts_add_up(holdout):
    """Each one is a replay of its own share of the requests."""
    recording, settings = make_recording(learnable(301)), Settings(alpha=0.85, seed=5)
    conditions = Conditions(seeds=2, replicas=3, shuffle=True)
    together = replay(recording, ["messplus", "static-mix"], settings, conditions, holdout=holdout).results
    cost, satisfied, queue = [], [], []
    for k in range(2):
        arranged = recording.rounds.arranged(seed=5 + k, shuffle=True, feedback_rate=1.0, feedback_delay=0)
        for replica in range(3):
            part = replace(arranged, order=arranged.order[replica::3], has_feedback=arranged.has_feedback[replica::3])
            played = build("messplus", part, replace(settings, seed=5 + k + 2 * replica)).play(part)
            queue.append(played.queue_final)
            if holdout:
                played = played.only(held_out(recording, holdout)[np.flatnonzero(np.arange(301) % 3 == replica)])
            cost.append(played.cost)
            satisfied.append(played.satisfied)
    assert sum(map(len, cost)) == 2 * (round(0.4 * 301) if holdout else 301)
    assert together[0].mean_cost == pytest.approx(np.concatenate(cost).mean())
    assert together[0].attained == pytest.approx(np.concatenate(satisfied).mean())
    if not holdout:
        assert together[0].attained >= together[0].certificate - 1e-12
    assert together[0].queue_final == pytest.approx(sum(queue) / 2)
    assert together[1].attained == pytest.approx(0.85)  # a yardstick has no replicas


def test_replicas_without_requests_do_no_harm():
    result = replay(make_recording(learnable(3)), ["messplus"], Settings(alpha=0.1), Conditions(replicas=9)).results[0]
    assert result.requests == 3
    assert sum(result.model_share.values()) == pytest.approx(1.0)


def test_golden_numbers_on_the_trace_in_the_box(root):
    recording = load(root / "traces" / "box.parquet")
    outcome = replay(recording, default_names(recording.rounds.zoo.models), Settings(), Conditions())
    found = {result.policy: (result.attained, result.mean_cost) for result in outcome.results}
    for policy, numbers in GOLDEN.items():
        assert found[policy] == pytest.approx(numbers, rel=1e-6), policy
    assert set(found) == set(GOLDEN)


GOLDEN = {
    "always:micro-400k": (0.855, 0.002432007330133334),
    "always:mini-1m": (0.9181666666666667, 0.0080266109952),
    "always:nano-109k": (0.644, 0.0006600136405333334),
    "always:pico-34k": (0.4806666666666667, 0.00020865576533333333),
    "random": (0.7244583333333333, 0.0028318219328000004),
    "static-mix": (0.8, 0.001970113240427173),
    "messplus": (0.8115, 0.003393014112),
    "bandit": (0.8005, 0.0019171915434666668),
    "hindsight": (0.8, 0.0012371271872),
    "clairvoyant": (0.8, 0.0004412782677333334),
}
