"""Tests of the cascade: the bandit that may ask several models for one request."""

from dataclasses import replace

import numpy as np
import pytest
from driving import drive
from making import learnable, prompts_for, telling

from messctl.policies import build
from messctl.policies.base import Answers
from messctl.policies.cascade.policy import Cascade
from messctl.records import Evidence, Feedback, Request
from messctl.zoo import Settings


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


def test_a_cascade_is_cheaper_than_one_ask_where_answers_tell_much():
    rounds = telling(learnable(3000), equal=0.1)
    order = rounds.arranged(seed=1, shuffle=True, feedback_rate=1.0, feedback_delay=0)
    one, three = (build("bandit", rounds, Settings(alpha=0.9, asks=asks)).play(order) for asks in (1, 3))
    assert three.satisfied.mean() >= 0.9 - 0.005
    assert three.cost.mean() < 0.9 * one.cost.mean()
    assert three.asks.max() == 3


@pytest.mark.parametrize("equal", [None, 1e-9])
def test_where_answers_tell_nothing_one_model_is_asked(equal):
    """Without answers at all, or if no two are ever equal, as in code."""
    rounds = learnable(2000)
    if equal is not None:
        rounds = telling(rounds, equal=equal, known=0.0)
        alone = np.tile(np.arange(rounds.satisfied.shape[1]), (len(rounds), 1))
        rounds = replace(rounds, answers=Answers(alone, rounds.answers.logprob))
    played = build("bandit", rounds, Settings(alpha=0.8, asks=3)).play(rounds)
    asks = np.ones(len(rounds)) if played.asks is None else played.asks
    assert asks.sum() - len(rounds) < 40
    assert asks[500:].max() == 1
    assert played.satisfied.mean() >= 0.8 - 0.005


def test_hindsight_attains_exactly_the_promise_and_costs_less_than_one_that_learns():
    rounds = telling(learnable(1500), equal=0.1)
    settings = Settings(alpha=0.9, asks=3)
    best, learning = (build(name, rounds, settings).play(rounds) for name in ("hindsight-cascade", "bandit"))
    assert best.satisfied.mean() == pytest.approx(0.9, abs=1e-9)
    assert best.cost.mean() < learning.cost.mean()


def test_a_policy_restored_after_every_request_decides_the_same():
    rounds, prompts = telling(learnable(200)), prompts_for(200)
    settings = Settings(alpha=0.85, asks=3)
    models = rounds.zoo.models
    expected = [(step.served, step.queried) for step, _ in drive(Cascade(rounds.zoo, settings), rounds, prompts)]
    part, found = Cascade(rounds.zoo, settings), []
    for row in range(200):
        part = Cascade(rounds.zoo, settings, part.snapshot())
        decision, seen = part.decide(Request(f"r{row}", prompts[row])), {}
        while decision.served not in seen:
            index = models.index(decision.served)
            seen[decision.served] = Evidence(
                int(rounds.answers.group[row, index]), float(rounds.answers.logprob[row, index])
            )
            part = Cascade(rounds.zoo, settings, part.snapshot())
            decision = part.look(decision, seen)
        found.append((decision.served, decision.queried))
        costs = {model: rounds.cost[row, models.index(model)] for model in decision.queried}
        part.learn(decision, Feedback(costs=costs))
        part = Cascade(rounds.zoo, settings, part.snapshot())
        index = models.index(decision.served)
        part.learn(decision, Feedback(satisfied={decision.served: rounds.satisfied[row, index]}))
    assert found == expected


@pytest.mark.parametrize("power", [-8, 8])
def test_the_unit_of_cost_does_not_matter(power):
    rounds = telling(learnable(400))
    scaled = replace(rounds, cost=rounds.cost * 2.0**power)
    first, second = (build("bandit", each, Settings(alpha=0.85, asks=3)).play(each) for each in (rounds, scaled))
    assert first.served.tolist() == second.served.tolist()
    assert first.asks.tolist() == second.asks.tolist()
