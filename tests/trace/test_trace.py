"""Traces: written rows are read back, and each problem of a file is reported in one line."""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messctl.errors import MessctlError, OutputError, TraceError
from messctl.replay.loading import load
from messctl.trace import Outcome, Row, TraceFile, TraceMetadata, TraceWriter, column, schema, summarise
from messctl.trace.format import FIELDS, REQUEST_COLUMNS
from messctl.trace.sound import sound_batches

MODELS = ("lab/big", "small")


def written(path, rows, models=MODELS, fields=("satisfied", "cost"), request=("source",)):
    with TraceWriter(path, TraceMetadata(models=models, cost_unit="J"), fields, request) as writer:
        for row in rows:
            writer.append(row)
    return TraceFile(path)


def plain_rows(count=3):
    return [Row(f"r{i}", f"prompt {i}", dict.fromkeys(MODELS, Outcome(i % 2, 0.5 + i))) for i in range(count)]


def parquet(path, columns, metadata=None):
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    return path


def valid_columns(count=3):
    return {
        "request_id": [f"r{i}" for i in range(count)],
        "prompt": ["p"] * count,
        "satisfied/a": [1.0] * count,
        "satisfied/b": [0.0] * count,
        "cost/a": [2.0] * count,
        "cost/b": [1.0] * count,
    }


finite = st.floats(0, 1e300)
counts = st.integers(0, 2**63 - 1)
outcomes = st.builds(
    Outcome,
    satisfied=st.none() | st.floats(0, 1),
    cost=st.none() | finite,
    latency_s=st.none() | finite,
    tokens_in=st.none() | counts,
    tokens_out=st.none() | counts,
    answer=st.none() | st.text(),
    logprob=st.none() | st.floats(-1e300, 0),
)
rows = st.builds(
    Row,
    request_id=st.text(),
    prompt=st.text(),
    outcomes=st.fixed_dictionaries(dict.fromkeys(MODELS, outcomes)),
    source=st.none() | st.text(),
    arrived_at=st.none() | st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    propensity=st.none() | st.floats(0.001, 1),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(rows, max_size=6))
def test_written_rows_are_read_back(tmp_path_factory, given_rows):
    path = tmp_path_factory.mktemp("trace") / "t.parquet"
    trace = written(path, given_rows, fields=tuple(FIELDS), request=tuple(REQUEST_COLUMNS))
    assert trace.models == MODELS
    assert trace.ignored_columns == []
    read = pq.read_table(path).to_pylist()
    for row, back in zip(given_rows, read, strict=True):
        assert {name: back[name] for name in REQUEST_COLUMNS} == {name: getattr(row, name) for name in REQUEST_COLUMNS}
        for model, outcome in row.outcomes.items():
            assert Outcome(**{name: back[column(name, model)] for name in FIELDS}) == outcome
    for batch in trace.batches(2):
        for i, row in enumerate(given_rows[batch.first_row - 1 : batch.first_row + 1]):
            for j, model in enumerate(MODELS):
                satisfied = row.outcomes[model].satisfied
                assert batch.satisfied[i, j] == satisfied or (satisfied is None and np.isnan(batch.satisfied[i, j]))


def test_row_numbers_continue_across_batches_and_row_groups(tmp_path):
    trace = written(tmp_path / "t.parquet", plain_rows(10_000))
    batches = list(trace.batches(3000))
    rows = [len(batch.cost) for batch in batches]
    assert sum(rows) == 10_000
    assert max(rows) == 3000
    assert [batch.first_row for batch in batches] == [1 + sum(rows[:k]) for k in range(len(rows))]
    assert batches[-1].request_ids[-1].as_py() == "r9999"


def test_metadata_is_read_back(tmp_path):
    metadata = TraceMetadata(models=MODELS, cost_unit="USD", meter="m", source="s", extra={"seed": 7})
    with TraceWriter(tmp_path / "t.parquet", metadata) as writer:
        writer.append(plain_rows(1)[0])
    assert TraceFile(tmp_path / "t.parquet").metadata == metadata


def test_a_failed_write_leaves_no_file(tmp_path):
    def write_half():
        with TraceWriter(tmp_path / "t.parquet", TraceMetadata(models=MODELS)) as writer:
            writer.append(plain_rows(1)[0])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", [".", "missing/t.parquet", "n" * 300, "pipe"])
def test_unwritable_output_is_refused_with_advice(tmp_path, place):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match=r".*; (give|choose|create) "):
        TraceWriter(tmp_path / place, TraceMetadata(models=MODELS)).__enter__()


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc, in which nobody can create files")
def test_an_output_that_the_system_refuses_is_reported():
    with pytest.raises(OutputError, match=r"t\.parquet: cannot be written"):
        TraceWriter(Path("/proc/t.parquet"), TraceMetadata(models=MODELS)).__enter__()


