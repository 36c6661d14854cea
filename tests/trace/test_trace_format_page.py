"""The page of the trace format: it names every column and key, and what it writes is a sound trace."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from messctl.cli import run
from messctl.trace import TraceFile, TraceMetadata
from messctl.trace.format import CHECKSUM, FIELDS, REQUEST_COLUMNS

CODE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LIBRARIES = ["pandas", "polars", "duckdb"]


@pytest.fixture
def page(root):
    return (root / "docs" / "trace-format.md").read_text(encoding="utf-8")


def test_page_names_every_column_and_key_and_no_other(page):
    named = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    columns = [*REQUEST_COLUMNS, *(f"{name}/<model>" for name in FIELDS)]
    keys = [each.name for each in fields(TraceMetadata) if each.name != "extra"]
    assert sorted(named) == sorted([*columns, *keys, CHECKSUM])


def test_page_gives_each_column_the_type_that_messctl_writes(page):
    kinds = {"text": "string", "number": "double", "whole number": "int64", "boolean": "bool", "timestamp": "timestamp"}
    for name, kind in re.findall(r"^\| `([^`/]+)(?:/<model>)?` \| ([a-z ]+) \| (?:yes|no|for)", page, re.MULTILINE):
        written = str({**REQUEST_COLUMNS, **FIELDS}[name])
        assert kinds[kind.split(" or ")[0]] in written, name


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_a_library_writes_is_a_sound_trace(page, tmp_path, monkeypatch, capsys, library):
    pytest.importorskip(library, reason=f"{library} is not installed; `make dev` installs it")
    monkeypatch.chdir(tmp_path)
    (code,) = [code for code in CODE.findall(page) if f"{library}.parquet" in code]
    exec(compile(code, f"trace-format.md, {library}", "exec"), {})
    assert run(["trace", "validate", f"{library}.parquet"]) == 0
    assert capsys.readouterr().out == f"{library}.parquet: sound (2 rows, 2 models)\n"
    trace = TraceFile(tmp_path / f"{library}.parquet")
    assert (trace.models, trace.metadata.cost_unit, trace.metadata.meter) == (("large", "small"), "USD", "the bill")
    (batch,) = trace.batches()
    assert batch.satisfied.tolist() == [[1, 1], [1, 0]]
    assert batch.request_ids.to_pylist() == ["1", "2"]
