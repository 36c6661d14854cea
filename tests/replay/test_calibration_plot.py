"""The plot of predictions."""

import numpy as np
import pytest
from making import learnable, make_recording

from messctl.display.plotting import DARK
from messctl.errors import UsageError
from messctl.replay.calibration_plot import calibration, drawn, write_calibration
from messctl.replay.play import replay
from messctl.replay.result import Conditions
from messctl.replay.run import Plan, run
from messctl.zoo import Settings


@pytest.fixture(scope="module")
def outcome():
    return replay(make_recording(learnable(300)), ["bandit", "static-mix"], Settings(alpha=0.85), Conditions())


def test_predictions_are_compared_with_what_came_in_parts_of_equal_size(outcome):
    played = outcome.played["bandit"]
    satisfied = outcome.rounds.satisfied[played.order]
    for model in range(3):
        predicted, came, error = calibration(played, satisfied, model)
        assert len(predicted) == len(came) == len(error) == 10
        assert (np.diff(predicted) >= 0).all()
        assert predicted.mean() == pytest.approx(played.predicted[:, model].mean())
        assert came.mean() == pytest.approx(satisfied[:, model].mean())


def test_each_router_that_predicts_has_a_panel(outcome, tmp_path):
    assert len(drawn(outcome).axes) == 1
    for name in ("a.png", "a.svg"):
        write_calibration(outcome, tmp_path / name, look=DARK)
        assert (tmp_path / name).stat().st_size > 10_000


def test_without_predictions_there_is_nothing_to_draw():
    played = replay(make_recording(learnable(30)), ["static-mix"], Settings(alpha=0.5), Conditions())
    with pytest.raises(UsageError, match="no policy that is played predicts"):
        drawn(played)


def test_policies_that_predict_nothing_are_refused_before_they_are_played(root, tmp_path, monkeypatch):
    monkeypatch.setattr("messctl.replay.run.load", lambda *_, **__: pytest.fail("the trace was read"))
    plan = Plan(
        root / "traces" / "box.parquet",
        ("static-mix", "random"),
        Settings(alpha=0.8),
        Conditions(),
        calibration=tmp_path / "c.png",
        stream=False,
    )
    with pytest.raises(UsageError, match="no policy that is played predicts; add --policy bandit"):
        run(plan, lambda _: None)
