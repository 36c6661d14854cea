"""Tables that messctl has never seen: each comes in by its options, or by the command that messctl proposes."""

from __future__ import annotations

import io
import shlex
import sys
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from foreign_tables import FOREIGN, WIDE, WIDE_TRACE
from importer_cases import table_of
from live_making import assert_one_line

from messctl.cli import run
from messctl.trace import TraceFile, summarise

COMING_IN = [name for name, table in FOREIGN.items() if table.expected]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def near(table):
    return {
        row: {m: pytest.approx(cells, nan_ok=True) for m, cells in of.items()} for row, of in rounded(table).items()
    }


def rounded(table):
    return {
        row: {m: tuple(None if value is None else round(value, 9) for value in cells) for m, cells in of.items()}
        for row, of in table.items()
    }


def check_trace(path, table):
    found = table_of(path)
    if not table.proposed:
        assert len(found) == len(table.expected)
    assert rounded(dict(zip(table.expected, found.values(), strict=True))) == rounded(table.expected)
    rows = pq.read_table(path).to_pylist()
    assert [row["prompt"] for row in rows] == list(table.prompts.values())
    for row, (name, _) in zip(rows, table.expected.items(), strict=True):
        for model, answer in table.answers.get(name, {}).items():
            assert row[f"answer/{model}"] == answer
        for model, counts in table.tokens.get(name, {}).items():
            assert (row[f"tokens_in/{model}"], row[f"tokens_out/{model}"]) == counts
    assert summarise(TraceFile(path)).problems == ()


@pytest.mark.parametrize("name", COMING_IN)
def test_a_foreign_table_comes_in_with_one_command(folder, capsys, name):
    table = FOREIGN[name]
    files = [path.name for path in table.write(folder)]
    assert run(["import", "table", *files, *table.words, "-o", "t.parquet"]) == 0, capsys.readouterr().err
    check_trace(folder / "t.parquet", table)
    assert list(table_of(folder / "t.parquet")) == list(table.expected)
    if table.unit:
        assert TraceFile("t.parquet").metadata.cost_unit == table.unit


@pytest.mark.parametrize("name", COMING_IN)
def test_without_options_a_command_that_works_is_proposed_and_nothing_is_written(folder, capsys, name):
    table = FOREIGN[name]
    files = [path.name for path in table.write(folder)]
    before = sorted(folder.iterdir())
    assert run(["import", "table", *files, "-o", "t.parquet"]) == 2
    assert sorted(folder.iterdir()) == before
    out, err = capsys.readouterr()
    if table.proposed:
        assert table.proposed in err
        assert out == ""
        return
    assert err.count("\n") == 1
    words = shlex.split(out)
    assert words[:3] == ["messctl", "import", "table"]
    assert run(words[1:]) == 0, capsys.readouterr().err
    check_trace(folder / "t.parquet", table)


@pytest.mark.parametrize("name", [name for name, table in FOREIGN.items() if table.refused])
def test_what_is_no_trace_is_refused_with_and_without_options(folder, capsys, name):
    table = FOREIGN[name]
    files = [path.name for path in table.write(folder)]
    assert run(["import", "table", *files, *table.words, "-o", "t.parquet"]) == 2
    assert table.refused in capsys.readouterr().err
    assert run(["import", "table", *files, "-o", "t.parquet"]) == 2
    assert table.proposed in capsys.readouterr().err
    assert not (folder / "t.parquet").exists()


WORDS = ["--wide", "score_{model}", "--cost", "cost_{model}"]


def test_standard_input_is_a_table(folder, monkeypatch, capsys):
    for words, code in ((WORDS, 0), ([], 2)):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(WIDE.encode()), isatty=lambda: False))
        assert run(["import", "table", "-", *words, "-o", "t.parquet"]) == code
    assert list(table_of(folder / "t.parquet").values()) == list(WIDE_TRACE.values())
    assert (
        "messctl import table - --wide 'score_{model}' --cost 'cost_{model}' --prompt prompt -o"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "json", "tsv", "txt"])
