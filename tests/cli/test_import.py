"""`messctl import` as it is typed."""

from __future__ import annotations

import json
import os

import pytest
from importer_cases import CASES, TABLE, write_json, write_jsonl

from messctl.cli import run
from messctl.cli.import_ import parse_names
from messctl.errors import UsageError

JSON_KEYS = {
    "columns_left_out",
    "version",
    "output",
    "format",
    "rows",
    "models",
    "rows_with_empty_cells",
    "rows_dropped",
    "rows_without_prompt",
    "request_ids_made_unique",
    "models_without_cost",
    "models_never_observed",
    "cost_unit",
    "meter",
}


@pytest.fixture
def source(tmp_path):
    records = [
        {"question": "q", "scores": {"x=y:z": 1, "b": None}},
        {"question": "r", "scores": {"x=y:z": 0, "b": 1}},
    ]
    return str(write_json(tmp_path / "s.json", records))


@pytest.fixture
def output(tmp_path):
    return tmp_path / "t.parquet"


def failed(capsys, *arguments):
    """Run what must fail, and return its one line."""
    assert run(list(map(str, arguments))) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


def test_a_file_that_is_not_a_trace_is_not_replaced(capsys, source, tmp_path):
    (tmp_path / "zoo.yaml").write_text("sla: {alpha: 0.6}\n")
    error = failed(capsys, "import", "routerdc", source, "-o", tmp_path / "zoo.yaml")
    assert "zoo.yaml: exists and is not a Parquet file" in error
    assert (tmp_path / "zoo.yaml").read_text() == "sla: {alpha: 0.6}\n"


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_format_becomes_a_sound_trace(tmp_path, capsys, output, name):
    case = CASES[name]
    sources = map(str, case.write(tmp_path, case.models))
    words = ["--wide", TABLE.wide[0], "--cost", TABLE.cost, "--prompt", TABLE.prompt] if name == "table" else []
    assert run(["import", name, *sources, *words, "-o", str(output), "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert set(document) == JSON_KEYS
    assert document["rows"] == len(case.expected)
    assert document["models"] == sorted(case.models)
    assert captured.err == ""
    assert run(["trace", "validate", str(output)]) == 0


def test_the_summary_names_models_and_missing_costs(capsys, source, output):
    assert run(["import", "routerdc", source, "-o", str(output)]) == 0
    captured = capsys.readouterr()
    assert "2 rows, 2 models: b, x=y:z" in captured.out
    assert "1 rows have empty cells" in captured.out
    assert "--cost MODEL=VALUE" in captured.out
    assert captured.err == ""


def test_stated_costs_and_their_unit_are_used(capsys, source, output):
    costs = ["--cost", "x=y:z=0.5", "--cost", "b=1e-3:per-request", "--cost-unit", "J", "--json"]
    assert run(["import", "routerdc", source, "-o", str(output), *costs]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["cost_unit"], document["models_without_cost"]) == ("J", [])


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--cost", "b"], "write MODEL=VALUE"),
        (["--cost", "=1"], "write MODEL=VALUE"),
        (["--cost", "b=1:per-token"], "write MODEL=VALUE"),
        (["--cost", "b=cheap"], "'cheap' is not a number"),
        (["--cost", "b=nan"], "finite and not negative"),
        (["--cost", "b=1e-200"], "--cost b=1e-200: a cost must be 0, or between 1e-100 and 1e+100"),
        (["--cost", "b=1e101"], "--cost b=1e+101: a cost must be 0, or between"),
        (["--cost", "b=1", "--cost", "b=2"], "state each model's cost once"),
        (["--cost", "c=1"], "unknown model 'c'"),
        (["--cost", "b=1:per-1k-tokens"], "no token counts"),
        (["--metric", "acc"], "does not support --metric; leave it out"),
        (["--cots", "b=1"], "--cots"),
    ],
)
def test_bad_options_are_one_line_and_write_nothing(capsys, source, output, arguments, part):
    assert part in failed(capsys, "import", "routerdc", source, "-o", output, *arguments)
    assert not output.exists()


def test_bad_input_is_one_line(capsys, tmp_path, source, output):
    assert "did you mean 'routerdc'" in failed(capsys, "import", "routedc", source, "-o", output)
    assert "nowhere: no such file" in failed(capsys, "import", "routerdc", tmp_path / "nowhere", "-o", output)
    assert "is a directory" in failed(capsys, "import", "routerdc", source, "-o", tmp_path)
    assert "does not exist" in failed(capsys, "import", "routerdc", source, "-o", tmp_path / "no" / "t.parquet")
    assert "output" in failed(capsys, "import", "routerdc", source)
    evil = write_json(tmp_path / "evil.json", [{"question": "q", "scores": {"\x1b[31m[bold]": 7}}])
    line = failed(capsys, "import", "routerdc", evil, "-o", output)
    assert "\x1b" not in line
    assert "[bold]" in line


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("a\ud800", r"the model's name 'a\ud800' has a lone surrogate; correct it"),
        ("", "has a model without a name; give it one"),
    ],
)
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_model_name_that_no_column_can_have_is_refused(capsys, tmp_path, output, name, part, as_json):
    bad = write_json(tmp_path / "bad.json", [{"question": "q", "scores": {name: 1, "b": 1}}])
    line = failed(capsys, "import", "routerdc", bad, "-o", output, *as_json)
    assert part in line
    assert str(bad) in line
    assert os.listdir(tmp_path) == ["bad.json"]
    # Where it was never observed it is left out, as any model is.
    unseen = write_json(tmp_path / "bad.json", [{"question": "q", "scores": {name: None, "b": 1}}])
    assert run(["import", "routerdc", str(unseen), "-o", str(output)]) == 0
    assert run(["trace", "validate", str(output)]) == 0