def truncated(path):
    written(path, plain_rows())
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "not a file"),
        (lambda path: path.write_text("request_id,prompt\n1,hello"), "not a Parquet file"),
        (lambda path: path.write_bytes(b""), "not a Parquet file"),
        (truncated, "incomplete"),
        (lambda path: parquet(path, {"request_id": ["1"], "promt": ["p"]}), "did you mean 'promt'"),
        (lambda path: parquet(path, {"request_id": ["1"], "prompt": ["p"]}), "no column 'satisfied/<model>'"),
        (lambda path: parquet(path, valid_columns() | {"satisfed/c": [1.0] * 3}), "did you mean 'satisfied/c'"),
        (lambda path: parquet(path, valid_columns() | {"cost/c": [1.0] * 3}), "column 'satisfied/c' is missing"),
        (lambda path: parquet(path, valid_columns(), {"messctl": "no JSON"}), "is not valid"),
        (lambda path: parquet(path, valid_columns(), {"messctl": '{"version": 99}'}), "upgrade messctl"),
    ],
)
def test_a_file_that_is_no_trace_is_refused(tmp_path, make, part):
    path = tmp_path / "t.parquet"
    make(path)
    with pytest.raises(TraceError) as caught:
        TraceFile(path)
    assert part in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_path_that_is_too_long_is_refused(tmp_path):
    with pytest.raises(TraceError, match="cannot be read"):
        TraceFile(tmp_path / ("n" * 300))


@pytest.mark.parametrize(
    ("name", "values", "row", "part"),
    [
        ("cost/a", [1.0, -1.0, 1.0], 2, "is -1, but a cost must be 0, or between"),
        ("cost/a", [1.0, 1.0, math.inf], 3, "NaN or infinite"),
        ("cost/b", [math.nan, 1.0, 1.0], 1, "NaN or infinite"),
        ("satisfied/b", [0.0, 1.5, 2.0], 2, "is 1.5, but satisfaction must be in 0..1 (and 1 more like it)"),
        ("satisfied/a", [0.0, math.nan, None], 2, "NaN or infinite"),
        ("request_id", ["x", "y", "x"], 3, "'x' is already the id of row 1"),
        ("request_id", ["x", None, "y"], 2, "is empty"),
        ("prompt", ["x", "y", None], 3, "is empty"),
    ],
)
def test_each_problem_names_its_row_and_column(tmp_path, name, values, row, part):
    trace = TraceFile(parquet(tmp_path / "t.parquet", valid_columns() | {name: values}))
    (problem,) = summarise(trace).problems
    assert (problem.column, problem.row) == (name, row)
    assert part in str(problem)


def test_a_column_of_the_wrong_type_is_refused(tmp_path):
    trace = TraceFile(parquet(tmp_path / "t.parquet", valid_columns() | {"cost/a": ["1", "2", "3"]}))
    with pytest.raises(TraceError, match="column 'cost/a' has type string; it must be a number"):
        summarise(trace)


def test_the_summary_counts_and_averages_observed_cells(tmp_path):
    columns = valid_columns(4) | {
        "satisfied/a": [1.0, None, 0.0, 0.5],
        "cost/b": [None, 3.0, None, 1.0],
        "note": ["n"] * 4,
    }
    trace = TraceFile(parquet(tmp_path / "t.parquet", columns))
    summary = summarise(trace)
    a, b = summary.models
    assert (summary.rows, summary.complete_rows, summary.problems) == (
        4,
        1,
        (),
    )  # complete rows are those that a replay plays
    assert (a.observed, a.costed, a.mean_satisfaction, a.mean_cost) == (3, 4, 0.5, 2.0)
    assert (b.observed, b.costed, b.mean_satisfaction, b.mean_cost) == (4, 2, 0.0, 2.0)
    assert trace.ignored_columns == ["note"]
    assert summary.complete_rows == len(load(trace.path).rounds)
    free = parquet(tmp_path / "free.parquet", columns | {"cost/a": [None] * 4, "cost/b": [None] * 4})
    assert summarise(TraceFile(free)).complete_rows == 3  # without any cost, outcomes alone count


def test_problems_of_many_batches_are_merged_to_one_per_column(tmp_path):
    columns = valid_columns(40_000)
    columns["cost/a"] = [-1.0] * 40_000
    (problem,) = summarise(TraceFile(parquet(tmp_path / "t.parquet", columns))).problems
    assert (problem.row, problem.count) == (1, 40_000)


def test_a_trace_without_rows_is_refused(tmp_path):
    pq.write_table(schema(TraceMetadata(models=MODELS)).empty_table(), tmp_path / "t.parquet")
    with pytest.raises(TraceError, match="has no rows"):
        summarise(TraceFile(tmp_path / "t.parquet"))


def test_sound_batches_refuse_bad_values_at_once_and_repeated_ids_at_the_end(tmp_path):
    bad = TraceFile(parquet(tmp_path / "bad.parquet", valid_columns() | {"cost/a": [1.0, -1.0, 1.0]}))
    with pytest.raises(TraceError, match=r"row 2, column 'cost/a': is -1.*`messctl trace validate` lists all problems"):
        next(sound_batches(bad))
    repeated = TraceFile(parquet(tmp_path / "ids.parquet", valid_columns() | {"request_id": ["x", "y", "x"]}))
    batches = sound_batches(repeated)
    assert len(next(batches).cost) == 3
    with pytest.raises(TraceError, match=r"row 3, column 'request_id'.*request ids must be unique"):
        next(batches)
    assert len(list(sound_batches(repeated, unique_ids=False))) == 1


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (pa.ArrowException("Failed to launch worker thread: Resource temporarily unavailable"), "no more threads"),
        (OSError("Cannot allocate memory"), "the memory is used up"),
    ],
)
def test_what_the_system_lacks_is_not_told_as_damage_of_a_trace(error, message, tmp_path, monkeypatch):
    trace = written(tmp_path / "trace.parquet", plain_rows())

    def fail(*_arguments, **_named):
        raise error

    monkeypatch.setattr("messctl.trace.parquet._together", fail)
    with pytest.raises(MessctlError, match=message) as caught:
        list(trace.batches())
    assert not isinstance(caught.value, TraceError)
