"""A single model as a candidate of the search."""

import io
from dataclasses import replace

import numpy as np
import pytest
import yaml
from making import learnable, make_recording, make_rounds, prompts_for, write_trace
from rich.console import Console

from messctl.cli import run
from messctl.policies import build
from messctl.replay.holdout import Holdout
from messctl.replay.result import Conditions
from messctl.tune import choose, play_yardsticks, search
from messctl.tune.dominated import dominated, never_worth_asking, without
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


@pytest.mark.parametrize(("shuffle", "where"), [(True, "on all requests"), (False, "there")])
def test_the_best_single_model_is_said_to_attain_what_it_does_on_the_requests_that_it_was_counted_on(shuffle, where):
    # Half of the first 70 requests suit each model; of the 30 held out if nothing is shuffled, 18 suit m1.
    good = [[1, 0], [0, 1]] * 35 + [[0, 1]] * 18 + [[1, 0]] * 12
    recording = make_recording(make_rounds(good, [[2, 1]] * 100))
    settings = parse_space(Settings(), ["bandit"], alpha=["0.9"], v=["auto"], margin=["0"]).settings(Settings())
    found = search([recording], settings, Conditions(seeds=2, shuffle=shuffle), Holdout(0.3))
    choices = choose(found, slack=1.0)
    tuning = Tuning(found, choices, (play_yardsticks(found, 0.9),))
    lines = [str(line) for line in verdict(tuning, choices[0], tuning.yardsticks[0])]
    attained = "0.5300" if shuffle else "0.6000"
    assert lines[1].endswith(f"; the best single model attains {attained} {where}")


def test_a_router_that_a_single_model_beats_is_chosen_with_a_word_on_it():
    tuning = tuned(GOOD_AND_CHEAP, ["bandit"], "0.6")
    lines = [str(line) for line in verdict(tuning, tuning.choices[0], tuning.yardsticks[0])]
    told = "on all requests, learning included, m1 alone keeps it for less: 1 unit/request"
    assert lines[-1] == f"  {told}; --policy always lets tune choose it"


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


def with_a_useless_model():
    """Three models, of which one is worse than another and dearer."""
    rounds = learnable(900, 5)
    kept = rounds.satisfied[:, 1]
    third = np.random.default_rng(1).permutation(kept) * 0.5
    satisfied = np.column_stack([rounds.satisfied[:, 0], kept, third])
    cost = np.column_stack([rounds.cost[:, 0], rounds.cost[:, 1], rounds.cost[:, 1] * 2])
    return make_recording(make_rounds(satisfied, cost, ["dear", "good", "useless"], prompts_for(900)))


def test_a_model_that_is_worse_and_dearer_is_named_with_what_the_router_saves_without_it():
    tuning = tuned(with_a_useless_model(), ["bandit"], "0.7")
    choice = tuning.choices[0]
    (found,) = never_worth_asking(tuning.found, choice)
    assert found.models == {"useless": "good"}
    plays = []
    for k in range(3):
        less = without(tuning.found.traces[0].rounds, found.models)
        assert less.zoo.models == ("dear", "good")
        arranged = less.arranged(seed=k, shuffle=True, feedback_rate=1.0, feedback_delay=0)
        plays.append(build("bandit", less, replace(choice.chosen.settings, seed=k)).play(arranged).cost.mean())
    assert found.saved == pytest.approx(1 - np.mean(plays) / choice.chosen.whole[0].cost)
    told = replace(tuning, dominated=((found,),))
    lines = [str(line) for line in verdict(told, choice, told.yardsticks[0])]
    assert lines[-1].startswith("  never worth asking: useless (good is as good for less); the router costs ")


def test_of_two_equal_models_neither_is_dominated_and_two_models_are_left():
    same = make_recording(make_rounds([[1, 1, 0]] * 9, [[2, 2, 1]] * 9))
    assert dominated(same) == {}
    alone = make_recording(make_rounds([[1, 0, 0]] * 9, [[1, 2, 3]] * 9))
    assert dominated(alone) == {}
    third = make_recording(make_rounds([[1, 0.5, 0]] * 9, [[3, 1, 2]] * 9))
    assert dominated(third) == {"m2": "m1"}
