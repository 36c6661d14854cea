"""MESS+ recomputed from scratch: from its steps, and from the paper's description alone."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from driving import drive
from making import learnable, make_recording, prompts_for
from plain_features import plain_features

from messctl.learning.compiled import plainly
from messctl.learning.predictor import Weights
from messctl.learning.random_streams import stream
from messctl.policies import build
from messctl.policies.messplus.rounds import learn_along
from messctl.replay.play import replay
from messctl.replay.result import Conditions
from messctl.replay.steps import write_steps
from messctl.zoo import Settings


def steps_of(tmp_path: Path, settings: Settings, conditions: Conditions, n: int = 300):
    rounds = learnable(n)
    played = replay(make_recording(rounds), ["messplus"], settings, conditions)
    write_steps(played, "messplus", tmp_path / "steps.parquet")
    return pq.read_table(tmp_path / "steps.parquet"), rounds, played


CASES = [
    (Settings(alpha=0.8), Conditions()),
    (Settings(alpha=0.75, margin=0.125, v=0.4), Conditions(feedback_delay=3, feedback_rate=0.7)),
    (Settings(alpha=0.9, margin=0.5), Conditions()),
    (Settings(alpha=0.85, v=0.1, c=0.5), Conditions()),
    (Settings(alpha=0.85, v=2.0, c=0.2, seed=3), Conditions(shuffle=True)),
    (Settings(alpha=0.9, v=0.02, c=1.0, cost_scale=1.0), Conditions(feedback_rate=0.5)),
    (Settings(alpha=0.7, v=0.5, c=0.4, exponent=0.5), Conditions(feedback_delay=5, feedback_rate=0.8)),
]


@pytest.mark.parametrize(("settings", "conditions"), CASES)
def test_every_decision_can_be_recomputed_from_its_row(tmp_path, settings, conditions):
    """From the file of steps alone: the served model, its probability, and the queue."""
    table, _, played = steps_of(tmp_path, settings, conditions)
    stated = json.loads(table.schema.metadata[b"messctl"])
    assert stated["v"] == settings.weight
    aim = min(1.0, stated["alpha"] + stated["margin"])
    models = sorted(name.split("/", 1)[1] for name in table.schema.names if name.startswith("predicted/"))
    rows = table.to_pylist()
    assert [row["t"] for row in rows] == list(range(1, len(rows) + 1))
    for row in rows:
        assert row["p_explore"] == min(1.0, stated["c"] / row["t"] ** stated["exponent"])
        if row["explored"]:
            assert row["served"] == stated["reference"]
            continue
        mean = {model: row[f"mean_cost/{model}"] or 0.0 for model in models}
        scale = stated["cost_scale"] or max(mean.values()) or 1.0
        score = {
            model: stated["v"] * (mean[model] / scale) + row["queue_before"] * (aim - row[f"predicted/{model}"])
            for model in models
        }
        assert row["served"] == min(models, key=lambda model: (score[model], mean[model], model))
    for row, following in itertools.pairwise(rows):
        assert following["queue_before"] == row["queue_after"]
    # The certificate: the queue bounds how much satisfaction is missing, first against the aim with its margin ...
    has_feedback = [row["satisfied"] for row in rows if row["satisfied"] is not None]
    assert sum(has_feedback) >= aim * len(has_feedback) - rows[-1]["queue_after"] - 1e-9
    # ... and, in the printed result, against the promise.
    debt = 0.0
    for value in has_feedback:
        debt = max(0.0, debt + stated["alpha"] - value)
    (result,) = played.results
    assert result.queue_final == debt
    assert result.certificate == pytest.approx(stated["alpha"] - debt / len(has_feedback))
    assert result.attained >= result.certificate - 1e-9
    queue, waiting = 0.0, [row["satisfied"] for row in rows]
    for row in rows:
        due = row["t"] - stated["feedback_delay"] if row["t"] < len(rows) else len(rows)
        while len(rows) - len(waiting) < due:
            value = waiting.pop(0)
            queue = queue if value is None else max(0.0, queue + aim - value)
        assert row["queue_after"] == queue


@pytest.mark.parametrize(("settings", "conditions"), CASES)
def test_a_second_implementation_from_the_paper_decides_the_same(tmp_path, settings, conditions):
    """All of it in plain Python: features, predictor, costs, queue, coins."""
    table, rounds, _ = steps_of(tmp_path, settings, conditions)
    rows = table.to_pylist()
    n, models, prompts = len(rows), rounds.zoo.models, prompts_for(300)
    order = stream(settings.seed, "shuffle").permutation(n) if conditions.shuffle else range(n)
    judged = stream(settings.seed, "feedback").random(n) < conditions.feedback_rate
    coins = stream(settings.seed, "exploration").random(n)
    weight = {model: {} for model in models}
    bias = dict.fromkeys(models, 0.0)
    taken = dict.fromkeys(models, 0)
    paid = {model: [] for model in models}
    queue, pending = 0.0, []

    def chance(model, features):
        z = bias[model] + sum(weight[model].get(index, 0.0) * value for index, value in features.items())
        return 1 / (1 + math.exp(-z))

    for t, trace_row in enumerate(order, start=1):
        row = rows[t - 1]
        features = plain_features(prompts[trace_row])
        assert row["request_id"] == f"r{trace_row}"
        assert row["queue_before"] == pytest.approx(queue, abs=1e-9)
        for model in models:
            assert row[f"predicted/{model}"] == pytest.approx(chance(model, features), abs=1e-6)
            mean = row[f"mean_cost/{model}"]
            assert mean == (pytest.approx(np.mean(paid[model])) if paid[model] else None)
        explored = coins[t - 1] < min(1, settings.c / t**settings.exponent)
        assert row["explored"] == explored
        queried = models if explored else [row["served"]]
        cost = dict(zip(models, rounds.cost[trace_row], strict=True))
        satisfied = dict(zip(models, rounds.satisfied[trace_row], strict=True))
        assert row["cost"] == pytest.approx(sum(cost[model] for model in queried))
        for model in queried:
            paid[model].append(cost[model])
        assert row["satisfied"] == (satisfied[row["served"]] if judged[t - 1] else None)
        pending.append((judged[t - 1], explored, features, satisfied, row["served"]))
        due = [pending.pop(0)] if len(pending) > conditions.feedback_delay else []
        if t == n:
            due += pending
        for has_feedback, explored_then, features_then, labels, served in due:
            if not has_feedback:
                continue
            queue = max(0.0, queue + settings.aim - labels[served])
            for model in models if explored_then else ():
                taken[model] += 1
                rate = 0.3 / taken[model] ** 0.25
                slope = chance(model, features_then) - labels[model]
                for index in set(weight[model]) | set(features_then):
                    old = weight[model].get(index, 0.0) * (1 - rate * 1e-3)
                    weight[model][index] = old - rate * slope * features_then.get(index, 0.0)
                bias[model] -= rate * slope
        assert row["queue_after"] == pytest.approx(queue, abs=1e-9)


def test_the_odds_are_those_of_the_coin_that_explores():
    """Exploring serves the reference, and otherwise the least sum serves; they may be the same model."""
    rounds, prompts = learnable(60), prompts_for(60)
    policy = build("messplus", rounds, Settings(alpha=0.85, v=0.3, c=0.6))
    same = set()
    for decision, _ in drive(policy, rounds, prompts):
        sums = {model: sum(term[model] for term in decision.weighed.terms.values()) for model in rounds.zoo.models}
        best = min(sums, key=lambda model: (sums[model], decision.mean_cost.get(model, 0.0), model))
        odds = {model: decision.p_explore * (model == "large") for model in sums}
        odds[best] += 1.0 - decision.p_explore
        assert decision.odds == pytest.approx({model: chance for model, chance in odds.items() if chance})
        assert decision.propensity == decision.odds[decision.served]
        same.add(best == "large")
    assert same == {True, False}


@pytest.mark.parametrize("delay", [0, 1, 3, 100])
def test_every_explored_request_with_feedback_teaches_once(delay):
    """The last one, too, and no matter how late the feedback comes."""
    rounds = replace(learnable(6), delay=delay, has_feedback=np.array([1, 0, 1, 1, 0, 1], dtype=bool))
    explored = np.array([1, 1, 0, 1, 0, 1], dtype=bool)
    weights, predicted = Weights.zero(3, rounds.features.width), np.empty((6, 3))
    learned = (weights.weight, weights.bias, weights.steps)
    with plainly():
        learn_along(rounds.arrivals, explored, rounds.features.sparse_rows, rounds.satisfied, learned, predicted)
    assert weights.steps.tolist() == [3, 3, 3]
    if delay >= 6:
        assert (predicted == 0.5).all(), "nothing is known before the feedback comes"


def test_it_keeps_the_promise_for_less_than_the_costliest_model(tmp_path):
    """The words of these requests tell how hard they are."""
    rounds = learnable(3000, seed=2)
    result = replay(make_recording(rounds), ["messplus"], Settings(alpha=0.85, v=0.3), Conditions(seeds=3)).results[0]
    assert result.attained >= 0.845
    assert result.cost_vs_costliest < 0.8
    assert all(share > 0 for share in result.model_share.values())


def test_a_small_v_attains_more_and_a_large_v_costs_less(tmp_path):
    rounds = make_recording(learnable(2000, seed=4))
    runs = [replay(rounds, ["messplus"], Settings(alpha=0.85, v=v), Conditions(seeds=3)).results[0] for v in (0.01, 30)]
    assert runs[0].attained > runs[1].attained
    assert runs[0].mean_cost > runs[1].mean_cost
    assert runs[0].queue_final < runs[1].queue_final
