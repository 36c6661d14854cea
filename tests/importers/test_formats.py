"""The rules of single formats beyond the conformance suite, and the cleaning of text."""

from __future__ import annotations

import ast
import json
import pickle
import sys
import warnings

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from importer_cases import CASES, imported, table_of, write_csv

from messctl.errors import MessctlError, SourceError, UnknownNameError, UsageError
from messctl.importers.text import encodable, readable_prompt

# --- routerbench -----------------------------------------------------------------------------------


def test_routerbench_parquet_and_csv_give_the_same_trace(tmp_path):
    case = CASES["routerbench"]
    (source,) = case.write(tmp_path, case.models)
    rows = [
        {"sample_id": r, "prompt": case.prompts[r].split("\n"), "eval_name": "arc"}
        | {m: v[0] for m, v in cells.items()}
        | {f"{m}|total_cost": v[1] for m, v in cells.items()}
        for r, cells in case.expected.items()
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "arc.parquet")
    imported("routerbench", [tmp_path / "arc.parquet"], tmp_path / "p.parquet")
    imported("routerbench", [source], tmp_path / "c.parquet")
    assert table_of(tmp_path / "p.parquet") == table_of(tmp_path / "c.parquet")


@pytest.mark.parametrize("content", [b"just text", b"PAR1 cut", b""])
def test_routerbench_file_that_is_not_parquet_is_refused(tmp_path, content):
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(SourceError, match=r"x\.parquet: not a Parquet file, or an incomplete one"):
        imported("routerbench", [tmp_path / "x.parquet"], tmp_path / "t.parquet")


class Trap:
    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


def test_routerbench_pickle_is_refused_without_being_opened(tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UsageError, match="--allow-pickle"):
        imported("routerbench", [tmp_path / "x.pkl"], tmp_path / "t.parquet")


def test_routerbench_pickle_needs_pandas(tmp_path, monkeypatch):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([1]))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MessctlError, match="pip install pandas"):
        imported("routerbench", [tmp_path / "x.pkl"], tmp_path / "t.parquet", allow_pickle=True)


def test_routerbench_without_costs_takes_unknown_columns_as_models(tmp_path):
    rows = [{"sample_id": "1", "prompt": "p", "eval_name": "e", "m/1": "0.5", "m/2": "1"}]
    summary = imported("routerbench", [write_csv(tmp_path / "x.csv", rows)], tmp_path / "t.parquet")
    assert summary.models == ("m/1", "m/2")
    assert summary.models_without_cost == ("m/1", "m/2")


def test_several_sources_are_joined_and_long_cells_are_read(tmp_path):
    long = "x" * 200_000
    one = write_csv(tmp_path / "1.csv", [{"sample_id": "1", "prompt": long, "a": "1", "a|total_cost": "1"}])
    two = write_csv(tmp_path / "2.csv", [{"sample_id": "1", "prompt": "p", "b": "1", "b|total_cost": "1"}])
    summary = imported("routerbench", [one, two], tmp_path / "t.parquet")
    assert (summary.models, summary.rows_with_empty_cells) == (("a", "b"), 2)
    assert len(pq.read_table(tmp_path / "t.parquet")["prompt"][0].as_py()) == 200_000


# --- lm-eval ---------------------------------------------------------------------------------------


@pytest.fixture
def harness(tmp_path):
    return CASES["lm-eval"].write(tmp_path, CASES["lm-eval"].models)


def test_lm_eval_metric_and_filter_can_be_chosen(tmp_path, harness):
    imported("lm-eval", harness, tmp_path / "t.parquet", metric="acc_norm", filter="strict")
    table = table_of(tmp_path / "t.parquet")
    assert table["mini_mc/0"] == {"lab/strong": (1.0, None), "weak": (1.0, None)}
    assert table["gen/0"] == {"lab/strong": (0.0, None), "weak": (0.0, None)}


