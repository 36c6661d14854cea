"""Requests are played in the order of their arrival times, even if the rows are in another order."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import learnable, write_trace

from messctl.cli import run
from messctl.replay.holdout import Holdout, held_out
from messctl.replay.loading import load
from messctl.replay.play import replay
from messctl.replay.result import Conditions
from messctl.replay.steps import write_steps
from messctl.replay.streaming import replay_streamed, survey
from messctl.trace import TraceFile, parquet
from messctl.zoo import Settings

N = 300
START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTES = [START + timedelta(minutes=row) for row in range(N)]


@pytest.fixture(scope="module")
def untimed(tmp_path_factory):
    """Some rows lack an outcome."""
    rounds = learnable(N)
    rows = [
        {model: (rounds.satisfied[row, k], rounds.cost[row, k]) for k, model in enumerate(rounds.zoo.models)}
        for row in range(N)
    ]
    for row in range(0, N, 11):
        del rows[row]["large"]
    return write_trace(tmp_path_factory.mktemp("trace") / "t.parquet", rows, models=rounds.zoo.models)


def timed(untimed, path, arrived_at, kind=None, order=None):
    """The trace with a column of times, its rows in another order."""
    table = pq.read_table(untimed).append_column("arrived_at", pa.array(arrived_at, kind or pa.timestamp("us", "UTC")))
    pq.write_table(table if order is None else table.take(pa.array(order)), path, row_group_size=70)
    return path


def same(one, other):
    assert list(one.request_ids) == list(other.request_ids)
    for name in ("satisfied", "cost", "order", "has_feedback"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes()
    for name in ("starts", "indices", "values"):
        assert getattr(one.features, name).tobytes() == getattr(other.features, name).tobytes()


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_rows_in_another_order_are_the_same_trace(untimed, tmp_path, unit):
    sorted_rows = load(timed(untimed, tmp_path / "sorted.parquet", MINUTES))
    same(sorted_rows.rounds, load(untimed).rounds)
    order = np.random.default_rng(3).permutation(N)
    shuffled = load(timed(untimed, tmp_path / "t.parquet", MINUTES, pa.timestamp(unit), order))
    same(shuffled.rounds, sorted_rows.rounds)
    assert shuffled.facts.left_out == sorted_rows.facts.left_out
    settings, holdout = Settings(alpha=0.8), Holdout(0.3)
    assert held_out(shuffled, holdout).tolist() == held_out(sorted_rows, holdout).tolist()
    one, other = (
        replay(each, ["bandit", "messplus", "static-mix"], settings, Conditions(), holdout=holdout).results
        for each in (shuffled, sorted_rows)
    )
    assert one == other


def test_the_last_to_arrive_are_held_out_even_from_unsorted_rows(untimed, tmp_path):
    backwards = timed(untimed, tmp_path / "t.parquet", MINUTES[::-1])
    outcome = replay(load(backwards), ["messplus"], Settings(alpha=0.8), Conditions(), holdout=Holdout(0.3))
    ids = outcome.rounds.request_ids
    assert {int(name[1:]) for name in ids} <= set(range(100))
    assert int(ids[0][1:]) > int(ids[-1][1:])
    whole = replay(load(backwards), ["messplus"], Settings(alpha=0.8), Conditions())
    write_steps(whole, "messplus", tmp_path / "s.parquet")
    steps = pq.read_table(tmp_path / "s.parquet")["request_id"].to_pylist()
    assert steps == sorted(steps, key=lambda name: -int(name[1:]))


def test_requests_of_one_time_keep_the_order_of_their_rows(untimed, tmp_path):
    hours = [START + timedelta(hours=-(row // 50)) for row in range(N)]
    found = [int(name[1:]) for name in load(timed(untimed, tmp_path / "t.parquet", hours)).rounds.request_ids]
    assert found == sorted(found, key=lambda row: (-(row // 50), row))


@pytest.mark.parametrize(
    ("arrived_at", "kind"),
    [([None] * N, None), ([None] * N, pa.null()), ([*MINUTES[:0:-1], None], None)],
    ids=["all null", "no type", "one null"],
)
def test_arrival_times_count_only_if_every_row_has_one(untimed, tmp_path, arrived_at, kind):
    path = timed(untimed, tmp_path / "t.parquet", arrived_at, kind)
    assert not TraceFile(path).timed
    same(load(path).rounds, load(untimed).rounds)
    assert survey(path).requests == len(load(untimed).rounds)
    assert TraceFile(timed(untimed, tmp_path / "t.parquet", MINUTES)).timed


@pytest.mark.parametrize(("arrived_at", "kind"), [(["noon"] * N, pa.string()), (range(N), pa.int64())])
def test_arrival_times_of_a_wrong_type_are_refused(untimed, tmp_path, capsys, arrived_at, kind):
    path = timed(untimed, tmp_path / "t.parquet", arrived_at, kind)
    for command in (["trace", "validate"], ["trace", "info"], ["replay"], ["replay", "--stream"], ["tune"]):
        assert run([*command, str(path)]) == 2
        out, err = capsys.readouterr()
        assert (out, err) == ("", f"messctl: {path}: column 'arrived_at' has type {kind}; it must be a timestamp\n")


def test_a_streamed_replay_refuses_rows_out_of_order(untimed, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(parquet, "_together", lambda groups, _rows: [[number] for number in range(len(groups))])
    path = tmp_path / "t.parquet"
    for late in (75, 140):  # within a batch, and at the beginning of one
        order = [row for row in range(N) if row != 7]
        order.insert(late, 7)
        timed(untimed, path, MINUTES, order=order)
        assert run(["replay", str(path), "--stream", "--policy", "messplus", "--alpha", "0.8"]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"messctl: {path}: row {late + 1} arrived before a row above it")
        assert "--no-stream" in err
        assert err.count("\n") == 1
    assert run(["replay", str(path), "--no-stream", "--policy", "messplus", "--alpha", "0.8", "--json"]) == 0
    in_memory = json.loads(capsys.readouterr().out)["results"][0]
    # A row that is left out may be anywhere. Rows in order are not refused.
    order = [row for row in range(N) if row != 11] + [11]
    for each in (timed(untimed, path, MINUTES), timed(untimed, tmp_path / "o.parquet", MINUTES, order=order)):
        (result,) = replay_streamed(survey(each), ["messplus"], Settings(alpha=0.8), Conditions()).results
        assert (result.attained, result.mean_cost) == pytest.approx((in_memory["attained"], in_memory["mean_cost"]))


@pytest.mark.parametrize(("arrived_at", "shuffle"), [(MINUTES, False), ([None, *MINUTES[1:]], True)])
def test_tune_shuffles_unless_every_row_has_an_arrival_time(untimed, tmp_path, capsys, arrived_at, shuffle):
    path = timed(untimed, tmp_path / "t.parquet", arrived_at)
    options = ["--alpha", "0.7", "--policy", "bandit", "--v", "auto", "--margin", "0", "--seeds", "2", "--json"]
    assert run(["tune", str(path), *options]) in (0, 1)
    assert json.loads(capsys.readouterr().out)["shuffle"] is shuffle
