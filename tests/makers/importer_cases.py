"""The cases of the conformance suite: one small source per format, and the table that it must become."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from messctl.importers import Columns, ImportOptions, ImportSummary, convert, get_format
from messctl.trace import TraceFile

TABLE = Columns(wide=("score of {model}",), cost="cost of {model}", answer="answer of {model}", prompt="question")
Table = dict[str, dict[str, tuple[float | None, float | None]]]


@dataclass(frozen=True)
class Case:
    """`write(folder, models)` writes the source with its models in that order, and returns the paths to import."""

    models: tuple[str, ...]
    write: Callable[[Path, Sequence[str]], list[Path]]
    expected: Table
    prompts: Mapping[str, str]
    unit: str | None
    bad_values: tuple[tuple[str, str, str], ...]  # (text to replace, its replacement, part of the message)


def imported(name: str, sources: list[Path], output: Path, /, **choices: Any) -> ImportSummary:
    """Import in the same way as the command line."""
    known = ("allow_pickle", "metric", "filter", "name", "columns")
    stated = {"columns": TABLE} if name == "table" else {}
    options = ImportOptions(**stated | {key: choices.pop(key) for key in known if key in choices})
    return convert(get_format(name), sources, output, options=options, **choices)


def table_of(path: Path) -> Table:
    """Return request_id → model → (satisfied, cost), nulls as None."""
    read = pq.read_table(path).to_pylist()
    models = TraceFile(path).models
    return {row["request_id"]: {m: (row[f"satisfied/{m}"], row.get(f"cost/{m}")) for m in models} for row in read}


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_json(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def write_jsonl(path: Path, records: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def table(folder: Path, models: Sequence[str]) -> list[Path]:
    scores = {"lab/big": ["1.0", "0.25"], "small": ["", "no"]}
    costs = {"lab/big": ["0.02", "0.03"], "small": ["0.001", "0.002"]}
    rows: list[dict[str, Any]] = [{"id": f"q{row}", "question": f"three\nlines, {row}"} for row in range(2)]
    for row, record in enumerate(rows):
        for model in models:
            record[f"score of {model}"] = scores[model][row]
            record[f"cost of {model}"] = costs[model][row]
            record[f"answer of {model}"] = "because"
    return [write_csv(folder / "own.csv", rows)]


def routerbench(folder: Path, models: Sequence[str]) -> list[Path]:
    scores = {"lab/big|one": ["1.0", "0.25"], "small": ["", "0.0"]}
    costs = {"lab/big|one": "0.02", "small": "0.001"}
    rows = [
        {
            "": str(index),
            "sample_id": name,
            "prompt": prompt,
            "eval_name": "arc",
            **{model: scores[model][index] for model in models},
            **{f"{model}|model_response": "['B']" for model in models},
            **{f"{model}|total_cost": costs[model] for model in models},
            "oracle_model_to_route_to": models[0],
        }
        for index, (name, prompt) in enumerate([("arc.1", "['Rub, \"why\"?\\nA) x', 'And?']"), ("arc.2", "[1]")])
    ]
    return [write_csv(folder / "arc.csv", rows)]


def routellm(folder: Path, models: Sequence[str]) -> list[Path]:
    right = {"gpt-4": ["True", "True"], "mix/tral": ["False", ""]}
    rows = [
        {
            "prompt": prompt,
            **{model: right[model][index] for model in models},
            **{f"{model}_response": "A" for model in models},
        }
        for index, prompt in enumerate(["one,\ntwo", "três"])
    ]
    write_csv(folder / "mmlu" / "b.csv", rows[1:])
    return [write_csv(folder / "mmlu" / "a.csv", rows[:1]).parent]


def paretobandit(folder: Path, models: Sequence[str]) -> list[Path]:
    arms = {
        "meta/llama": {"reward": 0.4, "cost": 3.7e-05, "near_best": False},
        "g-pro": {"reward": 1, "cost": 0.03},
    }
    records: list[dict[str, Any]] = [
        {"prompt": "copy a list", "source": "mbpp", "arms": {model: arms[model] for model in models}},
        {"id": 7, "prompt": "second", "arms": {"g-pro": {"reward": 0.5, "cost": None}, "meta/llama": None}},
    ]
    return [write_jsonl(folder / "val.jsonl", records)]


def routerdc(folder: Path, models: Sequence[str]) -> list[Path]:
    scores = {"a/7b": 0.5576, "b-7b": 0}
    records = [
        {"question": "Question: why?", "scores": {model: scores[model] for model in models}, "cluster_id": 0},
        {"question": "Question: when?", "scores": {"b-7b": 1}},
    ]
    return [write_json(folder / "arc.json", records)]


def messplus(folder: Path, models: Sequence[str]) -> list[Path]:
    rows: list[dict[str, Any]] = [
        {"doc_id": 3, "input_text": "hot?", "benchmark_name": "arc"},
        {"doc_id": 4, "input_text": "cold?", "benchmark_name": "arc"},
    ]
    for model in models:
        for row, satisfied in zip(rows, (1, 0) if model == "large" else (0, ""), strict=True):
            row[("label_" if model == "large" else "acc_norm_") + model] = satisfied
            row[f"energy_consumption_{model}"] = 20.5 if model == "large" else 2
            row[f"inference_time_{model}"] = 0.5
    return [write_csv(folder / "sim.csv", rows)]


def lm_eval(folder: Path, models: Sequence[str]) -> list[Path]:
    """Write the files of version 0.4.13 for two tasks, two models and two dates."""
    for model in models:
        strong = model == "lab/strong"
        out = folder / "out" / model.replace("/", "__")
        for date, right in (
            ("2025-01-01T10-00-00.000001", 0.0),
            ("2025-03-01T10-00-00.000001", float(strong)),
        ):
            write_json(
                out / f"results_{date}.json",
                {"model_name": model, "config": {"model": "vllm"}, "results": {}},
            )
            # As in real tasks, a document is repeated. Its hash alone is not unique.
            lines = [_choice(number, right if number else 0.0) for number in range(2)]
            write_jsonl(out / f"samples_mini_mc_{date}.jsonl", lines)
        lines = [_generated(name, float(strong and name == "flexible")) for name in ("flexible", "strict")]
        write_jsonl(out / "samples_gen_2025-01-01T10-00-00.000001.jsonl", lines)
    return [folder / "out"]


def _choice(number: int, right: float) -> dict[str, Any]:
    return {
        "doc_id": number,
        "doc": {"q": "Sky?"},
        "target": "0",
        "arguments": {"gen_args_0": {"arg_0": "Q: Sky?\nA:", "arg_1": " blue"}, "gen_args_1": {"arg_0": "…"}},
        "resps": [[["-0.7", "False"]], [["-0.5", "False"]]],
        "filtered_resps": [["-0.7", "False"], ["-0.5", "False"]],
        "filter": "none",
        "metrics": ["acc", "acc_norm"],
        "doc_hash": "b8e7",
        "prompt_hash": "ffaf",
        "target_hash": "5fec",
        "acc": right,
        "acc_norm": 1.0,
    }


def _generated(name: str, right: float) -> dict[str, Any]:
    return {
        "doc_id": 0,
        "doc": {"q": "2+2?"},
        "target": "4",
        "arguments": [["Q: 2+2?\nA:", {"until": ["\n"]}]],
        "resps": [["lol"]],
        "filtered_resps": ["lol"],
        "filter": name,
        "metrics": ["exact_match"],
        "doc_hash": "8b19",
        "exact_match": right,
    }


def llmrouterbench(folder: Path, models: Sequence[str]) -> list[Path]:
    bench = folder / "results" / "bench"
    for model in models:
        place = bench / "aime" / "test" / model
        for stamp, score, demo in (
            ("20250101_000000", 0.0, False),
            ("20250601_000000", 1.0, False),
            ("2026", 0, True),
        ):
            records = [
                _record(index, model, score if index or model == "qwen" else None)
                for index in ((0, 1) if not demo else (0,))
            ]
            head = {
                "model_name": model,
                "dataset_name": "aime",
                "split": "test",
                "demo": demo,
                "performance": 0.5,
            }
            write_json(place / f"aime-test-{model}-{stamp}.json", {**head, "records": records})
    return [folder / "results"]


def _record(index: int, model: str, score: float | None) -> dict[str, Any]:
    return {
        "index": index,
        "origin_query": "raw",
        "prompt": f"problem {index}",
        "prompt_tokens": 100,
        "completion_tokens": 900,
        "cost": 0.25 if model == "qwen" else 0.5,
        "score": score,
        "prediction": "42",
        "ground_truth": "42",
    }


CASES: dict[str, Case] = {
    "routerbench": Case(
        models=("lab/big|one", "small"),
        write=routerbench,
        expected={
            "arc.1": {"lab/big|one": (1.0, 0.02), "small": (None, 0.001)},
            "arc.2": {"lab/big|one": (0.25, 0.02), "small": (0.0, 0.001)},
        },
        prompts={"arc.1": 'Rub, "why"?\nA) x\nAnd?', "arc.2": "[1]"},
        unit="USD",
        bad_values=(
            (
                "sample_id,prompt",
                "sample_id,promt",
                "'prompt' is missing (did you mean 'promt'?); rename it to 'prompt'",
            ),
            ("small|total_cost", "small|total_cots", "did you mean '|total_cost'?"),
            ("0.25", "1.25", "row 2, column 'lab/big|one': is 1.25"),
            ("0.001", "-1", "row 1, column 'small|total_cost': is -1"),
            ("0.001", "nan", "column 'small|total_cost': is nan"),
            ("0.02", "inf", "column 'lab/big|one|total_cost': is inf"),
            ("0.25", "good", "is the text 'good', but must be a number; correct it"),
            (",['B'],", ",", "cells, but the header has"),
            ("sample_id", "prompt", "column 'prompt': appears twice"),
        ),
    ),
    "routellm": Case(
        models=("gpt-4", "mix/tral"),
        write=routellm,
        expected={
            "a/1": {"gpt-4": (1.0, None), "mix/tral": (0.0, None)},
            "b/1": {"gpt-4": (1.0, None), "mix/tral": (None, None)},
        },
        prompts={"a/1": "one,\ntwo", "b/1": "três"},
        unit=None,
        bad_values=(
            ("prompt", "Prompt", "'prompt' is missing (did you mean 'Prompt'?)"),
            ("True", "maybe", "row 1, column 'gpt-4': is the text 'maybe'"),
            ("True", "7", "but satisfaction must be in 0..1"),
        ),
    ),
    "paretobandit": Case(
        models=("meta/llama", "g-pro"),
        write=paretobandit,
        expected={
            "val/1": {"meta/llama": (0.4, 3.7e-05), "g-pro": (1.0, 0.03)},
            "val/7": {"meta/llama": (None, None), "g-pro": (0.5, None)},
        },
        prompts={"val/1": "copy a list", "val/7": "second"},
        unit="USD",
        bad_values=(
            (
                '"prompt": "second"',
                '"promt": "second"',
                "line 2: 'prompt' is missing (did you mean 'promt'?)",
            ),
            ('"reward"', '"rewards"', "'reward' is missing (did you mean 'rewards'?)"),
            ('"cost"', '"costs"', "'cost' is missing (did you mean 'costs'?)"),
            ("3.7e-05", "NaN", "line 1, column 'arms/meta/llama/cost': is nan"),
            ("0.03", "1e999", "column 'arms/g-pro/cost': is inf"),
            ("0.4", "-0.4", "column 'arms/meta/llama/reward': is -0.4"),
            ("0.4", "[]", "is a list, but must be a number"),
            ('"second"', "2", "line 2, column 'prompt': is a number, but must be text"),
            ('"arms"', '"arm"', "'arms' is missing"),
            ('{"prompt"', '["prompt"', "line 1: is not JSON"),
        ),
    ),
    "routerdc": Case(
        models=("a/7b", "b-7b"),
        write=routerdc,
        expected={
            "arc/1": {"a/7b": (0.5576, None), "b-7b": (0.0, None)},
            "arc/2": {"a/7b": (None, None), "b-7b": (1.0, None)},
        },
        prompts={"arc/1": "Question: why?", "arc/2": "Question: when?"},
        unit=None,
        bad_values=(
            ("0.5576", "NaN", "record 1, column 'scores/a/7b': is nan"),
            ('"question"', '"questoin"', "did you mean 'questoin'?"),
            ('"b-7b": 1', '"b-7b": 3', "record 2, column 'scores/b-7b': is 3"),
            ("[{", "{", "is not JSON"),
            ('{"b-7b": 1}', "4", "record 2, column 'scores': is a number, but must be an object"),
        ),
    ),
    "messplus": Case(
        models=("large", "small"),
        write=messplus,
        expected={
            "arc/3": {"large": (1.0, 20.5), "small": (0.0, 2.0)},
            "arc/4": {"large": (0.0, 20.5), "small": (None, 2.0)},
        },
        prompts={"arc/3": "hot?", "arc/4": "cold?"},
        unit="J",
        bad_values=(
            ("input_text", "inputtext", "'input_text' is missing (did you mean 'inputtext'?)"),
            (
                "energy_consumption_large",
                "energy_consumption_lrge",
                "did you mean 'energy_consumption_large'?",
            ),
            ("20.5", "-20.5", "row 1, column 'energy_consumption_large': is -20.5"),
            ("0.5", "soon", "is the text"),
        ),
    ),
    "lm-eval": Case(
        models=("lab/strong", "weak"),
        write=lm_eval,
        expected={
            "gen/0": {"lab/strong": (1.0, None), "weak": (0.0, None)},
            "mini_mc/0": {"lab/strong": (0.0, None), "weak": (0.0, None)},
            "mini_mc/1": {"lab/strong": (1.0, None), "weak": (0.0, None)},
        },
        prompts={"gen/0": "Q: 2+2?\nA:", "mini_mc/0": "Q: Sky?\nA:", "mini_mc/1": "Q: Sky?\nA:"},
        unit=None,
        bad_values=(
            ('"acc": 0.0', '"acc": 12.5', "line 1, column 'acc': is 12.5"),
            ('"acc": 0.0', '"acc": NaN', "column 'acc': is nan"),
            ('"doc_id"', '"docid"', "'doc_id' is missing (did you mean 'docid'?)"),
            ('"exact_match": ', '"exact": ', "no metric of this line is a number"),
        ),
    ),
    "llmrouterbench": Case(
        models=("qwen", "gpt"),
        write=llmrouterbench,
        expected={
            "aime/test/0": {"qwen": (1.0, 0.25), "gpt": (None, 0.5)},
            "aime/test/1": {"qwen": (1.0, 0.25), "gpt": (1.0, 0.5)},
        },
        prompts={"aime/test/0": "problem 0", "aime/test/1": "problem 1"},
        unit="USD",
        bad_values=(
            ('"score": 1.0', '"score": 2', "column 'score': is 2"),
            ('"cost": 0.25', '"cost": -1', "record 1, column 'cost': is -1"),
            ('"records"', '"record"', "'records' is missing (did you mean 'record'?)"),
            ('"model_name": "qwen"', '"model_name": 3', "column 'model_name'"),
            ('"prompt_tokens": 100', '"prompt_tokens": 1.5', "column 'prompt_tokens': is 1.5"),
            ('"index": 1', '"index": 0', "column 'index': index 0 appears twice"),
        ),
    ),
    "table": Case(
        models=("lab/big", "small"),
        write=table,
        expected={
            "q0": {"lab/big": (1.0, 0.02), "small": (None, 0.001)},
            "q1": {"lab/big": (0.25, 0.03), "small": (0.0, 0.002)},
        },
        prompts={"q0": "three\nlines, 0", "q1": "three\nlines, 1"},
        unit="unit",
        bad_values=(
            ("0.25", "25", "row 2, column 'score of lab/big': is '25', but satisfaction must be in 0..1"),
            ("0.25", "B+", "row 2, column 'score of lab/big': is the text 'B+'"),
            ("0.02", "-1", "row 1, column 'cost of lab/big': is -1"),
            ("0.02", "1e999", "column 'cost of lab/big': is the text '1e999', but must be a number"),
            ("q1", "", "row 2, column 'id': is empty"),
            ("question", "prompt of it", "'question' is missing"),
            ("cost of small", "cost of smal", "'cost of small' is missing (did you mean 'cost of smal'?)"),
            ("0.02,because", "0.02", "cells, but the header has"),
        ),
    ),
}
