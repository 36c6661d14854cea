"""Traces from strangers: how much memory they take, and what is not text, not a number or damaged in them."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile_traces import LARGE, LARGE_TRACES, ODD_METADATA, columns, repeated, utf8, write

from messctl.cli import run
from messctl.errors import SourceError, TraceError
from messctl.importers.files import parquet_records
from messctl.trace import Outcome, Row, TraceFile, TraceMetadata, TraceWriter, parquet, summarise
from messctl.trace.pages import read_groups
from messctl.trace.parquet import BATCH_BYTES, BoundedParquet, ParquetError
from messctl.trace.sound import sound_batches

MODELS = ("a", "b")
COMMANDS = ("trace validate", "trace head")
CHILD = """
import resource, sys
from messctl.cli import run
trace, commands = sys.argv[1], sys.argv[2].split(";")
start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for command in commands:
    print("code", run([*command.split(), trace]))
print("grown", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) // 1024)
"""


def everything_read(path):
    """Return all that a replay would see of a trace."""
    trace = TraceFile(path)
    seen = [trace.models, trace.metadata.cost_unit, trace.timed]
    for batch in sound_batches(trace):
        seen += [
            batch.request_ids.to_pylist(),
            batch.prompts.to_pylist(),
            batch.satisfied.tolist(),
            batch.cost.tolist(),
        ]
    return repr(seen)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE_TRACES)
def test_a_small_trace_that_is_large_inside_takes_little_memory(tmp_path, name):
    path = LARGE_TRACES[name](tmp_path / "t.parquet")
    assert path.stat().st_size < 10**6
    commands = (*COMMANDS, "replay --policy messplus") if name == "a dictionary of prompts" else COMMANDS
    child = [sys.executable, "-c", CHILD, str(path), ";".join(commands)]
    done = subprocess.run(child, check=False, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert "Traceback" not in done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert {line[1] for line in lines if line[:1] == ["code"]} <= {"0", "2"}
    assert next(int(line[1]) for line in lines if line[:1] == ["grown"]) < 1024  # MiB


def test_large_texts_are_read_a_few_rows_at_a_time(tmp_path):
    path = write(tmp_path / "t.parquet", {"prompt": repeated(LARGE, 200)}, 200, dictionary_pagesize_limit=10**8)
    sizes = [batch.prompts.nbytes for batch in TraceFile(path).batches()]
    assert len(sizes) > 1
    assert max(sizes) < 1.5 * BATCH_BYTES


def test_usual_texts_are_read_in_large_batches(tmp_path):
    path = write(tmp_path / "t.parquet", {"prompt": [f"{row} " * 50 for row in range(20_000)]}, 20_000)
    assert [len(batch.cost) for batch in TraceFile(path).batches()] == [16_384, 3_616]


def test_one_long_prompt_is_read(tmp_path):
    path = write(tmp_path / "t.parquet", {"prompt": ["x" * 60_000_000, "y", "z"]}, 3)
    assert next(len(batch.prompts[0].as_py()) for batch in TraceFile(path).batches()) == 60_000_000


@pytest.mark.parametrize(
    ("changed", "rows", "part"),
    [
        ({"prompt": repeated(["x" * 400_000], 3000)}, 3000, "bytes expand to more than"),
        ({name: pa.nulls(2_000_000) for name in columns(0)}, 2_000_000, "it cannot hold the 2,000,000 rows"),
    ],
)
def test_a_trace_that_expands_without_end_is_refused(tmp_path, changed, rows, part):
    path = write(tmp_path / "t.parquet", changed, rows, dictionary_pagesize_limit=10**8)
    with pytest.raises(TraceError, match=part):
        summarise(TraceFile(path))


def test_a_page_that_takes_too_much_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "LARGEST_PAGES", 10**6)
    path = write(tmp_path / "t.parquet", {"prompt": ["x" * 400_000 + str(row) for row in range(3)]}, 3)
    with pytest.raises(TraceError, match=r"a page of column 'prompt' is too large: 2,4\d\d,\d\d\d bytes"):
        summarise(TraceFile(path))
    with pytest.raises(SourceError, match="a page of column 'prompt' is too large"):
        list(parquet_records(path))


def test_long_texts_are_written_in_small_groups_of_rows(tmp_path):
    with TraceWriter(tmp_path / "t.parquet", TraceMetadata(models=MODELS), ("satisfied", "answer")) as writer:
        for row in range(20):
            writer.append(Row(f"r{row}", "p", {"a": Outcome(1.0, answer=chr(97 + row) * 2_000_000)}))
    with (tmp_path / "t.parquet").open("rb") as file:
        assert [group.rows for group in read_groups(file.fileno())] == [9, 9, 2]


def test_head_shows_as_many_long_prompts_as_it_is_asked_for(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(parquet, "BATCH_BYTES", 10**6)
    path = write(tmp_path / "t.parquet", {"prompt": [f"long{row} " * 50_000 for row in range(4)]}, 4)
    assert len(list(TraceFile(path).batches())) > 1
    assert run(["trace", "head", "-n", "3", str(path)]) == 0
    assert re.findall(r"row (\d)", capsys.readouterr().out) == ["1", "2", "3"]


def test_lists_that_expand_without_end_are_refused(tmp_path):
    lists = pa.ListArray.from_arrays(pa.array([0, 4_000_000], pa.int32()), repeated(["x" * 1000], 4_000_000))
    pq.write_table(pa.table({"prompt": lists}), tmp_path / "t.parquet", compression="zstd")
    with pytest.raises(ParquetError, match="the lists in column 'prompt' take more than"):
        list(BoundedParquet(tmp_path / "t.parquet").batches(["prompt"], 1024))


@pytest.mark.parametrize("name", ODD_METADATA)
def test_metadata_that_no_trace_has_is_refused(tmp_path, name):
    path = write(tmp_path / "t.parquet", {}, 3, {"messctl": ODD_METADATA[name]})
    with pytest.raises(TraceError, match=r"the schema metadata 'messctl' is not valid|upgrade messctl"):
        TraceFile(path)


@pytest.mark.parametrize("name", ["request_id", "prompt", "served"])
def test_text_that_is_not_utf_8_is_named_by_its_row(tmp_path, name):
    path = write(tmp_path / "t.parquet", {name: utf8(b"a", b"b", b"\xff")}, 3, store_schema=False)
    with pytest.raises(TraceError, match=f"row 3, column '{name}': is not UTF-8 text"):
        summarise(TraceFile(path))


@pytest.mark.parametrize("name", ["prompt", "satisfied/a", "other"])
def test_two_columns_of_one_name_are_refused_by_that_name(tmp_path, capsys, name):
    held = columns(8)
    table = pa.table(held)
    again = pa.array(held.get(name, ["x"] * 8))
    for _ in range(1 if name in held else 2):
        table = table.append_column(name, again)
    pq.write_table(table, tmp_path / "t.parquet")
    for command in (["trace", "validate"], ["trace", "head"], ["replay"]):
        assert run([*command, str(tmp_path / "t.parquet")]) == 2
        assert f"it has several columns of the name {name!r}" in capsys.readouterr().err


def test_a_file_whose_name_is_not_utf_8_is_written_and_read(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / os.fsdecode(b"\xff\xfe [b]") / os.fsdecode(b"\xe9.parquet")
    path.parent.mkdir()
    sound = {"a": Outcome(1.0, 2.0), "b": Outcome(0.0, 1.0)}
    with TraceWriter(path, TraceMetadata(MODELS, "J", "m", "s")) as writer:
        for number in range(8):
            writer.append(Row(str(number), f"what is {number}", sound))
    assert run(["trace", "validate", str(path)]) == 0
    steps = path.with_name(os.fsdecode(b"steps \xe9.parquet"))
    assert run(["replay", str(path), "--policy", "messplus", "--steps", str(steps)]) in (0, 1)
    assert "Traceback" not in capsys.readouterr().err
    assert sorted(os.listdir(path.parent)) == sorted([path.name, steps.name])


def test_a_name_that_is_not_utf_8_is_refused(tmp_path):
    path = write(tmp_path / "t.parquet", {"note": ["n"] * 3}, 3, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"note", b"n\xffte"))
    with pytest.raises(TraceError, match="a name in it is not UTF-8 text"):
        summarise(TraceFile(path))


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        (b"cost/b", b"cost+b", "the two copies of its schema differ"),
        (b'"cost_unit": "J"', b'"cost_unit": "j"', "its copies differ"),
    ],
)
def test_a_schema_or_metadata_whose_copies_differ_is_refused(tmp_path, old, new, part):
    path = stored(tmp_path / "t.parquet")
    data = path.read_bytes()
    at = data.rindex(old)
    path.write_bytes(data[:at].replace(old, new) + new + data[at + len(old) :])
    with pytest.raises(TraceError, match=part):
        TraceFile(path)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, 2, 3], pa.float16()),
        pa.array([1, 2, 3], pa.uint64()),
        pa.array([1, 2, 3], pa.decimal128(38, 30)),
        pa.array([1, 2, 3], pa.decimal256(70, 3)),
        pa.array([1, 2, 3], pa.duration("ns")),
        pa.array([[1], [2], None]),
        pa.array([{"x": 1}] * 3),
        pa.array([b"1", b"2", b"3"]),
        pa.array([1, 2, 3]).dictionary_encode(),
        pa.nulls(3),
    ],
)
@pytest.mark.parametrize("name", ["request_id", "prompt", "cost/a", "satisfied/a", "arrived_at", "served", "alpha"])
def test_a_column_of_any_type_is_read_or_refused(tmp_path, name, column):
    path = write(tmp_path / "t.parquet", {name: column}, 3)
    with suppress(TraceError):
        summarise(TraceFile(path))


def test_thousands_of_unknown_columns_are_compared_quickly(tmp_path):
    path = write(tmp_path / "t.parquet", {f"{number:05d}/a": [1] * 3 for number in range(3000)}, 3)
    assert len(TraceFile(path).ignored_columns) == 3000


def stored(path):
    rng = np.random.default_rng(0)
    with TraceWriter(path, TraceMetadata(models=MODELS, cost_unit="J")) as writer:
        for row in range(3000):
            outcomes = {model: Outcome(float(rng.random()), float(rng.random())) for model in MODELS}
            writer.append(Row(f"request {row}", f"What is {rng.integers(10**9)} + {row}?", outcomes))
    return path


def test_a_flipped_bit_is_noticed(tmp_path):
    path = stored(tmp_path / "t.parquet")
    sound, expected, chance = path.read_bytes(), everything_read(path), random.Random(0)
    outcomes = {"noticed": 0, "harmless": 0, "silent": 0}
    for _ in range(200):
        data = bytearray(sound)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        try:
            seen = everything_read(path)
        except TraceError:
            outcomes["noticed"] += 1
        else:
            outcomes["harmless" if seen == expected else "silent"] += 1
    assert outcomes["silent"] == 0
    assert outcomes["noticed"] > 190


def test_every_parquet_file_that_is_written_has_checksums(tmp_path):
    """A flipped bit in a compressed page, which decompresses all the same, is noticed by its checksum alone."""
    path = stored(tmp_path / "t.parquet")
    with path.open("rb") as file:
        places = read_groups(file.fileno())[0].places
    for _, end in places[:2] + places[3:]:  # the third column, `source`, is empty
        data = bytearray(path.read_bytes())
        data[end - 1] ^= 1
        (tmp_path / "flipped.parquet").write_bytes(data)
        with pytest.raises(TraceError, match="damaged or incomplete"):
            everything_read(tmp_path / "flipped.parquet")


def test_importers_read_parquet_with_the_same_bounds(tmp_path):
    large = {"prompt": repeated(["x" * 400_000], 3000)}
    path = write(tmp_path / "t.parquet", large, 3000, dictionary_pagesize_limit=10**8)
    with pytest.raises(SourceError, match="bytes expand to more than"):
        for _ in parquet_records(path):
            pass
    assert [record["prompt"] for _, record in parquet_records(write(path, {}, 3))] == ["p"] * 3
