"""Sources from strangers: files that are not ordinary, never end, or take far more memory than their size."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from importer_cases import imported, write_json, write_jsonl

from messctl.cli import run
from messctl.errors import MessctlError, SourceError
from messctl.importers import files
from messctl.importers.base import Columns, Place
from messctl.importers.table import sheet
from messctl.importers.text import readable_prompt

SAMPLE = {"doc_id": 0, "doc": {"q": "hi"}, "filter": "none", "metrics": ["acc"], "acc": 1.0}


def a_pipe(path):
    os.mkfifo(path)


def an_endless_device(path):
    path.symlink_to("/dev/zero")


def a_sparse_file(path):
    with path.open("wb") as file:
        file.truncate(2**40)


def harness_folder(tmp_path):
    folder = tmp_path / "run"
    write_jsonl(folder / "samples_task_2026-01-01T00-00-00.jsonl", [SAMPLE])
    return folder


@pytest.mark.parametrize("make", [a_pipe, an_endless_device, a_sparse_file])
@pytest.mark.parametrize("date", ["2026-01-01T00-00-00", "2025-12-31T00-00-00"])
def test_a_results_file_that_is_not_ordinary_is_named(tmp_path, make, date):
    folder = harness_folder(tmp_path)
    results = folder / f"results_{date}.json"
    make(results)
    with pytest.raises(SourceError, match="cannot be read") as caught:
        imported("lm-eval", [folder], tmp_path / "t.parquet")
    assert str(results) in str(caught.value)


@pytest.mark.parametrize("make", [a_pipe, an_endless_device])
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("lm-eval", "samples_b_2026-01-01T00-00-00.jsonl"),
        ("llmrouterbench", "a.json"),
        ("routerdc", "a.json"),
        ("paretobandit", "a.jsonl"),
        ("routellm", "a.csv"),
        ("routerbench", "a.csv"),
        ("routerbench", "a.parquet"),
        ("messplus", "a.csv"),
    ],
)
def test_a_source_that_is_not_ordinary_is_refused(tmp_path, make, name, file):
    make(tmp_path / file)
    for source in (tmp_path, tmp_path / file):
        with pytest.raises(SourceError, match="has no file named|not a regular file"):
            imported(name, [source], tmp_path.parent / "t.parquet")


@pytest.mark.parametrize(
    ("name", "file", "part"),
    [
        ("routerdc", "a.json", "larger than 256 MiB"),
        ("paretobandit", "a.jsonl", "line 1: is longer than 16 MiB"),
        ("routellm", "a.csv", "line 1: is longer than 16 MiB"),
        ("routerbench", "a.parquet", "not a Parquet file"),
    ],
)
def test_an_endless_file_is_not_read_to_its_end(tmp_path, name, file, part):
    a_sparse_file(tmp_path / file)
    with pytest.raises(SourceError, match=part):
        imported(name, [tmp_path / file], tmp_path / "t.parquet")


def test_a_json_text_of_too_many_values_is_refused(monkeypatch):
    monkeypatch.setattr(files, "MOST_VALUES", 1000)
    assert files.decode_json(Place(Path("a.json")), json.dumps([1] * 999)) == [1] * 999
    with pytest.raises(SourceError, match="more than 1,000 values"):
        files.decode_json(Place(Path("a.json")), json.dumps([1] * 1001))


@pytest.mark.parametrize("long", [lambda text: text, lambda text: [text], lambda text: {"b": text}])
def test_a_text_within_json_is_as_long_as_a_cell_at_most(long, monkeypatch):
    monkeypatch.setattr(files, "LONGEST_LINE", 1 << 20)
    assert files.bounded_json(json.dumps({"a": long("x" * (1 << 20))})) == {"a": long("x" * (1 << 20))}
    with pytest.raises(SourceError, match=r"the text of '[ab]' is longer than 1 MiB"):
        files.decode_json(Place(Path("a.json")), json.dumps({"a": long("x" * ((1 << 20) + 1))}))


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000 + "]" * 100_000, '{"a":' * 100_000, "9" * 10_000, '"\\ud800"x', "[1e999", "\0", '{"a":1,"a":0}'],
)
def test_odd_json_is_refused_in_one_line(text):
    with pytest.raises(SourceError, match=r"a\.json.*is not (valid )?JSON"):
        files.decode_json(Place(Path("a.json")), text)


def test_a_header_of_too_many_columns_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("prompt," + ",".join(f"m{number}" for number in range(70_000)) + "\n")
    with pytest.raises(SourceError, match="has 70,001 columns"):
        imported("routellm", [tmp_path / "a.csv"], tmp_path / "t.parquet")


def test_a_header_of_many_columns_is_checked_quickly(tmp_path):
    header = ["doc_id", "input_text", "benchmark_name", *(f"acc_m{number}" for number in range(20_000))]
    (tmp_path / "a.csv").write_text(",".join(header) + "\n" + ",".join(["1"] * len(header)) + "\n")
    [(_, record)] = files.csv_records(tmp_path / "a.csv")
    assert len(record) == len(header)


def test_lines_of_a_csv_file_may_end_in_any_way(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbfprompt,m\r"one\rtwo",1\r\n"three\n",0\n')
    assert [record for _, record in files.csv_records(tmp_path / "a.csv")] == [
        {"prompt": "one\rtwo", "m": "1"},
        {"prompt": "three\n", "m": "0"},
    ]


@pytest.mark.parametrize(
    ("encoding", "part"),
    [
        ("utf-16-le", "UTF-16 without a byte order mark"),
        ("utf-16-be", "UTF-16 without a byte order mark"),
        ("utf-16", "not UTF-8"),
    ],
)
def test_a_file_in_utf_16_says_so(tmp_path, encoding, part):
    (tmp_path / "a.csv").write_bytes("prompt,tiny\nhi,1\n".encode(encoding))
    with pytest.raises(MessctlError, match=f"{part}.*convert it to UTF-8"):
        imported("routellm", [tmp_path / "a.csv"], tmp_path / "t.parquet")


def test_a_document_may_be_one_line_that_is_longer_than_other_lines_may_be(tmp_path, monkeypatch):
    monkeypatch.setattr(sheet, "LONGEST_LINE", 20)
    monkeypatch.setattr(files, "LONGEST_LINE", 20)
    path = write_json(tmp_path / "a.json", [{"prompt": "how long is it?", "score": 1}])
    assert [record for _, record in sheet.records(path, Columns())] == [{"prompt": "how long is it?", "score": 1}]


def test_an_error_about_a_name_of_a_megabyte_is_short(tmp_path, capsys):
    (tmp_path / "a.csv").write_text(f"prompt,{'x' * 1_000_000}\nhi,7\n")
    assert run(["import", "routellm", str(tmp_path / "a.csv"), "-o", str(tmp_path / "t.parquet")]) == 2
    line = capsys.readouterr().err
    assert len(line) < 2100
    assert "a.csv: row 1, column 'xxx" in line
    assert " … xxx" in line
    assert "xxx': is 7, but satisfaction must be in 0..1; correct it" in line


def test_a_very_long_list_is_left_as_text():
    text = "[" + "'a'," * 300_000 + "]"
    assert readable_prompt(text) == text
    assert readable_prompt("['a', 'b']") == "a\nb"
