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
from importer_cases import CASES, imported, table_of, write_csv, write_jsonl

from messctl.errors import MessctlError, SourceError, UnknownNameError, UsageError
from messctl.importers.text import readable_prompt

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


def harness_run(folder, date, args="pretrained=org/m", task="arc", named="org/m", **metrics):
    """Write a run of the harness into a folder: one document, and a results file unless `named` is None."""
    metrics = metrics or {"acc": 1.0}
    folder.mkdir(parents=True, exist_ok=True)
    stamp = f"2024-06-0{date}T00-00-00.000001"
    if named:
        document = {"model_name": named, "config": {"model_args": args}}
        (folder / f"results_{stamp}.json").write_text(json.dumps(document))
    sample = {"doc_id": 0, "doc": {"q": "q"}, "arguments": [["Question", " a"]], "resps": [[["-1", "True"]]],
              "filter": "none", "metrics": list(metrics), "doc_hash": "h"} | metrics  # fmt: skip
    (folder / f"samples_{task}_{stamp}.jsonl").write_text(json.dumps(sample))
    return folder


QUANTISED = "pretrained=org/m,load_in_4bit=True"


@pytest.mark.parametrize(
    ("runs", "parts"),
    [
        ([("full", {}), ("4bit", {"args": QUANTISED})], ["runs/full", "runs/4bit", "--name", "4bit=NAME", "settings"]),
        ([("full", {}), ("4bit", {"args": QUANTISED, "task": "gsm"})], ["full", "4bit", "settings differ: pretrained"]),
        ([("a", {}), ("b", {})], ["runs/a and ", "runs/b both name their model 'org/m', and both have results of arc"]),
        ([("a/m", {"named": None}), ("b/m", {"named": None})], ["runs/a/m", "runs/b/m", "'m', and both have results"]),
        ([("m", {}), ("m", {"args": QUANTISED})], ["m/results_2024-06-01", "--name", "m/results_2024-06-02T00-00-00"]),
        (
            [("m", {"named": "org/a"}), ("m", {"named": "org/b"}), ("m", {"named": None})],
            ["samples_arc_2024-06-03", "the others name org/b and org/a; name its model with --name"],
        ),
    ],
)
def test_lm_eval_models_of_one_name_are_refused_with_the_way_out(tmp_path, runs, parts):
    for date, (folder, more) in enumerate(runs, 1):
        harness_run(tmp_path / "runs" / folder, date, **more)
    with pytest.raises(SourceError) as caught:
        imported("lm-eval", [tmp_path / "runs"], tmp_path / "t.parquet")
    assert [part for part in parts if part not in str(caught.value)] == []
    assert "\n" not in str(caught.value)


def test_lm_eval_models_of_one_name_are_told_apart_by_the_user(tmp_path):
    full, quantised = harness_run(tmp_path / "full", 1, acc=1.0), harness_run(tmp_path / "4bit", 2, QUANTISED, acc=0.0)
    for place in (str(quantised), "4bit"):
        imported("lm-eval", [full, quantised], tmp_path / "t.parquet", name=((place, "org/m-4bit"),))
        assert table_of(tmp_path / "t.parquet") == {"arc/0": {"org/m": (1.0, None), "org/m-4bit": (0.0, None)}}
    both = ((str(full), "m"), (str(quantised), "m"))
    imported("lm-eval", [full, quantised], tmp_path / "t.parquet", name=both)
    assert table_of(tmp_path / "t.parquet") == {"arc/0": {"m": (0.0, None)}}  # the latest


def test_lm_eval_runs_in_one_folder_are_told_apart_by_their_files(tmp_path):
    folder = harness_run(tmp_path / "m", 1, acc=1.0)
    harness_run(folder, 2, QUANTISED, acc=0.0)
    named = ((str(folder / "results_2024-06-02T00-00-00.000001.json"), "b"), (str(folder), "a"))
    imported("lm-eval", [folder], tmp_path / "t.parquet", name=named)
    assert table_of(tmp_path / "t.parquet") == {"arc/0": {"a": (1.0, None), "b": (0.0, None)}}


def test_lm_eval_a_model_may_have_a_folder_for_each_task_and_repeat_a_run(tmp_path):
    harness_run(tmp_path / "runs" / "arc", 1, acc=0.0)
    harness_run(tmp_path / "runs" / "arc", 2, acc=1.0)
    harness_run(tmp_path / "runs" / "gsm", 3, task="gsm")
    imported("lm-eval", [tmp_path / "runs"], tmp_path / "t.parquet")
    assert table_of(tmp_path / "t.parquet") == {"arc/0": {"org/m": (1.0, None)}, "gsm/0": {"org/m": (1.0, None)}}


def test_a_name_for_a_place_without_results_is_refused(tmp_path):
    folder = harness_run(tmp_path / "m", 1)
    with pytest.raises(UsageError, match="--name elsewhere=a: no file of the sources lies there"):
        imported("lm-eval", [folder], tmp_path / "t.parquet", name=(("elsewhere", "a"),))