@pytest.mark.parametrize(
    "measured",
    [{"a": {"reward": 1, "cost": 1e-200}}, {"a": {"reward": 1, "cost": 1}, "b": {"reward": None, "cost": 1e-200}}],
)
def test_a_cost_out_of_range_is_refused(capsys, tmp_path, output, measured):
    sound = {"prompt": "p", "arms": {"a": {"reward": 1, "cost": 0.5}, "b": {"reward": 0, "cost": 0}}}
    bad = write_jsonl(tmp_path / "s.jsonl", [sound, {"prompt": "q", "arms": measured}])
    line = failed(capsys, "import", "paretobandit", bad, "-o", output)
    assert f"request 's/2': the cost of '{list(measured)[-1]}' is 1e-200, but a cost must be 0, or between" in line
    assert os.listdir(tmp_path) == ["s.jsonl"]


def test_a_stated_cost_per_tokens_is_checked_with_the_tokens(capsys, tmp_path, output):
    sources = list(map(str, CASES["llmrouterbench"].write(tmp_path, ["m"])))
    command = ["import", "llmrouterbench", *sources, "-o", str(output), "--cost-unit", "J", "--cost"]
    assert "but a cost must be 0, or between 1e-100" in failed(capsys, *command, "m=1e-102:per-1k-tokens")
    assert not output.exists()
    assert run([*command, "m=1e-95:per-1k-tokens"]) == 0
    assert run(["trace", "validate", str(output)]) == 0


def test_model_names_are_printed_without_markup_and_escapes(capsys, tmp_path, output):
    evil = write_json(tmp_path / "evil.json", [{"question": "q", "scores": {"\x1b[31m[bold]m[/]": 1}}])
    assert run(["import", "routerdc", str(evil), "-o", str(output)]) == 0
    assert r"\x1b[31m[bold]m[/]" in capsys.readouterr().out


def test_formats_option_lists_all_formats(capsys):
    assert run(["import", "--formats"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == sorted(CASES)


def test_help_has_an_example(capsys):
    assert run(["import", "--help"]) == 0
    assert "Example: messctl import" in capsys.readouterr().out


def test_the_progress_bar_does_not_disturb_the_document(capsys, monkeypatch, source, output):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert run(["import", "routerdc", source, "-o", str(output), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["rows"] == 2


def test_an_interrupted_import_prints_one_line(capsys, monkeypatch, source, output):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("messctl.importers.convert", interrupted)
    assert run(["import", "routerdc", source, "-o", str(output)]) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_stated_costs_are_per_request_by_default():
    from messctl.cli.import_ import parse_costs

    assert not parse_costs(["m=1"])["m"].per_1k_tokens
    assert parse_costs(["m=1:per-1k-tokens"])["m"].per_1k_tokens
    with pytest.raises(UsageError):
        parse_costs(["m=1:"[:0]])


@pytest.mark.parametrize(
    ("statements", "pairs"),
    [
        (["a=b"], (("a", "b"),)),
        (["a=m,load_in_4bit=True"], (("a", "m,load_in_4bit=True"),)),
        (["t=0.7=hot", "cold=m"], (("t=0.7", "hot"), ("cold", "m"))),
    ],
)
def test_a_name_may_contain_an_equals_sign_and_so_may_an_existing_folder(statements, pairs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t=0.7").mkdir()
    assert parse_names(statements) == pairs


@pytest.mark.parametrize("statement", ["a", "=b", "a=", ""])
def test_a_statement_that_names_no_model_is_refused(statement):
    with pytest.raises(UsageError, match="write FOLDER=NAME"):
        parse_names([statement])


def test_rows_without_a_prompt_are_told(capsys, tmp_path):
    (tmp_path / "t.csv").write_text("id,asked,score_a\n1,what?,1\n2,why?,0\n")
    wide = ["import", "table", str(tmp_path / "t.csv"), "--wide", "score_{model}"]
    assert run([*wide, "-o", str(tmp_path / "t.parquet")]) == 0
    assert "2 rows have no prompt" in capsys.readouterr().out
    assert run([*wide, "--prompt", "asked", "-o", str(tmp_path / "u.parquet")]) == 0
    assert "no prompt" not in capsys.readouterr().out
