"""The plot of a replay."""

import json
from dataclasses import replace

import numpy as np
import pytest
from making import learnable, make_recording, make_rounds
from pictures import assert_apart

from messctl.display.plotting import DARK
from messctl.policies import default_names
from messctl.replay import plot, report
from messctl.replay.loading import load
from messctl.replay.play import replay
from messctl.replay.result import Conditions
from messctl.zoo import Settings


@pytest.fixture(scope="module")
def outcome():
    recording = make_recording(learnable(300))
    return replay(recording, default_names(recording.rounds.zoo.models), Settings(alpha=0.85), Conditions(seeds=2))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.PNG", b"\x89PNG")])
def test_the_same_replay_gives_the_same_plot(outcome, tmp_path, name, start):
    plot.write_plot(outcome, tmp_path / name)
    first = (tmp_path / name).read_bytes()
    assert first.startswith(start)
    assert len(first) > 10_000
    plot.write_plot(outcome, tmp_path / name)
    assert (tmp_path / name).read_bytes() == first


def crowded(models, requests=400):
    """Return rounds of many models with long names, of which most cost and satisfy nearly the same."""
    draw = np.random.default_rng(7)
    quality = np.linspace(0.55, 0.8, models)[None] + 0.02 * draw.random((1, models))
    cost = np.geomspace(1.0, 40.0, models).round() + 0.0 * draw.random((requests, 1))
    satisfied = (draw.random((requests, models)) < quality).astype(float)
    return make_rounds(satisfied.tolist(), cost.tolist(), [f"maker/model-of-kind-{k}" for k in range(models)])


TRACES = {
    "learnable": (lambda: learnable(300), 0.85),
    "twelve models": (lambda: crowded(12), 0.7),
    "twenty models": (lambda: crowded(20), 0.75),
    "two models": (lambda: crowded(2), 0.6),
    "one cost": (lambda: make_rounds([[1, 0, 1], [0, 1, 1]] * 60, [[2.0, 2.0, 2.0]] * 120, list("abc")), 0.5),
    "one model": (lambda: make_rounds([[1.0], [0.0]] * 60, [[2.0]] * 120, ["alone"]), 0.5),
}


@pytest.mark.slow
@pytest.mark.parametrize(("rounds", "alpha"), TRACES.values(), ids=TRACES)
def test_no_label_lies_on_another_or_leaves_the_picture(rounds, alpha):
    recording = make_recording(rounds())
    names = default_names(recording.rounds.zoo.models)
    played = replay(recording, names, Settings(alpha=alpha), Conditions(seeds=2, shuffle=True))
    assert_apart(plot.drawn(played))
    assert_apart(plot.drawn(played, DARK))


@pytest.mark.slow
def test_no_label_of_the_box_lies_on_another(root):
    recording = load(root / "traces" / "box.parquet", None)
    names = default_names(recording.rounds.zoo.models)
    for alpha in (0.6, 0.85, 0.9):
        assert_apart(plot.drawn(replay(recording, names, Settings(alpha=alpha), Conditions())))


def test_costs_that_span_a_factor_of_ten_are_drawn_on_a_logarithmic_axis():
    for factor, scale in ((9.0, "linear"), (11.0, "log")):
        rounds = make_rounds([[0, 1], [1, 1]] * 40, [[1.0, factor]] * 80, ["small", "large"])
        played = replay(make_recording(rounds), ["always:small", "always:large"], Settings(alpha=0.6), Conditions())
        assert plot.drawn(played).axes[0].get_xscale() == scale


def test_every_policy_is_a_point_where_its_result_says(outcome):
    overview = plot.drawn(outcome).axes[0]
    drawn = {(float(x), float(y)) for line in overview.lines for x, y in zip(*line.get_data(), strict=True)}
    for result in outcome.results:
        assert any(np.allclose((result.mean_cost, result.attained), point, rtol=0.05) for point in drawn), result.policy
        if not result.policy.startswith("always:"):
            assert (result.mean_cost, result.attained) in drawn


def test_attainment_is_drawn_with_what_is_certain_of_it(outcome):
    attainment = plot.drawn(outcome).axes[1]
    ends = {float(line.get_ydata()[-1]) for line in attainment.lines}
    judged = outcome.played[outcome.judged.policy]
    answers = (~np.isnan(judged.satisfied)).sum()
    assert any(end == pytest.approx(0.85 - judged.queue_final / answers) for end in ends)
    assert any(end == pytest.approx(np.nanmean(judged.satisfied)) for end in ends)


def test_special_characters_in_names_are_drawn(tmp_path):
    rounds = make_rounds([[1, 0, 1]] * 9, [[1, 2, 3]] * 9, ["a$\\frac$", "b$x_$", "\x1b[31mc"])
    played = replay(make_recording(rounds), default_names(rounds.zoo.models), Settings(alpha=0.5), Conditions())
    plot.write_plot(played, tmp_path / "a.svg")
    assert (tmp_path / "a.svg").stat().st_size > 10_000


def test_a_plot_of_single_models_and_of_little_feedback(tmp_path):
    recording = make_recording(learnable(30))
    conditions = Conditions(feedback_rate=0.0)
    for names in (["always:large"], ["messplus"]):
        plot.write_plot(replay(recording, names, Settings(alpha=0.5), conditions), tmp_path / "a.png")


def test_a_live_log_is_drawn_and_reported(tmp_path):
    nan = float("nan")
    rounds = replace(
        make_rounds([[1, nan, nan], [nan, 0, nan]], [[1, nan, nan], [nan, 2, nan]]), served=np.array([0, 1])
    )
    recording = make_recording(rounds, partial=True)
    played = replay(recording, ["logged"], Settings(alpha=0.5), Conditions())
    plot.write_plot(played, tmp_path / "a.png")
    assert "nan" not in json.dumps(report.document(played), allow_nan=False).lower()
    assert report.verdict(played).startswith("logged keeps the promise")