def test_every_kind_of_file_gives_the_same_trace(folder, kind):
    rows = [
        {"id": "1", "prompt": "a", "score_x": 0.5, "cost_x": 1.0, "score_y": 1.0, "cost_y": 2.0},
        {"id": "2", "prompt": "b", "score_x": 1.0, "cost_x": 1.5, "score_y": None, "cost_y": None},
    ]
    import json

    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), "t.parquet")
    elif kind == "json":
        (folder / "t.json").write_text(json.dumps(rows, indent=1))
    elif kind == "jsonl":
        (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        mark = "\t" if kind == "tsv" else "|"
        cells = [list(rows[0]), *([("" if v is None else str(v)) for v in row.values()] for row in rows)]
        (folder / f"t.{kind}").write_text("".join(mark.join(row) + "\n" for row in cells))
    assert run(["import", "table", f"t.{kind}", *WORDS, "-o", "trace.parquet"]) == 0
    assert table_of(folder / "trace.parquet") == {
        "1": {"x": (0.5, 1), "y": (1, 2)},
        "2": {"x": (1, 1.5), "y": (None, None)},
    }


def cells_of(**columns):
    names = list(columns)
    rows = zip(*columns.values(), strict=True)
    return ",".join(names) + "\n" + "".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in rows)


def scores(a=("1", "1"), **others):
    return {"score_a": a, **others}


ODD = ["0.5", "1"]
NEVER_IN_SILENCE = [
    (scores(ODD, score_b=["50", "100"]), [], "column 'score_b': is '50', but satisfaction must be in 0..1"),
    (scores(ODD, score_b=["50", "100"]), ["--scale", "0:100"], "column 'score_a': no score is above 1"),
    (scores(["85%", "0.9"]), [], "column 'score_a': is a number, and not what is in row 1"),
    (scores(["pass", "0.3"]), [], "column 'score_a': is a number, and not what is in row 1"),
    (scores(["0,5", "1"]), [], "state the decimal mark, with --decimal . or --decimal ,"),
    (scores(cost_a=["1,234", "2"]), ["--cost", "cost_{model}"], "state the decimal mark"),
    (scores(cost_a=["$1", "€2"]), ["--cost", "cost_{model}", "--unit", "USD"], "unit is USD"),
    (scores(cost_a=["$1", "2"]), ["--cost", "cost_{model}"], "unit is not stated; state --unit USD"),
    (scores(cost_a=["3%", "2"]), ["--cost", "cost_{model}"], "is the text '3%'"),
    (scores(cost_a=["free", "2"]), ["--cost", "cost_{model}"], "is the text 'free'"),
    (scores(cost_a=["-1", "2"]), ["--cost", "cost_{model}"], "is -1, but must be finite"),
    (scores(score_a_cost=ODD), [], "column 'score_a_cost': is no model: its name says 'cost'"),
    (scores(score_stderr=ODD), [], "column 'score_stderr': is no model"),
    (scores(score_b=ODD, cost_a=[1, 2], cost_B=[1, 2]), ["--cost", "cost_{model}"], "(did you mean 'cost_B'?)"),
    (scores(), ["--cost", "costs_{model}"], "'costs_a' is missing"),
    (scores(), ["--prompt", "promt"], "'promt' is missing"),
    (scores(), ["--ignore", "score_b"], "'score_b' is missing"),
    (scores(id=["1", ""]), [], "row 2, column 'id': is empty"),
    (scores(["1", "nought"]), [], "row 2, column 'score_a': is the text 'nought'"),
    (scores(["4", "5"]), ["--scale", "1:5", "--threshold", "6"], "--threshold 6: is outside of the scale 1:5"),
    (scores(ODD), ["--threshold", "50"], "--threshold 50: is outside of the scale 0:1"),
    (scores(["4", "5"]), ["--scale", "0:5", "--threshold", "1"], "--threshold 1: it may be a score or a share"),
    (scores(["4", "5"]), ["--scale", "5"], "--scale '5': write the worst and the best score"),
    (scores(tokens_a=["1.5", "2"]), ["--tokens-in", "tokens_{model}"], "must be a whole number"),
]


@pytest.mark.parametrize(("columns", "words", "part"), NEVER_IN_SILENCE)
def test_a_table_with_two_readings_or_none_is_refused_by_its_column(folder, capsys, columns, words, part):
    (folder / "t.csv").write_text(cells_of(prompt=["p", "q"], **columns))
    assert run(["import", "table", "t.csv", "--wide", "score_{model}", *words, "-o", "t.parquet"]) == 2
    assert part in capsys.readouterr().err
    assert not (folder / "t.parquet").exists()


