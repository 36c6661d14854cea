"""The plot of a replay."""

import json
from dataclasses import replace

import numpy as np
import pytest
from making import learnable, make_recording, make_rounds

from messctl.policies import default_names
from messctl.replay import plot, report
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


def test_the_queue_is_drawn_against_the_promise(monkeypatch, tmp_path):
    """All curves of the panel are against α, even if a policy aims above it."""
    drawn = {}
    monkeypatch.setattr(plot, "_queue", lambda axes, curves: drawn.update(curves))
    conditions = Conditions(feedback_delay=3)
    settings = Settings(alpha=0.75, margin=0.125)
    played = replay(make_recording(learnable(300)), ["messplus", "static-mix"], settings, conditions)
    plot.write_plot(played, tmp_path / "a.png")
    assert {name: curve.queue_final for name, curve in drawn.items()} == {
        result.policy: result.queue_final for result in played.results
    }
    assert played.played["messplus"].queue_final > drawn["messplus"].queue_final


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
