"""The plot of an evaluation."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from making import learnable
from pictures import assert_apart

from messctl.display.plotting import DARK, LIGHT
from messctl.learning.features import WordEncoder, encode
from messctl.off_policy import Log, evaluate
from messctl.off_policy import plot as plots
from messctl.zoo import Settings, Zoo


def evaluated(log, policies, alpha=0.7):
    return evaluate(log, policies, Settings(alpha=alpha), WordEncoder())


def log_of(served, satisfied, cost=None, names=("m0", "m1")) -> Log:
    """Return a log with these values of a policy that draws each model as often."""
    n = len(served)
    prompts = [f"prompt {row}" for row in range(n)]
    return Log(
        path=Path("made.parquet"),
        cost_unit="J",
        zoo=Zoo.of(list(names), names[-1]),
        request_ids=tuple(f"r{row}" for row in range(n)),
        prompts=tuple(prompts),
        features=encode(pa.array(prompts, pa.large_string())),
        served=np.array(served),
        propensity=np.full(n, 1.0 / len(names)),
        satisfied=np.array(satisfied, dtype=float),
        cost=np.full(n, 2.0) if cost is None else np.array(cost, dtype=float),
        alone=np.ones(n, dtype=bool),
    )


def random_log(n=200) -> Log:
    rounds, served = learnable(n), np.random.default_rng(1).integers(0, 3, n)
    rows = np.arange(n)
    return log_of(served, rounds.satisfied[rows, served], rounds.cost[rows, served], rounds.zoo.models)


LOGS = {
    "all models": (random_log, ["always:small", "always:middle", "always:large", "random", "static-mix"]),
    "one policy": (random_log, ["always:middle"]),
    "no feedback": (lambda: log_of([0, 1] * 20, [float("nan")] * 40), ["always:m0", "always:m1"]),
    "no overlap": (lambda: log_of([0] * 40, [1.0, 0.0] * 20), ["always:m0", "always:m1"]),
    "wide costs": (lambda: log_of([0, 1] * 20, [1.0] * 40, [0.001, 5.0] * 20), ["always:m0", "always:m1"]),
    "eight rows": (random_log, ["always:large"] * 4 + ["random"] * 4),
}


@pytest.mark.parametrize(("log", "policies"), LOGS.values(), ids=LOGS)
def test_no_label_lies_on_another_or_leaves_the_picture(log, policies):
    evaluation = evaluated(log(), policies)
    for look in (LIGHT, DARK):
        assert_apart(plots.drawn(evaluation, look))


def test_the_estimates_of_a_policy_lie_beside_each_other_around_its_row():
    evaluation = evaluated(random_log(), ["always:small", "random", "always:large"])
    attained, _ = plots.drawn(evaluation).axes
    for row, each in enumerate(evaluation.results):
        means = {estimate.attained.mean for estimate in each.estimates}
        marks = [line for line in attained.lines if len(line.get_xdata()) == 1 and line.get_xdata()[0] in means]
        places = sorted({float(line.get_ydata()[0]) for line in marks})
        places = [place for place in places if abs(place - row) < 0.5]
        assert len(places) == len(each.estimates)
        assert np.mean(places) == pytest.approx(row)
        assert np.diff(places) == pytest.approx(places[1] - places[0])


def test_every_interval_is_drawn_and_the_verdict_written():
    evaluation = evaluated(random_log(), ["always:small", "always:large"])
    attained, cost = plots.drawn(evaluation).axes
    for axes, name in ((attained, "attained"), (cost, "cost")):
        lines = {tuple(map(float, line.get_xdata())) for line in axes.lines}
        for each in evaluation.results:
            for estimates in each.estimates:
                estimate = getattr(estimates, name)
                assert (estimate.mean,) in lines
                assert estimate.interval is None or tuple(estimate.interval) in lines
    verdicts = [text.get_text() for text in cost.texts]
    assert verdicts == [plots.VERDICTS[each.sla_met(0.7)] for each in evaluation.results]