SCALES = [
    (["--scale", "0:100"], ["50", "100"], [0.5, 1]),
    (["--scale", "0:100", "--threshold", "0.5"], ["50", "49"], [1, 0]),
    (["--scale", "0:100", "--threshold", "50"], ["50", "49.9"], [1, 0]),
    (["--scale", "0:100", "--threshold", "50%"], ["50", "49.9"], [1, 0]),
    (["--scale", "1:10", "--threshold", "7"], ["7", "6"], [1, 0]),
    (["--scale", "-1:1"], ["0", "1"], [0.5, 1]),
    (["--scale", "5:1"], ["1", "5"], [1, 0]),
    (["--threshold", "0.5"], ["0.5", "0.49"], [1, 0]),
    ([], ["85%", "7.5%"], [0.85, 0.075]),
    (["--scale", "0:100"], ["85%", "7.5%"], [0.85, 0.075]),
    ([], ["TRUE", "false"], [1, 0]),
    ([], ["pass", "Fail"], [1, 0]),
    ([], ["✓", "0"], [1, 0]),
]


@pytest.mark.parametrize(("words", "cells", "expected"), SCALES)
def test_scores_of_every_scale_become_satisfaction(folder, capsys, words, cells, expected):
    (folder / "t.csv").write_text(cells_of(prompt=["p", "q"], score_a=cells))
    assert run(["import", "table", "t.csv", "--wide", "score_{model}", *words, "-o", "t.parquet"]) == 0, (
        capsys.readouterr()
    )
    assert [of["a"][0] for of in table_of(folder / "t.parquet").values()] == pytest.approx(expected)


LONG = "id,prompt,model,score\n1,p,a,1\n1,p,b,0\n"
LONG_TROUBLE = [
    ("1,p,a,0\n", "is a second answer of 'a' to the request of t.csv, row 1; state which counts: --duplicates mean"),
    ("1,other,c,0\n", "request '1' has another prompt in an earlier row"),
    ("2,q,,0\n", "row 3, column 'model': is empty"),
    ("2,q,a,good\n", "is the text 'good'"),
    ("2,q,a\n", "has 3 cells, but the header has 4 columns"),
]


@pytest.mark.parametrize(("line", "part"), LONG_TROUBLE)
def test_a_long_table_with_a_doubtful_row_is_refused_by_its_row(folder, capsys, line, part):
    (folder / "t.csv").write_text(LONG + line)
    words = ["--long", "--model-column", "model", "--satisfied", "score"]
    assert run(["import", "table", "t.csv", *words, "-o", "t.parquet"]) == 2
    assert part in capsys.readouterr().err


@pytest.mark.parametrize(("which", "expected"), [("first", 1), ("last", 0), ("mean", 0.5)])
def test_repeated_answers_count_as_the_user_states(folder, which, expected):
    (folder / "t.csv").write_text(LONG + "1,p,a,0\n")
    words = ["--model-column", "model", "--satisfied", "score", "--duplicates", which]
    assert run(["import", "table", "t.csv", *words, "-o", "t.parquet"]) == 0
    assert table_of(folder / "t.parquet")["1"]["a"][0] == expected


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"PK\x03\x04rest", "a workbook or an archive"),
        (b"\xd0\xcf\x11\xe0rest", "an old workbook"),
        (b"\x1f\x8brest", "compressed; unpack it first"),
        (b"SQLite format 3\0", "a database"),
        ("prompt,score_a\n".encode("utf-16"), "is not UTF-8 text"),
    ],
)
def test_what_is_no_table_is_refused_by_what_it_is(folder, capsys, data, part):
    (folder / "t.xlsx").write_bytes(data)
    assert run(["import", "table", "t.xlsx", *WORDS, "-o", "t.parquet"]) == 2
    assert part in capsys.readouterr().err


COSTS = "prompt,score_small,cost_small,score_large,cost_large\np,1,0.2,1,0.9\n"


@pytest.mark.parametrize("importer", ["routellm", "routerbench"])
@pytest.mark.parametrize("header", ["prompt", "sample_id,prompt", "eval_name,prompt"])
@pytest.mark.parametrize(
    "cost", ["cost_small", "small_cost", "small|cost", "small (USD)", "tokens small", "latency.small"]
)
def test_a_cost_column_is_no_model_of_another_format(folder, capsys, importer, header, cost):
    extra = "x," if "," in header else ""
    (folder / "t.csv").write_text(f"{header},small,{cost}\n{extra}p,1,0.2\n{extra}q,0,1\n")
    assert run(["import", importer, "t.csv", "-o", "t.parquet"]) == 2
    err = capsys.readouterr().err
    assert "import table" in err or "is unknown (did you mean '|total_cost'?)" in err
    assert not (folder / "t.parquet").exists()


