"""A trace played batch by batch gives the numbers of a replay in memory."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import arbitrary_rounds, learnable, write_trace

from messctl.cli import run
from messctl.errors import TraceError, UsageError
from messctl.policies import build
from messctl.replay import run as run_module
from messctl.replay.loading import load
from messctl.replay.play import replay
from messctl.replay.result import Conditions
from messctl.replay.streaming import default_streamed, replay_streamed, survey
from messctl.trace import parquet
from messctl.zoo import Settings


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """Six row groups of unlike sizes; some rows lack an outcome."""
    rounds = learnable(900, seed=5)
    rows = [
        {model: (rounds.satisfied[row, k], rounds.cost[row, k]) for k, model in enumerate(rounds.zoo.models)}
        for row in range(900)
    ]
    for row in range(0, 900, 7):
        del rows[row]["large"]
    path = write_trace(tmp_path_factory.mktemp("trace") / "t.parquet", rows, models=rounds.zoo.models)
    table = pq.read_table(path)
    with pq.ParquetWriter(path, table.schema) as writer:
        for first, last in [(0, 1), (1, 300), (300, 301), (301, 600), (600, 600), (600, 900)]:
            writer.write_table(table.slice(first, last - first))
    return path


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """No zoo.yaml here."""
    monkeypatch.chdir(tmp_path)


@given(
    arbitrary_rounds(),
    st.sampled_from(["messplus", "bandit", "random", "static-mix", "always:m1"]),
    st.lists(st.integers(0, 40), max_size=3),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_a_play_in_pieces_equals_one_play(rounds, name, cuts, rate):
    rounds = rounds.arranged(seed=1, shuffle=False, feedback_rate=rate, feedback_delay=0)
    settings = Settings(alpha=0.6, v=0.3, c=0.7)
    whole = build(name, rounds, settings).play(rounds)
    policy, parts = build(name, rounds, settings), []
    ends = sorted({0, len(rounds), *(min(cut, len(rounds)) for cut in cuts)})
    for first, last in itertools.pairwise(ends):
        part = rounds.rows(np.arange(first, last))
        parts.append(policy.play_on(replace(part, has_feedback=rounds.has_feedback[first:last])))
    for field in ("cost", "satisfied", "queue_before", "queue_after", "served", "explored", "predicted", "mean_cost"):
        if getattr(whole, field) is not None:
            joined = np.concatenate([getattr(part, field) for part in parts])
            assert joined.tobytes() == getattr(whole, field).tobytes(), field


@pytest.mark.parametrize("conditions", [Conditions(), Conditions(seeds=3, feedback_rate=0.6)])
@pytest.mark.parametrize(
    ("reference", "settings"),
    [(None, Settings(alpha=0.8, seed=2)), ("middle", Settings(alpha=0.85, margin=0.05, v=30.0, seed=2))],
)
def test_a_streamed_replay_gives_the_numbers_of_one_in_memory(trace, conditions, reference, settings, monkeypatch):
    monkeypatch.setattr(parquet, "_together", lambda groups, _rows: [[number] for number in range(len(groups))])
    facts, recording = survey(trace, reference), load(trace, reference)
    other = recording.facts
    assert (facts.requests, facts.left_out, facts.zoo) == (other.requests, other.left_out, other.zoo)
    assert facts.reach == pytest.approx(other.reach)
    assert facts.mean_cost == pytest.approx(other.mean_cost)
    names = default_streamed(facts.zoo.models)
    assert {"messplus", "bandit", "static-mix", "random", "always:small"} <= set(names)
    done = []
    streamed = replay_streamed(facts, names, settings, conditions, done.append)
    assert done[-1] == facts.requests
    for mine, other in zip(streamed.results, replay(recording, names, settings, conditions).results, strict=True):
        for field in ("attained", "mean_cost", "queue_final", "certificate", "explored", "v_per_cost_unit", "sla_met"):
            assert close(getattr(mine, field), getattr(other, field)), (mine.policy, field)
        assert mine.model_share == pytest.approx(other.model_share)
        assert close(mine.attained_spread, other.attained_spread)


def close(value, other):
    return value == other if value is None or other is None else value == pytest.approx(other, rel=1e-6)


def test_policies_and_conditions_that_need_the_whole_trace_are_refused(trace):
    facts = survey(trace)
    for names, conditions, message in [
        (["hindsight"], Conditions(), "--policy hindsight needs the whole trace"),
        (["bandit", "clairvoyant"], Conditions(), "--policy clairvoyant needs"),
        (["bandit"], Conditions(shuffle=True), "--shuffle needs"),
        (["messplus"], Conditions(shuffle=True), "--shuffle needs"),
        (["messplus"], Conditions(feedback_delay=1), "--feedback-delay needs"),
    ]:
        with pytest.raises(UsageError, match=message):
            replay_streamed(facts, names, Settings(), conditions)
    with pytest.raises(UsageError, match="beyond every policy"):
        replay_streamed(facts, ["messplus"], Settings(alpha=1.0), Conditions())


@pytest.mark.parametrize("option", [["--plot", "p.svg"], ["--steps", "s.parquet"], ["--holdout", "0.3"]])
def test_options_that_need_the_whole_trace_are_refused_with_stream(trace, capsys, option):
    assert run(["replay", str(trace), "--stream", "--alpha", "0.8", *option]) == 2
    assert "needs the whole trace at once" in capsys.readouterr().err


def test_the_command_streams_a_large_trace_by_default(trace, capsys, monkeypatch):
    arguments = ["replay", str(trace), "--alpha", "0.8", "--json"]
    documents = []
    for limit, more, streamed in [
        (10_000, [], False),
        (10, [], True),
        (10, ["--no-stream"], False),
        (10, ["--shuffle"], False),
        (10_000, ["--stream"], True),
    ]:
        monkeypatch.setattr(run_module, "STREAMED_ABOVE", limit)
        assert run([*arguments, *more]) == 0
        documents.append(json.loads(capsys.readouterr().out))
        assert documents[-1]["streamed"] == streamed
        assert ("hindsight" in {result["policy"] for result in documents[-1]["results"]}) != streamed
    assert run(["replay", str(trace), "--alpha", "0.8", "--stream"]) == 0
    assert "streamed: hindsight, clairvoyant and the check" in capsys.readouterr().out


def test_a_streamed_replay_says_that_it_does_not_look_for_repeated_ids(tmp_path, capsys):
    path = write_trace(tmp_path / "t.parquet", [{"a": (1.0, 1.0), "b": (0.0, 2.0)}] * 3, ids=["x", "y", "x"])
    command = ["replay", str(path), "--alpha", "0.5"]
    assert run([*command, "--no-stream"]) == 2
    assert "'x' is already the id of row 1" in capsys.readouterr().err
    assert run([*command, "--stream"]) == 0
    assert "the check for repeated request ids are left out" in capsys.readouterr().out


def bad(column, value, row):
    def change(table):
        values = table[column].to_pylist()
        values[row] = value
        return table.set_column(table.schema.get_field_index(column), column, pa.array(values, table[column].type))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (bad("satisfied/a", 2.0, 1), "row 2, column 'satisfied/a': is 2"),
        (bad("prompt", None, 2), "row 3, column 'prompt': is empty"),
        (lambda table: table.slice(0, 0), "has no rows"),
        (lambda table: table.drop_columns(["cost/b"]), "has no costs for 'b'"),
    ],
)
def test_a_bad_trace_is_refused(tmp_path, change, message):
    path = write_trace(tmp_path / "t.parquet", [{"a": (1.0, 1.0), "b": (0.0, 2.0)}] * 3)
    pq.write_table(change(pq.read_table(path)), path)
    with pytest.raises(TraceError, match=message):
        replay_streamed(survey(path), ["messplus"], Settings(alpha=0.5), Conditions())


def test_a_trace_without_a_complete_row_is_refused(tmp_path):
    path = write_trace(tmp_path / "t.parquet", [{"a": (1.0, 1.0)}, {"b": (1.0, 2.0)}])
    with pytest.raises(TraceError, match="no row has an outcome and a cost of every model"):
        survey(path)
