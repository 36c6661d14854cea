"""Tables as people have them: exports of leaderboards, spreadsheets, judges and evaluation runs, each made after one.

Each names its files and their contents, and the trace that they must become: id → model → (satisfied, cost).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Cells = dict[str, tuple[float | None, float | None]]


@dataclass(frozen=True)
class Foreign:
    """A table, the words that a person writes for it, and what comes of it.

    words: the options; the proposal must give the same trace, unless `proposed` is a part of the refusal instead.
    refused: a part of the error, for a table that no option can make a trace of.
    """

    files: dict[str, str | bytes]
    words: tuple[str, ...] = ()
    expected: dict[str, Cells] = field(default_factory=dict)
    unit: str | None = None
    prompts: dict[str, str] = field(default_factory=dict)
    proposed: str = ""
    refused: str = ""
    answers: dict[str, dict[str, str | None]] = field(default_factory=dict)
    tokens: dict[str, dict[str, tuple[int | None, int | None]]] = field(default_factory=dict)

    def write(self, folder: Path) -> list[Path]:
        for name, content in self.files.items():
            data = content if isinstance(content, bytes) else content.encode()
            (folder / name).write_bytes(data)
        return [folder / name for name in self.files]


def lines(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


WIDE = "prompt,score_small,cost_small,score_large,cost_large\nWhat is 2+2?,1,0.001,1,0.02\nProve it.,0,0.002,1,0.03\n"
WIDE_TRACE: dict[str, Cells] = {
    "wide/1": {"small": (1, 0.001), "large": (1, 0.02)},
    "wide/2": {"small": (0, 0.002), "large": (1, 0.03)},
}

FOREIGN: dict[str, Foreign] = {
    "a wide table of scores and costs": Foreign(
        files={"wide.csv": WIDE},
        words=("--wide", "score_{model}", "--cost", "cost_{model}", "--unit", "USD"),
        expected=WIDE_TRACE,
        unit="USD",
        prompts={"wide/1": "What is 2+2?", "wide/2": "Prove it."},
    ),
    "a leaderboard of 0 to 100 with a row per task": Foreign(
        files={
            "board.tsv": "Task ID\tQuestion\tGPT-4o\tLlama-3.1-8B\tMistral 7B\n"
            "t1\tname the capital\t100\t87.5\t40\nt2\tsum it up\t55\t\t12.5\n"
        },
        words=(
            "--id",
            "Task ID",
            "--prompt",
            "Question",
            "--wide",
            "GPT-4o",
            "--wide",
            "Llama-3.1-8B",
            "--wide",
            "Mistral 7B",
            "--scale",
            "0:100",
        ),
        expected={
            "t1": {"GPT-4o": (1, None), "Llama-3.1-8B": (0.875, None), "Mistral 7B": (0.4, None)},
            "t2": {"GPT-4o": (0.55, None), "Llama-3.1-8B": (None, None), "Mistral 7B": (0.125, None)},
        },
        prompts={"t1": "name the capital", "t2": "sum it up"},
    ),
    "a spreadsheet with decimal commas, per cent, thousands and a mark at its head": Foreign(
        files={
            "blatt.csv": "\ufeffNo.;Prompt;Score klein;Score groß;Cost klein;Cost groß\n"
            "1;eins;85%;100%;0,5;1.234,5\n2;zwei;7,5%;99%;0,25;2.000,0\n"
        },
        words=(
            "--id",
            "No.",
            "--prompt",
            "Prompt",
            "--wide",
            "Score {model}",
            "--cost",
            "Cost {model}",
            "--decimal",
            ",",
            "--unit",
            "Cent",
        ),
        expected={
            "1": {"klein": (0.85, 0.5), "groß": (1, 1234.5)},
            "2": {"klein": (0.075, 0.25), "groß": (0.99, 2000.0)},
        },
        unit="Cent",
        prompts={"1": "eins", "2": "zwei"},
    ),
    "a spreadsheet with a title, merged headers, thousands separators and dollars": Foreign(
        files={
            "sheet.csv": "\ufeffid,prompt,gpt-4,,llama,\n,,score,cost,score,cost\n"
            'q1,hi,0.9,"$1,234.50",0.5,$0.02\nq2,ho,1,$2.00,0,$0.01\n,,,,,\n'
        },
        words=(
            "--header-rows",
            "2",
            "--wide",
            "{model} score",
            "--cost",
            "{model} cost",
            "--decimal",
            ".",
            "--unit",
            "USD",
            "--id",
            "id",
            "--prompt",
            "prompt",
        ),
        expected={
            "q1": {"gpt-4": (0.9, 1234.5), "llama": (0.5, 0.02)},
            "q2": {"gpt-4": (1, 2.0), "llama": (0, 0.01)},
        },
        unit="USD",
        prompts={"q1": "hi", "q2": "ho"},
    ),
    "a judge's JSON lines, from 1 to 10": Foreign(
        files={
            "judge.jsonl": lines(
                {"question_id": 81, "model": "vicuna", "rating": 7, "answer": "a blog", "question": "Write."},
                {"question_id": 81, "model": "gpt-4", "rating": 10.0, "answer": "a better blog", "question": "Write."},
                {"question_id": 82, "model": "vicuna", "rating": 1, "answer": None, "question": "Draft."},
                {"question_id": 82, "model": "gpt-4", "rating": None, "answer": "mail", "question": "Draft."},
            )
        },
        words=(
            "--long",
            "--model-column",
            "model",
            "--satisfied",
            "rating",
            "--scale",
            "1:10",
            "--id",
            "question_id",
            "--prompt",
            "question",
            "--answer",
            "answer",
        ),
        expected={
            "81": {"vicuna": (6 / 9, None), "gpt-4": (1, None)},
            "82": {"vicuna": (0, None), "gpt-4": (None, None)},
        },
        prompts={"81": "Write.", "82": "Draft."},
        answers={"81": {"vicuna": "a blog", "gpt-4": "a better blog"}, "82": {"vicuna": None, "gpt-4": "mail"}},
    ),
    "nested JSON with an object per model": Foreign(
        files={
            "nested.json": json.dumps(
                [
                    {
                        "id": "a",
                        "prompt": [{"role": "user", "content": "hi"}],
                        "models": {
                            "gpt-4.1": {"score": True, "cost": 0.02, "usage": {"input_tokens": 5, "output_tokens": 7}},
                            "llama": {"score": False, "cost": 0.001, "usage": {"input_tokens": 6, "output_tokens": 9}},
                        },
                    },
                    {
                        "id": "b",
                        "prompt": [{"role": "user", "content": "ho"}],
                        "models": {
                            "gpt-4.1": {"score": True, "cost": 0.02, "usage": {"input_tokens": 5, "output_tokens": 7}}
                        },
                    },
                ]
            )
        },
        words=(
            "--wide",
            "models.{model}.score",
            "--cost",
            "models.{model}.cost",
            "--tokens-in",
            "models.{model}.usage.input_tokens",
            "--tokens-out",
            "models.{model}.usage.output_tokens",
        ),
        expected={
            "a": {"gpt-4.1": (1, 0.02), "llama": (0, 0.001)},
            "b": {"gpt-4.1": (1, 0.02), "llama": (None, None)},
        },
        unit="unit",
        prompts={"a": "hi", "b": "ho"},
        tokens={
            "a": {"gpt-4.1": (5, 7), "llama": (6, 9)},
            "b": {"gpt-4.1": (5, 7), "llama": (None, None)},
        },
    ),
    "an evaluation run with its results in a list": Foreign(
        files={
            "run.jsonl": lines(
                {
                    "case": {"id": "c1", "input": "hi"},
                    "results": [
                        {"model": "a", "passed": "pass", "cost_usd": 0.1},
                        {"model": "b", "passed": "fail", "cost_usd": 1},
                    ],
                },
                {
                    "case": {"id": "c2", "input": "ho"},
                    "results": [
                        {"model": "b", "passed": "pass", "cost_usd": 1},
                        {"model": "a", "passed": "pass", "cost_usd": 0.2},
                    ],
                },
            )
        },
        words=(
            "--long",
            "--model-column",
            "results.model",
            "--satisfied",
            "results.passed",
            "--cost",
            "results.cost_usd",
            "--id",
            "case.id",
            "--prompt",
            "case.input",
            "--unit",
            "USD",
        ),
        expected={
            "c1": {"a": (1, 0.1), "b": (0, 1)},
            "c2": {"a": (1, 0.2), "b": (1, 1)},
        },
        unit="USD",
        prompts={"c1": "hi", "c2": "ho"},
    ),
    "a long table with repeated answers": Foreign(
        files={
            "long.csv": "sample_id,prompt,model_name,is_correct,total_cost\n"
            "1,hi,a,TRUE,0.1\n1,hi,b,FALSE,1\n1,hi,a,FALSE,0.3\n2,ho,a,TRUE,0.1\n2,ho,b,TRUE,1\n"
        },
        words=(
            "--model-column",
            "model_name",
            "--satisfied",
            "is_correct",
            "--cost",
            "total_cost",
            "--id",
            "sample_id",
            "--duplicates",
            "mean",
        ),
        expected={"1": {"a": (0.5, 0.2), "b": (0, 1)}, "2": {"a": (1, 0.1), "b": (1, 1)}},
        unit="unit",
        prompts={"1": "hi", "2": "ho"},
    ),
    "missing cells in every notation": Foreign(
        files={"gaps.csv": "id,prompt,acc_x,acc_y,price_x,price_y\n1,p,1,N/A,0.1,\n2,q,,0.5,NaN,0.2\n3,r,-,null,1,1\n"},
        words=("--wide", "acc_{model}", "--cost", "price_{model}"),
        expected={"1": {"x": (1, 0.1), "y": (None, None)}, "2": {"x": (None, None), "y": (0.5, 0.2)}},
        unit="unit",
        prompts={"1": "p", "2": "q"},
    ),
    "a file per model": Foreign(
        files={
            "small.csv": "id,prompt,score\n1,hi,0\n2,ho,1\n",
            "large.csv": "id,prompt,score\n2,ho,1\n1,hi,1\n",
        },
        words=("--long", "--satisfied", "score", "--name", "small.csv=small", "--name", "large.csv=large"),
        expected={"1": {"small": (0, None), "large": (1, None)}, "2": {"small": (1, None), "large": (1, None)}},
        prompts={"1": "hi", "2": "ho"},
    ),
    "a table in words that messctl does not know": Foreign(
        files={"blatt.csv": "Nr;Frage;Güte klein;Güte groß;Kosten klein\n1;eins;0,5;1;3\n2;zwei;1;1;4\n"},
        words=(
            "--id",
            "Nr",
            "--prompt",
            "Frage",
            "--wide",
            "Güte {model}",
            "--cost",
            "Kosten {model}",
            "--decimal",
            ",",
        ),
        expected={"1": {"klein": (0.5, 3), "groß": (1, None)}, "2": {"klein": (1, 4), "groß": (1, None)}},
        unit="unit",
        prompts={"1": "eins", "2": "zwei"},
        proposed="have numbers of different ranges, so not both are scores",
    ),
    "letter grades": Foreign(
        files={"grades.csv": "id,prompt,grade_a,grade_b\n1,hi,A,B+\n2,ho,C,F\n"},
        words=("--wide", "grade_{model}"),
        refused="row 1, column 'grade_a': is the text 'A', but must be a number; turn grades into numbers",
        proposed="cannot tell which columns have scores",
    ),
    "a leaderboard of means": Foreign(
        files={"means.csv": "Model,MMLU score,GSM8K,Price\ngpt-4,86.4,92,30\nllama,68.4,56.8,0.2\n"},
        words=("--long", "--model-column", "Model", "--satisfied", "MMLU score", "--scale", "0:100"),
        refused="nothing tells which request it belongs to",
        proposed="has one row per model",
    ),
}
