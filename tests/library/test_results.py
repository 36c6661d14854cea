"""Traces and results as values: from frames, to frames, and as a notebook shows them."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from making import write_trace

import messctl
from messctl.cli import run
from messctl.errors import TraceError, UnknownNameError, UsageError

ROWS = [{"a": (k % 3 > 0, 1.0), "b": (1.0, 9.0)} for k in range(60)]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_trace(tmp_path_factory.mktemp("trace") / "t.parquet", ROWS)


@pytest.fixture(scope="module")
def played(path):
    return messctl.replay(messctl.Trace.read(path), ["static-mix", "always:b"], alpha=0.8)


def printed(capsys, *words):
    assert run(list(map(str, words))) == 0
    return capsys.readouterr().out


def test_a_replay_is_what_the_command_prints(path, played, capsys):
    words = ["replay", path, "--alpha", 0.8, "--policy", "static-mix", "--policy", "always:b"]
    assert played.document() == {
        k: v for k, v in json.loads(printed(capsys, *words, "--json")).items() if k != "version"
    }
    assert played.table(160).split() == printed(capsys, *words).split()


def test_an_evaluation_is_what_the_command_prints(root, capsys):
    pytest.importorskip("matplotlib")
    log = root / "traces" / "live.parquet"
    evaluated = messctl.evaluate(log, "always:nano-109k")
    words = ["evaluate", log, "--policy", "always:nano-109k", "--json"]
    document = json.loads(printed(capsys, *words))
    assert json.loads(json.dumps(evaluated.document())) == {k: v for k, v in document.items() if k != "version"}
    assert "nano-109k" in evaluated.table()
    assert "nano-109k" in evaluated._repr_html_()
    light, dark = (evaluated.plot(dark=dark).png for dark in (False, True))
    assert light != dark


@pytest.mark.slow
def test_a_tuning_is_what_the_command_prints(path, capsys):
    tuned = messctl.tune([path], alpha=0.8, policies="bandit", v="auto", margin=[0, 0.05], seeds=2)
    words = ["tune", path, "--alpha", 0.8, "--policy", "bandit", "--v", "auto", "--margin", "0,0.05", "--seeds", 2]
    run([*map(str, words), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert json.loads(json.dumps(tuned.document())) == {k: v for k, v in document.items() if k != "version"}
    assert (tuned.chosen is None) == (document["choices"][0]["chosen"] is None)
    assert tuned.plot().png != tuned.plot(dark=True).png


def test_results_are_frames(played):
    pytest.importorskip("pandas")
    frame = played.to_pandas()
    assert list(frame["policy"]) == ["static-mix", "always:b"]
    assert frame["attained"].tolist() == [played["static-mix"].attained, played["always:b"].attained]


def test_without_pandas_a_frame_says_what_to_install(played, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(UsageError, match="pip install pandas"):
        played.to_pandas()


def test_a_notebook_shows_the_table_and_the_plot(played, tmp_path):
    pytest.importorskip("matplotlib")
    html = played._repr_html_()
    assert "static-mix" in html
    assert html.count("data:image/png;base64,") == 1
    picture = played.plot(tmp_path / "p.svg", dark=True)
    assert picture._repr_png_().startswith(b"\x89PNG")
    assert (tmp_path / "p.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")


def columns():
    return {
        "request_id": [1, 2],
        "prompt": ["p", "q"],
        "satisfied/a": [True, False],
        "cost/a": [0.5, None],
        "satisfied/b": [1.0, 1.0],
        "cost/b": [2.0, 3.0],
    }


MAKERS = {
    "pandas": lambda lib: messctl.Trace.from_pandas(lib.DataFrame(columns()), cost_unit="USD"),
    "polars": lambda lib: messctl.Trace.from_polars(lib.DataFrame(columns()), cost_unit="USD"),
    "pyarrow": lambda lib: messctl.Trace.from_arrow(lib.table(columns()), cost_unit="USD"),
}


@pytest.mark.parametrize("library", MAKERS)
def test_a_frame_becomes_a_trace(library, tmp_path, capsys):
    made = MAKERS[library](pytest.importorskip(library))
    assert (len(made), made.models, made.cost_unit) == (2, ("a", "b"), "USD")
    assert made.summary.complete_rows == 1
    assert repr(made) == "<Trace of 2 requests: a, b>"
    assert "mean cost (USD)" in made._repr_html_()
    made.write(tmp_path / "t.parquet")
    assert "sound (2 rows, 2 models)" in printed(capsys, "trace", "validate", tmp_path / "t.parquet")
    again = messctl.Trace.read(tmp_path / "t.parquet")
    assert again.to_arrow().equals(made.to_arrow())
    assert again.cost_unit == "USD"
    assert messctl.replay(made, "always:b", alpha=0.5)["always:b"].mean_cost == 2.0


def test_a_part_of_a_trace_keeps_its_unit(path):
    pytest.importorskip("pandas")
    part = messctl.Trace.from_pandas(messctl.Trace.read(path).to_pandas().head(10))
    assert (len(part), part.cost_unit) == (10, "J")


BAD = [
    ({"satisfied/a": [2.0, 0.0]}, "the table: row 1, column 'satisfied/a': is 2"),
    ({"request_id": ["x", "x"]}, "'x' is already the id of row 1"),
    ({"prompt": [None, "q"]}, "column 'prompt': is empty"),
    ({"cost/a": ["1", "2"]}, "column 'cost/a' has type"),
    ({"satisfied/c": ["?", "?"]}, "column 'satisfied/c' has type"),
]


@pytest.mark.parametrize(("change", "part"), BAD)
def test_an_unsound_table_is_refused_by_row_and_column(change, part):
    with pytest.raises(TraceError, match=part.replace("?", r"\?")):
        messctl.Trace.from_arrow(pa.table(columns() | change))


@pytest.mark.parametrize(
    ("call", "error", "part"),
    [
        (lambda path: messctl.replay(path, "bandid"), UnknownNameError, "did you mean 'bandit'"),
        (lambda path: messctl.replay(path, "bandit", aplha=1), UnknownNameError, "unknown setting 'aplha'"),
        (lambda path: messctl.replay(path, "bandit", alpha=2), UsageError, "alpha"),
        (lambda path: messctl.replay("nowhere.parquet"), TraceError, "nowhere.parquet: no such file"),
        (lambda path: messctl.tune(path, alpha=0.8, slack=-1), UsageError, "slack"),
        (lambda path: messctl.evaluate(path, "bandit"), messctl.MessctlError, "t.parquet"),
    ],
)
def test_a_wrong_call_is_an_error_of_the_one_tree(path, call, error, part):
    with pytest.raises(error, match=part):
        call(path)