@pytest.mark.parametrize("importer", ["routellm", "routerbench"])
def test_a_wide_table_of_ones_own_is_refused_by_other_formats(folder, capsys, importer):
    (folder / "wide.csv").write_text(WIDE)
    assert run(["import", importer, "wide.csv", "-o", "t.parquet"]) == 2
    assert "messctl import table" in capsys.readouterr().err


@pytest.mark.parametrize("importer", ["routellm", "routerbench"])
def test_a_column_outside_of_0_to_1_names_itself(folder, capsys, importer):
    (folder / "t.csv").write_text(
        "sample_id,prompt,small,large\n1,p,1,0\n2,q,1,85\n".replace(
            "sample_id,", "" if importer == "routellm" else "sample_id,"
        )
        .replace("1,p", "p" if importer == "routellm" else "1,p")
        .replace("2,q", "q" if importer == "routellm" else "2,q")
    )
    assert run(["import", importer, "t.csv", "-o", "t.parquet"]) == 2
    assert "row 2, column 'large': is 85, but satisfaction must be in 0..1" in capsys.readouterr().err


NO_PROPOSAL = [
    ("prompt,cost_small,cost_large\nhi,0.1,0.9\nho,0.2,0.8\n", "cannot tell which columns have scores"),
    ("id,prompt,score_a,score_b\n1,hi,-1,1\n2,ho,0,1\n", "column 'score_a': is '-1'"),
    ("id,prompt,score_a,score_b\n1,hi,1200,1100\n", "column 'score_a': is '1200'"),
    ("question_id,model_a,model_b,winner\n1,x,y,model_a\n2,x,y,tie\n", "no column has scores"),
    ('id,prompt,score_a,score_b,cost_a,cost_b\n1,hi,1,1,"1,234",900\n', "t.csv: '1,234' in 'cost_a' has two readings"),
    ("id,prompt,score_a\n", "t.csv: has no rows"),
    ("id,prompt,score_a,score_a\n1,hi,1,0\n", "column 'score_a': appears twice"),
    ("id,prompt,model,grade\n1,hi,a,A\n1,hi,b,B\n", "no column has scores"),
]


@pytest.mark.parametrize(("text", "part"), NO_PROPOSAL)
def test_what_no_command_would_read_right_gets_no_proposal(folder, capsys, text, part):
    (folder / "t.csv").write_text(text)
    assert run(["import", "table", "t.csv", "-o", "t.parquet"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert part in err


def test_a_list_of_results_in_one_object_is_a_long_table(folder, capsys):
    import json

    results = [
        {"prompt": prompt, "provider": provider, "success": provider == "big" or prompt == "hi", "cost": 0.5}
        for prompt in ("hi", "ho")
        for provider in ("big", "small")
    ]
    (folder / "out.json").write_text(json.dumps({"version": 3, "results": results}))
    assert run(["import", "table", "out.json", "-o", "t.parquet"]) == 2
    assert run(shlex.split(capsys.readouterr().out)[1:]) == 0
    assert [row["small"][0] for row in table_of(folder / "t.parquet").values()] == [1, 0]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("id,prompt,error_gpt,error_tiny\n1,x,0,1\n2,y,1,0\n", "'error_gpt' seems to be better if it is low"),
        ("prompt,rank_gpt,rank_tiny\nx,1,2\ny,2,1\n", "--scale 1:0"),
        ("prompt,gpt_failed,tiny_failed\nx,yes,no\ny,no,no\n", "'gpt_failed' seems to be better if it is low"),
        ("id,prompt,score_a,score_b\n1,x,1,0\n2,y,0,1\nTotal,,0.5,0.5\n", "row 3: is named 'Total'"),
        ("prompt,score_a,score_b\nx,1,0\nAverage:,0.5,0.5\n", "row 2: is named 'Average:'"),
        ("Report of May\n\nno,prompt,score_a,score_b\n1,x,1,0\n", "--skip"),
    ],
)
def test_what_is_no_score_and_no_request_is_not_proposed(folder, capsys, text, part):
    (folder / "t.csv").write_text(text)
    assert run(["import", "table", "t.csv", "-o", "t.parquet"]) == 2
    out, err = capsys.readouterr()
    assert part in err + out
    if "score" not in text:
        assert out == ""


