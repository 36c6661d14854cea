"""A single model as a candidate of the search."""

import io

import pytest
import yaml
from making import learnable, make_recording, make_rounds, write_trace
from rich.console import Console

from messctl.cli import run
from messctl.policies import build
from messctl.replay.holdout import Holdout
from messctl.replay.result import Conditions
from messctl.tune import choose, play_yardsticks, search
from messctl.tune.report import Tuning, table, verdict
from messctl.tune.space import parse_space
from messctl.tune.windows import WHOLE
from messctl.zoo import Settings


def tuned(recording, policies, alpha, **conditions):
    settings = parse_space(Settings(), policies, alpha=[alpha], v=["auto"], margin=["0"]).settings(Settings())
    found = search([recording], settings, Conditions(seeds=3, shuffle=True, **conditions), Holdout(0.3))
    choices = choose(found)
    return Tuning(found, choices, tuple(play_yardsticks(found, choice.alpha) for choice in choices))


GOOD_AND_CHEAP = make_recording(make_rounds([[1, 1, 0]] * 60, [[9, 1, 1]] * 60))


def test_a_single_model_that_keeps_the_promise_for_less_is_chosen_if_it_is_a_candidate():
    singles = [f"always:{model}" for model in ("m0", "m1", "m2")]
    tuning = tuned(GOOD_AND_CHEAP, ["bandit", *singles], "0.9")
    assert tuning.chosen.settings.policy == "always:m1"
    assert tuning.chosen.whole[0].cost == 1.0


def test_a_router_that_a_single_model_beats_is_chosen_with_a_word_on_it():
    tuning = tuned(GOOD_AND_CHEAP, ["bandit"], "0.6")
    lines = [str(line) for line in verdict(tuning, tuning.choices[0], tuning.yardsticks[0])]
    assert lines[-1] == "  m1 alone keeps it there for less: 1 unit/request; --policy always lets tune choose it"


@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_a_single_model_is_scored_on_the_answers_that_get_feedback(rate):
    recording = make_recording(learnable(400))
    tuning = tuned(recording, ["always:middle"], "0.7", feedback_rate=rate)
    scores = tuning.found.scores[0]
    for k in range(3):
        rounds = recording.rounds.arranged(seed=k, shuffle=True, feedback_rate=rate, feedback_delay=0)
        played = build("always:middle", rounds, Settings(alpha=0.7)).play(rounds)
        assert scores.attained[WHOLE, 0, k] == pytest.approx(played.satisfied[rounds.has_feedback].mean())
        assert scores.cost[WHOLE, 0, k] == pytest.approx(played.cost.mean())


def test_tune_writes_a_single_model_that_live_accepts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_trace(tmp_path / "t.parquet", [{"m0": (1, 9), "m1": (1, 1)}] * 60, models=("m0", "m1"))
    options = ["--policy", "bandit", "--policy", "always", "--alpha", "0.9", "--seeds", "2", "-o", "zoo.yaml"]
    assert run(["tune", "t.parquet", *options]) == 0
    assert yaml.safe_load((tmp_path / "zoo.yaml").read_text())["router"]["policy"] == "always:m1"
    assert "chosen for α = 0.9: always:m1" in capsys.readouterr().out


def test_the_table_shows_single_models_by_their_names():
    tuning = tuned(GOOD_AND_CHEAP, ["always:m0", "always:m1"], "0.9")
    console = Console(file=io.StringIO(), width=160)
    console.print(table(tuning, 160))
    assert "→ always:m1" in console.file.getvalue()