@pytest.mark.parametrize(
    ("metrics", "chosen", "message"),
    [
        ({"perplexity": -8.48, "acc": 0.0}, None, "'perplexity': is -8.48, but satisfaction must be in 0..1; choose "
         "another metric: --metric acc"),
        ({"bleu": 34.5, "ter": 80, "acc": 1, "f1": 0.5}, None, "is 34.5, but satisfaction must be in 0..1; choose "
         "another metric: --metric acc or f1"),
        ({"acc": 0.0, "bleu": 34.5}, "bleu", "is 34.5, but satisfaction must be in 0..1; choose another metric: "
         "--metric acc"),
        ({"words": [-3.2, 7], "acc": 0.0}, "words", "is a list, but must be a number; choose another metric: "
         "--metric acc"),
        ({"perplexity": -8.48}, None, "must be in 0..1; leave arc out"),
        ({"words": [-3.2, 7]}, None, "no metric of this line is a number in 0..1; leave arc out"),
    ],
)  # fmt: skip
def test_lm_eval_a_metric_that_is_no_satisfaction_is_refused_with_the_way_out(tmp_path, metrics, chosen, message):
    folder = harness_run(tmp_path / "m", 1, **metrics)
    with pytest.raises(SourceError) as caught:
        imported("lm-eval", [folder], tmp_path / "t.parquet", metric=chosen)
    assert message in str(caught.value)


def test_lm_eval_models_of_a_task_are_read_by_one_metric(tmp_path):
    harness_run(tmp_path / "a", 1, named="a", acc=1.0, acc_norm=0.0)
    harness_run(tmp_path / "b", 1, named="b", acc_norm=0.0, acc=1.0)
    imported("lm-eval", [tmp_path / "a", tmp_path / "b"], tmp_path / "t.parquet")
    assert table_of(tmp_path / "t.parquet") == {"arc/0": {"a": (1.0, None), "b": (1.0, None)}}
    harness_run(tmp_path / "b", 1, named="b", acc_norm=0.0)
    for wanted in (None, "acc"):
        with pytest.raises(
            SourceError, match="has no metric 'acc', as other models .* that all have: --metric acc_norm"
        ):
            imported("lm-eval", [tmp_path / "a", tmp_path / "b"], tmp_path / "t.parquet", metric=wanted)
    imported("lm-eval", [tmp_path / "a", tmp_path / "b"], tmp_path / "t.parquet", metric="acc_norm")
    assert table_of(tmp_path / "t.parquet") == {"arc/0": {"a": (0.0, None), "b": (0.0, None)}}
    harness_run(tmp_path / "b", 1, named="b", f1=0.5)
    with pytest.raises(SourceError, match="but f1; import it apart"):
        imported("lm-eval", [tmp_path / "a", tmp_path / "b"], tmp_path / "t.parquet")


# --- llmrouterbench --------------------------------------------------------------------------------


def test_llmrouterbench_folders_that_name_one_model_are_refused_until_the_user_names_them(tmp_path):
    (folder,) = CASES["llmrouterbench"].write(tmp_path, ("qwen", "gpt"))
    for file in folder.rglob("gpt/*.json"):
        file.write_text(file.read_text().replace('"model_name": "gpt"', '"model_name": "qwen"'))
    with pytest.raises(SourceError, match="test/gpt and .*test/qwen both name their model 'qwen'.*--name .*qwen=NAME"):
        imported("llmrouterbench", [folder], tmp_path / "t.parquet")
    assert imported("llmrouterbench", [folder], tmp_path / "t.parquet", name=(("gpt", "g"),)).models == ("g", "qwen")


# --- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [True, "True"])
def test_a_truth_value_is_a_satisfaction_and_no_cost(tmp_path, value):
    records = [{"prompt": "p", "arms": {"a": {"reward": value, "cost": 1.0}}}]
    imported("paretobandit", [write_jsonl(tmp_path / "s.jsonl", records)], tmp_path / "t.parquet")
    assert table_of(tmp_path / "t.parquet") == {"s/1": {"a": (1.0, 1.0)}}
    records[0]["arms"]["a"]["cost"] = value
    with pytest.raises(SourceError, match="line 1, column 'arms/a/cost': is .*but must be a number"):
        imported("paretobandit", [write_jsonl(tmp_path / "s.jsonl", records)], tmp_path / "t.parquet")


def test_a_prompt_that_looks_like_a_list_stays_as_it_is_but_in_routerbench(tmp_path):
    listed = "['a', 'b']"
    write_jsonl(tmp_path / "s.jsonl", [{"prompt": listed, "arms": {"a": {"reward": 1, "cost": 1}}}])
    imported("paretobandit", [tmp_path / "s.jsonl"], tmp_path / "t.parquet")
    assert pq.read_table(tmp_path / "t.parquet")["prompt"].to_pylist() == [listed]


def test_routerbench_models_with_answers_and_no_costs_are_read(tmp_path):
    row = {"sample_id": "1", "prompt": "p", "a": "1", "a|total_cost": "2", "b": "0", "b|model_response": "x"}
    imported("routerbench", [write_csv(tmp_path / "x.csv", [row])], tmp_path / "t.parquet")
    assert table_of(tmp_path / "t.parquet") == {"1": {"a": (1.0, 2.0), "b": (0.0, None)}}


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