@pytest.mark.parametrize(
    ("lines", "part"),
    [
        ("-1", "--skip is 0 to 1,000,000"),
        ("9223372036854775807", "--skip is 0 to 1,000,000"),
        ("100000000000000000000", "--skip is 0 to 1,000,000"),
        ("1000000", "t.csv"),
        ("1", "t.csv"),
    ],
)
@pytest.mark.parametrize("delimiter", [(), ("--delimiter", ",")])
def test_lines_to_skip_that_a_file_does_not_have_are_one_error_and_no_work(folder, capsys, lines, part, delimiter):
    (folder / "t.csv").write_text("prompt,a,b\n")
    assert run(["import", "table", "t.csv", "--skip", lines, *delimiter, "--wide", "{model}", "-o", "o.parquet"]) == 2
    assert part in assert_one_line(2, *capsys.readouterr())
    assert not (folder / "o.parquet").exists()


@pytest.mark.parametrize("delimiter", ["..", "comma", "\n", "\r", '"', "\0", "9" * 5000])
def test_a_delimiter_that_is_none_is_one_line(folder, capsys, delimiter):
    (folder / "t.csv").write_text("prompt,a,b\nx,1,0\n")
    assert run(["import", "table", "t.csv", "--delimiter", delimiter, "--wide", "{model}", "-o", "o.parquet"]) == 2
    assert "must be one character" in assert_one_line(2, *capsys.readouterr())


@pytest.mark.parametrize("cells", [("0", "1"), ("no", "yes"), ("false", "true")])
def test_a_low_score_is_good_if_the_scale_says_so(folder, cells):
    good, bad = cells
    (folder / "t.csv").write_text(f"prompt,error_a,error_b\nx,{good},{bad}\ny,{bad},{bad}\n")
    assert run(["import", "table", "t.csv", "--wide", "error_{model}", "--scale", "1:0", "-o", "t.parquet"]) == 0
    rows = pq.read_table("t.parquet").to_pylist()
    assert [(row["satisfied/a"], row["satisfied/b"]) for row in rows] == [(1.0, 0.0), (0.0, 0.0)]


def test_a_word_that_says_good_does_not_fit_a_scale_on_which_low_is_good(folder, capsys):
    (folder / "t.csv").write_text("prompt,a,b\nx,pass,fail\n")
    assert run(["import", "table", "t.csv", "--wide", "a", "--wide", "b", "--scale", "1:0", "-o", "t.parquet"]) == 2
    assert "low scores are good" in capsys.readouterr().err


def test_columns_of_several_levels_are_named_by_their_words(folder, capsys):
    pq.write_table(pa.table({"id": ["1"], "('gpt', 'score')": [1.0], "('tiny', 'score')": [0.0]}), "t.parquet")
    assert run(["import", "table", "t.parquet", "-o", "o.parquet"]) == 2
    assert "--wide '{model} score'" in capsys.readouterr().out


def test_decimals_of_parquet_are_scores_and_a_price_is_no_cost(folder, capsys):
    from decimal import Decimal

    columns = {"prompt": ["x"], "a_score": [Decimal("0.5")], "b_score": [Decimal("1.0")]}
    pq.write_table(pa.table({**columns, "a_cost_per_1k": [0.1], "b_cost_per_1k": [0.2]}), "t.parquet")
    assert run(["import", "table", "t.parquet", "-o", "o.parquet"]) == 2
    out = capsys.readouterr().out
    assert "--wide '{model}_score'" in out
    assert "--cost" not in out


def test_columns_that_nothing_reads_are_listed(folder, capsys):
    (folder / "t.csv").write_text("prompt,score_a,score_b,split,note\nx,1,0,test,-\n")
    words = ["import", "table", "t.csv", "--wide", "score_{model}", "-o", "t.parquet"]
    assert run(words) == 0
    assert "left out, since nothing reads them: columns split, note\n" in capsys.readouterr().out
    assert run([*words, "--ignore", "note"]) == 0
    assert "columns split\n" in capsys.readouterr().out
    (folder / "t.csv").write_text("prompt,model,score,split\nx,a,1,test\n")
    words = ["--long", "--model-column", "model", "--satisfied", "score", "-o", "t.parquet", "--json"]
    assert run(["import", "table", "t.csv", *words]) == 0
    assert '"columns_left_out": [\n    "split"\n  ]' in capsys.readouterr().out