@pytest.mark.parametrize(("option", "known"), [("metric", "acc_norm"), ("filter", "flexible")])
def test_lm_eval_unknown_metric_or_filter_is_refused(tmp_path, harness, option, known):
    with pytest.raises(UnknownNameError, match=f"unknown {option} '{known}s' .did you mean '{known}'"):
        imported("lm-eval", harness, tmp_path / "t.parquet", **{option: f"{known}s"})


def test_lm_eval_answers_are_read_for_generating_tasks_only(tmp_path, harness):
    imported("lm-eval", harness, tmp_path / "t.parquet")
    answers = {r["request_id"]: r["answer/weak"] for r in pq.read_table(tmp_path / "t.parquet").to_pylist()}
    assert answers == {"gen/0": "lol", "mini_mc/0": None, "mini_mc/1": None}


def test_lm_eval_model_name_is_the_folder_without_a_results_file(tmp_path, harness):
    for results in harness[0].rglob("results_*.json"):
        results.unlink()
    assert imported("lm-eval", harness, tmp_path / "t.parquet").models == ("lab__strong", "weak")


def test_lm_eval_models_with_different_filters_are_refused(tmp_path, harness):
    (file,) = harness[0].glob("weak/samples_gen_*.jsonl")
    file.write_text(file.read_text().replace("flexible", "loose"))
    with pytest.raises(SourceError, match="has no filter 'flexible'"):
        imported("lm-eval", harness, tmp_path / "t.parquet")


CHATS = [
    ('[{"role": "user", "content": "Sky?"}]', "Sky?"),
    ('[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Sky?"}]', "Be brief.\n\nSky?"),
    ('[{"role": "user", "content": ["a picture"]}]', '[{"role": "user", "content": ["a picture"]}]'),
    ('[{"no": "chat"}]', '[{"no": "chat"}]'),
    ("[{", "[{"),
]


@pytest.mark.parametrize(("logged", "prompt"), CHATS)
def test_lm_eval_prompt_of_a_chat_is_its_messages(tmp_path, logged, prompt):
    """The log is that of `local-chat-completions`. The document, which contains the answer, is not the prompt."""
    sample = {
        "doc_id": 0, "doc": {"question": "Sky?", "answer": "blue"}, "doc_hash": "x", "filter": "none",
        "arguments": {"gen_args_0": {"arg_0": [logged], "arg_1": {"until": ["\n"]}}},
        "resps": [["blue"]], "metrics": ["exact_match"], "exact_match": 1.0,
    }  # fmt: skip
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "samples_t_2026-01-01T00-00-00.000000.jsonl").write_text(json.dumps(sample))
    imported("lm-eval", [tmp_path / "m"], tmp_path / "t.parquet")
    assert pq.read_table(tmp_path / "t.parquet")["prompt"].to_pylist() == [prompt]


# --- text ------------------------------------------------------------------------------------------


@given(st.lists(st.text(), min_size=1))
def test_readable_prompt_reverses_repr(parts):
    assert readable_prompt(repr(parts)) == "\n".join(parts)


@given(st.text() | st.text("[]'\",\\x 1a", max_size=30).map(lambda text: f"[{text}]"))
@example("['\\8']")
def test_readable_prompt_does_not_change_other_text(text):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape only causes a warning
            value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        value = None
    if not (isinstance(value, list) and value and all(isinstance(part, str) for part in value)):
        assert readable_prompt(text) == text


@pytest.mark.parametrize("text", ["[]", "[1, 2]", "['a', 1]", "['\\d'", "[" * 100_000 + "]", "['\\", "plain"])
def test_readable_prompt_handles_invalid_python(text):
    assert readable_prompt(text) == text


@given(st.text(st.characters(codec=None)))
def test_encodable_text_is_valid_utf_8(text):
    assert encodable(text).encode("utf-8").decode("utf-8") == encodable(text)
    assert encodable(encodable(text)) == encodable(text)
