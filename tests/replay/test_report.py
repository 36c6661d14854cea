"""The reports of a replay: table, JSON and CSV."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from making import learnable, make_recording, make_rounds
from rich.cells import cell_len
from rich.console import Console

from messctl.policies import default_names
from messctl.replay import report
from messctl.replay.holdout import Holdout, held_out
from messctl.replay.play import replay
from messctl.replay.result import MET, Conditions
from messctl.zoo import Settings

STABLE = [
    "policy", "v", "c", "requests", "attained", "sla_met", "certificate", "mean_cost", "total_cost",
    "cost_vs_costliest", "cost_vs_static_mix", "explored", "queue_final", "model_share",
]  # fmt: skip


def shown(renderable, width=160):
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False)
    console.print(renderable)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def outcome():
    recording = make_recording(learnable(300))
    return replay(recording, default_names(recording.rounds.zoo.models), Settings(alpha=0.85), Conditions(seeds=2))


def test_the_json_document_has_its_stable_keys(outcome):
    document = json.loads(json.dumps(report.document(outcome), allow_nan=False))
    assert {"path", "requests", "models", "cost_unit"} <= set(document["trace"])
    assert (document["alpha"], document["seed"]) == (0.85, 0)
    for result in document["results"]:
        assert list(result)[: len(STABLE)] == STABLE
        assert set(result["model_share"]) == set(document["trace"]["models"])
    assert [result["v"] for result in document["results"] if result["policy"] == "messplus"] == [0.2]
    assert document["judged"] == "bandit"


def test_the_json_document_has_the_settings_and_conditions():
    settings = Settings(
        alpha=0.75, margin=0.125, v=1.0, c=0.25, exponent=0.5, cost_scale=2.0, trial_budget=0.125, seed=3
    )
    conditions = Conditions(2, True, 0.5, 4, 2)
    names = ["bandit", "messplus", "random"]
    played = replay(make_recording(learnable(60)), names, settings, conditions, holdout=Holdout(0.25, "hash"))
    document = report.document(played)
    expected = {
        "alpha": 0.75, "margin": 0.125, "v": 1.0, "c": 0.25, "exponent": 0.5, "cost_scale": 2.0, "trial_budget": 0.125,
        "seed": 3, "seeds": 2, "shuffle": True, "feedback_rate": 0.5, "feedback_delay": 4, "replicas": 2,
        "holdout": 0.25, "holdout_by": "hash",
    }  # fmt: skip
    assert {key: document[key] for key in expected} == expected
    assert [result["v"] for result in document["results"]] == [1.0, 1.0, None]
    plain = report.document(replay(make_recording(learnable(60)), names, Settings(alpha=0.75), Conditions()))
    assert list(plain) == list(document)
    assert [plain[key] for key in ("margin", "v", "holdout", "holdout_by")] == [0.0, None, None, None]
    assert [result["v"] for result in plain["results"]] == [None, 0.2, None]


@pytest.mark.parametrize(
    ("holdout", "shuffle", "counts", "heading"),
    [
        (None, True, (300, 300), None),
        (Holdout(0.3), False, (90, 90), "held out: 30%, the last to arrive"),
        (
            Holdout(0.3),
            True,
            (90, 300),
            "held out: 30%, the last to arrive under each seed; yardsticks count all requests",
        ),
        (Holdout(0.125, "hash"), True, (47, 47), "held out: 12.5%, by a hash of their ids"),
    ],
)
def test_what_is_held_out_is_named_and_alone_counted(holdout, shuffle, counts, heading):
    recording, conditions = make_recording(learnable(300)), Conditions(seeds=2, shuffle=shuffle, replicas=2)
    played = replay(recording, ["bandit", "static-mix"], Settings(alpha=0.75), conditions, holdout=holdout)
    everything = np.ones(300) if holdout is None else held_out(recording, holdout)
    assert everything.sum() == counts[0]
    assert tuple(result.requests for result in played.results) == counts
    for result in played.results:
        assert result.total_cost == pytest.approx(result.mean_cost * result.requests)
    lines = shown(report.table(played, 160)).splitlines()
    assert [line for line in lines if line.startswith("held out")] == ([heading] if heading else [])


def test_the_heading_shows_the_margin():
    played = replay(make_recording(learnable(30)), ["bandit"], Settings(alpha=0.75, margin=0.01), Conditions())
    assert "α = 0.75, margin 0.01, seed 0" in shown(report.table(played, 160))


def test_csv_has_a_line_per_policy(outcome):
    rows = list(csv.DictReader(io.StringIO(report.as_csv(outcome))))
    assert [row["policy"] for row in rows] == [result.policy for result in outcome.results]
    assert float(rows[0]["model_share/large"]) == 1.0
    assert float(rows[0]["mean_cost"]) == outcome.results[0].mean_cost


def test_the_table_shows_the_numbers_of_the_results(outcome):
    text = shown(report.table(outcome, 160))
    for result in outcome.results:
        line = next(line for line in text.splitlines() if line.startswith(result.policy))
        assert f"{result.attained:.4f}" in line
        assert ("met" in line.split()) == result.sla_met
        assert f"{result.cost_vs_costliest:.3f}" in line
    assert "means ± standard deviation" in text
    assert "V = 0.2 on costs divided by the costliest model's running mean, or " in text
    assert "bandit" in text.splitlines()[-2]
    assert text.splitlines()[-1] == report.without_router(outcome)


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_a_narrow_table_leaves_out_the_least_important_columns(outcome, width):
    lines = shown(report.table(outcome, width), width).splitlines()
    rows = lines[next(index for index, line in enumerate(lines) if line.startswith("policy")) + 1 :]
    for result, line in zip(outcome.results, rows, strict=False):
        assert line.startswith(result.policy[:5])
        assert f"{result.attained:.4f}" in line
        assert f"{result.mean_cost:.4g}" in line
        assert ("met" if result.sla_met else "missed") in line.split()


def test_bars_have_full_width_and_right_proportions(outcome):
    for result in outcome.results:
        bar = report._bar(result).plain
        assert len(bar) == report.BAR_CELLS
        for letter, share in zip(report.LETTERS, result.model_share.values(), strict=False):
            assert abs(bar.count(letter) / report.BAR_CELLS - share) < 1 / report.BAR_CELLS


@pytest.mark.parametrize(
    ("attained", "alpha", "verdict"),
    [
        (0.79998, 0.8, "misses the promise: attained 0.79998 of α = 0.8"),
        (0.7999999, 0.8, "misses the promise: attained 0.7999999 of α = 0.8"),
        (0.79999999999, 0.8, "keeps the promise: attained 0.8000 of α = 0.8"),
        (0.8, 0.8, "keeps the promise: attained 0.8000 of α = 0.8"),
        (0.8, 0.80000001, "misses the promise: attained 0.8000 of α = 0.80000001"),
        (0.80004, 0.80003, "keeps the promise: attained 0.80004 of α = 0.80003"),
        (0.7, 0.8, "misses the promise: attained 0.7000 of α = 0.8"),
        (1 / 3, 1 / 3 + 1e-8, "misses the promise: attained 0.3333 of α = 0.3333333433"),
    ],
)
def test_the_verdict_has_enough_digits_to_show_on_which_side_of_alpha_it_lies(outcome, attained, alpha, verdict):
    result = replace(outcome.judged, attained=attained, sla_met=attained >= alpha - MET)
    settings = replace(outcome.settings, alpha=alpha)
    assert report.verdict(replace(outcome, settings=settings, results=(result,))) == f"{result.policy} {verdict}"


@pytest.mark.slow
@pytest.mark.parametrize("models", [53, 112, 130])
def test_no_two_models_share_a_letter(models):
    names = [f"m{index:03}" for index in range(models)]
    rounds = make_rounds([[1] * models] * 3, [[1.0] * models] * 3, names)
    policies = [f"always:{name}" for name in names]
    played = replay(make_recording(rounds), policies, Settings(alpha=0.5), Conditions())
    lines = shown(report.table(played, 160)).splitlines()
    legend = {line.split()[1].rstrip(":"): line[0] for line in lines if ": satisfies" in line}
    lettered = [letter for letter in legend.values() if letter != report.OTHERS]
    assert len(set(lettered)) == len(lettered) == min(models, len(report.LETTERS))
    for result in played.results:
        assert set(report._bar(result).plain) == {legend[result.policy.removeprefix("always:")]}
    assert all(cell_len(letter) == 1 for letter in legend.values())


def test_markup_in_names_is_not_interpreted():
    names = ["[bold]x[/bold]", "a\x1b[31mred", ":smile:"]
    rounds = make_rounds([[1, 0, 1]] * 9, [[1, 2, 3]] * 9, names)
    played = replay(make_recording(rounds), default_names(rounds.zoo.models), Settings(alpha=0.5), Conditions())
    text = shown(report.table(played, 160))
    assert "[bold]x[/bold]" in text
    assert ":smile:" in text
    assert "\x1b" not in text


def test_costs_of_zero_have_no_ratio():
    rounds = make_rounds([[1, 0]] * 9, [[0, 0]] * 9)
    played = replay(make_recording(rounds), ["messplus", "random"], Settings(alpha=0.5), Conditions())
    assert [result.cost_vs_costliest for result in played.results] == [None, None]
    assert "–" in shown(report.table(played, 160))
    json.dumps(report.document(played), allow_nan=False)
