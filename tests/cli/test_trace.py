"""`messctl trace info|validate|head` as they are typed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from messctl.cli import run
from messctl.trace import Outcome, Row, TraceMetadata, TraceWriter, schema

COMMANDS = ("info", "validate", "head")


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "t.parquet"
    metadata = TraceMetadata(models=("a/[b]", "c\x1b[31m"), cost_unit="J", meter="m", source="s")
    with TraceWriter(path, metadata) as writer:
        for i in range(8):
            outcomes = {"a/[b]": Outcome(1.0, 2.0), "c\x1b[31m": Outcome(0.0 if i else None, 1.0)}
            writer.append(
                Row(f"r{i}", f"[red]line one\nline\x1b]0;title\x07 two{' and on' * 90}", outcomes, source="s")
            )
    return path


def unsound(path, **changed):
    columns = {
        "request_id": ["x", "y", "z"],
        "prompt": ["p"] * 3,
        "satisfied/a": [1.0] * 3,
        "cost/a": [1.0] * 3,
    }
    pq.write_table(pa.table(columns | changed), path)
    return path


def outcome(capsys, *arguments):
    code = run(["trace", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_info_shows_rows_unit_and_models(capsys, trace):
    code, out, err = outcome(capsys, "info", trace)
    assert (code, err) == (0, "")
    assert "8 rows, 7 of them complete" in out
    assert "cost unit: J" in out
    assert "a/[b]" in out
    assert "\x1b" not in out


def test_info_prints_one_json_document(capsys, trace):
    code, out, err = outcome(capsys, "info", trace, "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert list(document) == [
        "version",
        "file",
        "rows",
        "complete_rows",
        "cost_unit",
        "meter",
        "source",
        "models",
        "ignored_columns",
        "problems",
    ]
    assert document["models"]["c\x1b[31m"] == {
        "mean_satisfaction": 0.0,
        "mean_cost": 1.0,
        "observed": 7,
        "missing": 1,
        "missing_costs": 0,
    }


def test_validate_accepts_a_sound_trace(capsys, trace):
    code, out, err = outcome(capsys, "validate", trace)
    assert (code, err) == (0, "")
    assert "sound (8 rows, 2 models)" in out
    code, out, _ = outcome(capsys, "validate", trace, "--json")
    assert json.loads(out) == {"version": 1, "file": str(trace), "sound": True, "rows": 8, "problems": []}


def test_validate_lists_every_problem(capsys, tmp_path):
    path = unsound(tmp_path / "t.parquet", **{"cost/a": [1, -1, math.nan], "request_id": ["x", "y", "x"]})
    code, out, err = outcome(capsys, "validate", path)
    assert code == 2
    assert "row 2, column 'cost/a': is -1" in out
    assert "row 3, column 'request_id': 'x' is already the id of row 1" in out
    assert err.count("\n") == 1
    assert "row 2, column 'cost/a'" in err
    code, out, err = outcome(capsys, "validate", path, "--json")
    document = json.loads(out)
    assert (code, document["sound"]) == (2, False)
    assert document["problems"][0] == {
        "column": "cost/a",
        "row": 2,
        "what": "is -1, but a cost must be 0, or between 1e-100 and 1e+100",
        "count": 2,
    }


def test_head_shows_the_first_rows_without_escapes(capsys, trace):
    code, out, err = outcome(capsys, "head", trace, "-n", "2")
    assert (code, err) == (0, "")
    assert out.count("[red]line one line") == 2
    assert "…" in out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "row 2: r1" in out
    assert "row 3" not in out


def test_head_prints_one_json_document(capsys, trace):
    code, out, _ = outcome(capsys, "head", trace, "-n", "100", "--json")
    document = json.loads(out)
    assert (code, list(document), len(document["rows"])) == (0, ["version", "file", "cost_unit", "rows"], 8)
    first = document["rows"][0]
    assert (first["row"], first["request_id"]) == (1, "r0")
    assert first["models"]["c\x1b[31m"] == {"satisfied": None, "cost": 1.0}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("bad", [{"cost/a": [1, math.inf, 1]}, {"satisfied/a": [0.0, 7.0, 1.0]}])
def test_unsound_values_are_shown_and_exit_2(capsys, tmp_path, command, bad):
    path = unsound(tmp_path / "t.parquet", **bad)
    for json_too in ([], ["--json"]):
        code, out, err = outcome(capsys, command, path, *json_too)
        assert (code, err.count("\n")) == (2, 1)
        assert f"{path}: row 2, column '{next(iter(bad))}'" in err
        assert out
        assert not json_too or json.loads(out)


def no_rows(path):
    pq.write_table(schema(TraceMetadata(models=("a",))).empty_table(), path)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "not a file"),
        (lambda path: path.write_text("text"), "not a Parquet file"),
        (lambda path: path.write_bytes(unsound(path).read_bytes()[:-9]), "incomplete"),
        (lambda path: unsound(path, **{"costs/a": [1.0] * 3}), "did you mean 'cost/a'"),
        (lambda path: unsound(path, prompt=[1, 2, 3]), "column 'prompt' has type int64; it must be text"),
        (no_rows, "has no rows"),
    ],
)
def test_files_that_are_not_traces_are_refused(capsys, tmp_path, command, make, part):
    path = tmp_path / "t.parquet"
    make(path)
    code, out, err = outcome(capsys, command, path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert part in err
    assert str(path) in err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(capsys, command):
    code, out, _ = outcome(capsys, command, "--help")
    assert code == 0
    assert f"Example: messctl trace {command}" in out


def test_a_bad_number_of_rows_is_refused(capsys, trace):
    code, _, err = outcome(capsys, "head", trace, "-n", "0")
    assert (code, err.count("\n")) == (2, 1)


@pytest.mark.parametrize("group", ["trace", "zoo"])
def test_a_group_without_a_command_prints_its_help(group, capsys):
    assert run([group]) == 2
    out, err = capsys.readouterr()
    assert f"Usage: messctl {group}" in out
    assert err == f"messctl: no command given (see `messctl {group} --help`)\n"


def test_no_number_is_cut_on_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    assert run(["trace", "info", str(Path(__file__).parents[2] / "traces" / "box.parquet")]) == 0
    out, _ = capsys.readouterr()
    assert "…" not in out
    assert {"mini-1m", "0.9182", "0.008027", "6,000"} <= set(out.split())
