"""The conformance suite: every importer keeps the same rules, also for broken files and bad values."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from importer_cases import CASES, imported, table_of, write_json, write_jsonl

from messctl import importers
from messctl.errors import OutputError, SourceError, UnknownNameError, UsageError
from messctl.importers import Columns, CostStatement, formats, get_format
from messctl.trace import CostBasis, TraceFile, summarise

NAMES = sorted(formats())


@pytest.fixture
def source(tmp_path, request):
    folder = tmp_path / "source"
    folder.mkdir()
    case = CASES[request.param]
    return request.param, case, case.write(folder, case.models), tmp_path


conforming = pytest.mark.parametrize("source", NAMES, indirect=True)


def test_every_format_has_a_case():
    assert sorted(CASES) == NAMES


@conforming
def test_a_source_becomes_the_expected_table(source):
    name, case, sources, tmp_path = source
    output = tmp_path / "t.parquet"
    summary = imported(name, sources, output)
    assert table_of(output) == case.expected
    prompts = pq.read_table(output, columns=["request_id", "prompt"]).to_pylist()
    assert {row["request_id"]: row["prompt"] for row in prompts} == case.prompts
    assert summary.rows == len(case.expected)
    assert summary.models == tuple(sorted(case.models))
    assert summary.cost_unit == case.unit
    cells = [list(row.values()) for row in case.expected.values()]
    empty = [row for row in cells if any(s is None or (case.unit and c is None) for s, c in row)]
    assert summary.rows_with_empty_cells == len(empty)


@conforming
def test_output_is_a_valid_trace_without_empty_columns(source):
    name, case, sources, tmp_path = source
    imported(name, sources, tmp_path / "t.parquet")
    trace = TraceFile(tmp_path / "t.parquet")
    assert summarise(trace).problems == ()
    assert trace.ignored_columns == []
    assert trace.has("cost", trace.models[0]) == (case.unit is not None)
    columns = pq.read_table(trace.path)
    per_field = {}
    for column in columns.column_names:
        per_field.setdefault(column.split("/")[0], []).append(columns[column].null_count == columns.num_rows)
    assert not [name for name, all_null in per_field.items() if all(all_null)]


@conforming
def test_imports_are_reproducible_and_independent_of_the_order_of_models(source, tmp_path):
    name, case, sources, _ = source
    other = tmp_path / "other" / "source"
    other.mkdir(parents=True)
    imported(name, sources, tmp_path / "1.parquet")
    imported(name, sources, tmp_path / "2.parquet")
    imported(name, case.write(other, case.models[::-1]), tmp_path / "3.parquet")
    first = (tmp_path / "1.parquet").read_bytes()
    assert first == (tmp_path / "2.parquet").read_bytes()
    assert first == (tmp_path / "3.parquet").read_bytes()


@conforming
def test_an_interrupted_import_leaves_the_old_file(source):
    name, _, sources, tmp_path = source
    out = tmp_path / "out"
    out.mkdir()
    (out / "t.parquet").write_bytes(b"PAR1, the old file")

    def interrupt(done, total):
        if total is not None:
            assert len(list(out.iterdir())) == 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        imported(name, sources, out / "t.parquet", progress=interrupt)
    assert [path.name for path in out.iterdir()] == ["t.parquet"]
    assert (out / "t.parquet").read_bytes() == b"PAR1, the old file"


def data_files(sources):
    found = [path for source in sources for path in ([source] if source.is_file() else sorted(source.rglob("*.*")))]
    return [path for path in found if path.is_file() and not path.name.startswith("results_")]


BROKEN = {
    "binary": lambda data: b"\x89PNG\r\n\x1a\n\x00\xff\xfe" + bytes(range(256)),
    "cut short": lambda data: data[: len(data) // 2 - 3],
    "empty": lambda data: b"",
    "another encoding": lambda data: data.decode().encode("utf-16"),
}


@conforming
@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_file_is_named_in_one_line(source, how):
    name, _case, sources, tmp_path = source
    files = data_files(sources)
    for file in files:
        file.write_bytes(BROKEN[how](file.read_bytes()))
    with pytest.raises(SourceError) as caught:
        imported(name, sources, tmp_path / "t.parquet")
    message = str(caught.value)
    assert any(path.name in message for path in files + sources)
    assert "\n" not in message
    assert not (tmp_path / "t.parquet").exists()


BAD_VALUES = [(name, *values) for name, case in CASES.items() for values in case.bad_values]


@pytest.mark.parametrize(("name", "text", "replacement", "part"), BAD_VALUES, ids=lambda value: str(value)[:24])
def test_a_bad_value_is_reported_with_its_file_and_place(tmp_path, name, text, replacement, part):
    case = CASES[name]
    sources = case.write(tmp_path, case.models)
    files = data_files(sources)
    changed = [file for file in files if text in file.read_text(encoding="utf-8")]
    assert changed
    for file in changed:
        file.write_text(file.read_text(encoding="utf-8").replace(text, replacement), encoding="utf-8")
    with pytest.raises(SourceError) as caught:
        imported(name, sources, tmp_path / "t.parquet")
    assert part in str(caught.value)
    assert any(file.name in str(caught.value) for file in changed)


@conforming
def test_a_missing_source_and_an_empty_folder_are_refused(source):
    name, _, sources, tmp_path = source
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(SourceError, match=r"nowhere: no such file"):
        imported(name, [*sources, tmp_path / "nowhere"], tmp_path / "t.parquet")
    with pytest.raises(SourceError, match=r"empty: has no file named"):
        imported(name, [empty], tmp_path / "t.parquet")


@conforming
def test_unsupported_options_are_refused(source):
    name, _, sources, tmp_path = source
    wide = Columns(wide=("{model}",))
    options = {"allow_pickle": True, "metric": "acc", "filter": "none", "name": (("a", "b"),), "wide": wide}
    for option, value in options.items():
        if option not in get_format(name).takes:
            with pytest.raises(UsageError, match=f"--{option.replace('_', '-')}"):
                imported(name, sources, tmp_path / "t.parquet", **{"columns" if option == "wide" else option: value})


def test_unknown_format_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="did you mean 'routerbench'"):
        get_format("routerbnch")


def test_a_new_format_needs_only_its_own_module(tmp_path, monkeypatch):
    (tmp_path / "zz_new.py").write_text(
        "from messctl.importers.base import Format\nFORMAT = Format('zz-new', 'new', lambda s, o: iter(()))\n"
    )
    monkeypatch.setattr(importers, "__path__", [*importers.__path__, str(tmp_path)])
    assert get_format("zz-new").summary == "new"
    monkeypatch.delitem(sys.modules, "messctl.importers.zz_new")


# --- costs -----------------------------------------------------------------------------------------


def small(tmp_path, records=None):
    records = records or [
        {"question": "q1", "scores": {"a": 1, "b": 0}},
        {"question": "q2", "scores": {"a": None, "b": 1}},
    ]
    return [write_json(tmp_path / "s.json", records)]


def test_stated_costs_are_written(tmp_path):
    output = tmp_path / "t.parquet"
    costs = CostStatement({"a": CostBasis(2.0), "b": CostBasis(0.5)}, "J")
    summary = imported("routerdc", small(tmp_path), output, costs=costs)
    assert table_of(output) == {
        "s/1": {"a": (1, 2.0), "b": (0, 0.5)},
        "s/2": {"a": (None, None), "b": (1, 0.5)},
    }
    assert (summary.cost_unit, summary.meter, summary.models_without_cost) == ("J", "stated by the user", ())
    assert TraceFile(output).metadata.cost_unit == "J"


def test_models_without_a_stated_cost_are_listed(tmp_path):
    summary = imported("routerdc", small(tmp_path), tmp_path / "t.parquet", costs=CostStatement({"a": CostBasis(2.0)}))
    assert (summary.cost_unit, summary.models_without_cost) == ("unit", ("b",))


def test_stated_cost_overrides_the_source_by_tokens(tmp_path):
    case = CASES["llmrouterbench"]
    costs = CostStatement({"qwen": CostBasis(4.0, per_1k_tokens=True)})
    summary = imported("llmrouterbench", case.write(tmp_path, case.models), tmp_path / "t.parquet", costs=costs)
    assert table_of(tmp_path / "t.parquet")["aime/test/1"] == {"qwen": (1, 4.0), "gpt": (1, 0.5)}
    assert summary.cost_unit == "USD"
    assert summary.meter == "reported by LLMRouterBench and stated by the user"


@pytest.mark.parametrize(
    ("name", "costs", "part"),
    [
        ("routerdc", CostStatement({"a/7": CostBasis(1)}), "unknown model 'a/7' (did you mean 'a/7b'?)"),
        ("routerdc", CostStatement({"a/7b": CostBasis(1, True)}), "no token counts"),
        ("routerdc", CostStatement({"a/7b": CostBasis(-1)}), "finite and not negative"),
        ("routerdc", CostStatement({"a/7b": CostBasis(float("nan"))}), "finite and not negative"),
        ("routerdc", CostStatement({}, "J"), "--unit is the unit of costs, and there are none; add --cost MODEL=VALUE"),
        ("messplus", CostStatement({"large": CostBasis(1)}, "USD"), "the costs of small are in J"),
    ],
)
def test_impossible_stated_costs_are_refused(tmp_path, name, costs, part):
    sources = CASES[name].write(tmp_path, CASES[name].models)
    with pytest.raises(UsageError) as caught:
        imported(name, sources, tmp_path / "t.parquet", costs=costs)
    assert part in str(caught.value)


# --- rows ------------------------------------------------------------------------------------------


def test_repeated_ids_become_unique_and_unobserved_rows_and_models_are_dropped(tmp_path):
    arms = {"a": {"reward": 1, "cost": 1}, "never": {"reward": None, "cost": 1}}
    nothing = {"a": {"reward": None, "cost": 1}}
    records = [{"id": name, "prompt": "p\ud800", "source": "s", "arms": arms} for name in ("x", "x#2", "x", "x")] + [
        {"id": "y", "prompt": "p", "arms": nothing}
    ]
    summary = imported("paretobandit", [write_jsonl(tmp_path / "s.jsonl", records)], tmp_path / "t.parquet")
    assert list(table_of(tmp_path / "t.parquet")) == ["s/x", "s/x#2", "s/x#3", "s/x#4"]
    assert (summary.rows, summary.rows_dropped, summary.request_ids_made_unique) == (4, 1, 2)
    assert summary.models == ("a",)
    assert summary.models_never_observed == ("never",)
    assert pq.read_table(tmp_path / "t.parquet")["prompt"][0].as_py() == "p\ufffd"


@pytest.mark.parametrize(
    ("records", "part"),
    [
        ([], "has no rows; check the source"),
        ([{"question": "q", "scores": {"a": None}}], "none of its 1 rows has a satisfaction of any model"),
    ],
)
def test_a_source_without_usable_rows_is_refused(tmp_path, records, part):
    write_json(tmp_path / "s.json", records)
    with pytest.raises(SourceError, match=part):
        imported("routerdc", [tmp_path / "s.json"], tmp_path / "t.parquet")


def test_an_output_that_cannot_be_written_is_refused(tmp_path):
    sources = small(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for output in (tmp_path, tmp_path / "no" / "t.parquet", tmp_path / ("n" * 300), tmp_path / "pipe"):
        with pytest.raises(OutputError):
            imported("routerdc", sources, output)
    with pytest.raises(UsageError, match="is also a source of this import"):
        imported("routerdc", sources, sources[0])


# --- published results, if they are on this machine ------------------------------------------------

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no published benchmark results in {SHARED}")
@pytest.mark.parametrize(
    ("name", "source", "counts"),
    [
        ("routerbench", "routerbench/arc_challenge_train.csv", (1039, 11, 20, 7)),
        ("routerbench", "routerbench", (1039 + 887, 11, 20, 7)),
        ("routellm", "routellm/mmlu", (14_042, 2, 0, 0)),
        ("paretobandit", "paretobandit", (1766, 4, 0, 0)),
        ("routerdc", "routerdc", (820, 7, 0, 0)),
    ],
)
def test_published_results_have_the_known_numbers_of_rows_and_models(tmp_path, name, source, counts):
    rows, models, empty, renamed = counts
    summary = imported(name, [SHARED / source], tmp_path / "t.parquet")
    assert (summary.rows, len(summary.models), summary.rows_with_empty_cells) == (rows, models, empty)
    assert (summary.request_ids_made_unique, summary.rows_dropped) == (renamed, 0)
    found = summarise(TraceFile(tmp_path / "t.parquet"))
    assert (found.rows, found.complete_rows, found.problems) == (rows, rows - empty, ())
