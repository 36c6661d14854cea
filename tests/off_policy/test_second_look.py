"""Tests of estimates from logs in which several models were asked for some requests."""

from pathlib import Path

import numpy as np
import pytest

from messctl.graders.equality import FORMS
from messctl.learning.features import WordEncoder
from messctl.off_policy.evaluation import evaluate
from messctl.off_policy.log import Log
from messctl.policies import build
from messctl.replay.loading import load
from messctl.zoo import Settings

pytestmark = pytest.mark.slow

BOX = Path(__file__).parents[2] / "traces" / "box.parquet"
ALPHA = 0.85
SEEDS = 12


@pytest.fixture(scope="module")
def rounds():
    return load(BOX, equal=FORMS["text"]).rounds


@pytest.fixture(scope="module")
def logs(rounds):
    """The logs of bandits that may ask three models, each in another order of the trace."""
    found = []
    for seed in range(SEEDS):
        arranged = rounds.arranged(seed=seed, shuffle=True, feedback_rate=1.0, feedback_delay=0)
        played = build("bandit", arranged, Settings(alpha=ALPHA, seed=seed, asks=3)).play(arranged)
        found.append(
            Log(
                path=BOX,
                cost_unit="J",
                zoo=rounds.zoo,
                request_ids=tuple(rounds.request_ids[row] for row in played.order),
                prompts=("",) * len(played.order),
                features=rounds.features.rows(played.order),
                served=played.served,
                propensity=played.propensity,
                satisfied=played.satisfied,
                cost=played.cost,
                alone=played.asks == 1,
            )
        )
    return found


@pytest.mark.parametrize(
    ("model", "estimator"), [("pico-34k", "IPS"), ("pico-34k", "DR"), ("micro-400k", "DR"), ("mini-1m", "DR")]
)
def test_estimates_of_one_model_are_unbiased(rounds, logs, model, estimator):
    index = rounds.zoo.index(model)
    name, means = f"always:{model}", []
    for log in logs:
        result = evaluate(log, [name], Settings(alpha=ALPHA), WordEncoder()).results[0]
        means.append(next(each.attained.mean for each in result.estimates if each.estimator == estimator))
    error = np.std(means, ddof=1) / np.sqrt(SEEDS)
    assert abs(np.mean(means) - rounds.satisfied[:, index].mean()) < 4.0 * error + 0.005


def test_what_is_too_dear_for_a_trial_is_told_to_be_uncovered(logs):
    result = evaluate(logs[0], ["always:mini-1m"], Settings(alpha=ALPHA), WordEncoder()).results[0]
    assert result.overlap.uncovered > 0.3


def test_what_was_logged_is_estimated_as_it_was(logs):
    log = logs[0]
    result = evaluate(log, ["logged"], Settings(alpha=ALPHA), WordEncoder()).results[0]
    for each in result.estimates:
        if each.estimator != "DM":
            assert each.attained.mean == pytest.approx(log.satisfied.mean())
            assert each.cost.mean == pytest.approx(log.cost.mean())
