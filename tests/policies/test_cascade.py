"""Tests of the cascade: the bandit that may ask several models for one request."""

from dataclasses import replace

import numpy as np
import pytest
from making import learnable, prompts_for

from messctl.policies import build
from messctl.policies.base import Answers
from messctl.replay.play import drive
from messctl.zoo import Settings


def telling(rounds, *, seed=0, equal=0.5, known=1.0):
    """Return the rounds with answers: right ones are equal, wrong ones often, and confidence tells something."""
    generator = np.random.default_rng(seed)
    right = rounds.satisfied > 0.5
    group = np.where(right, 0, 1 + generator.integers(0, max(1, round(1 / equal)), right.shape))
    logprob = -np.exp(generator.normal(np.where(right, -2.0, -1.0), 0.7))
    logprob[generator.random(right.shape) >= known] = np.nan
    return replace(rounds, answers=Answers(group.astype(np.int64), logprob))


@pytest.mark.parametrize("asks", [2, 3])
@pytest.mark.parametrize(("rate", "delay"), [(1.0, 0), (0.4, 0), (0.5, 7), (0.0, 0), (1.0, 500)])
@pytest.mark.parametrize("known", [0.0, 0.8])
def test_live_and_replay_take_the_same_decisions(asks, rate, delay, known):
    rounds, prompts = telling(learnable(300), known=known), prompts_for(300)
    arranged = rounds.arranged(seed=5, shuffle=True, feedback_rate=rate, feedback_delay=delay)
    policy = build("bandit", rounds, Settings(alpha=0.85, asks=asks))
    played = policy.play(arranged)
    steps = [decision for decision, _ in drive(policy, arranged, prompts)]
    models = rounds.zoo.models
    assert [step.served for step in steps] == [models[index] for index in played.served]
    assert [len(step.queried) for step in steps] == played.asks.tolist()
    assert [step.queue for step in steps] == played.queue_before.tolist()
    assert [step.propensity for step in steps] == played.propensity.tolist()
    predicted = np.array([[step.predicted[model] for model in models] for step in steps])
    assert predicted.tobytes() == played.predicted.tobytes()
    assert policy.queue == played.queue_final
