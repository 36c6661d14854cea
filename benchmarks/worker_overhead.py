"""What a process per model adds to its answers: python benchmarks/worker_overhead.py [MODEL.gguf …]

In every round the same loaded model answers the same prompts twice: in this process, and in a worker's. The order
changes every round. Prints milliseconds per answer, their ratio within a round and the difference, as medians over the
rounds with least and largest values; and, once, the time to start a worker beyond loading the model here. Answers are
streamed: short ones, as models give them to puzzles, and long ones, of tokens drawn at random.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from messctl.backends import LlamaCpp
from messctl.records import Question
from messctl.zoo import PACKAGED_FILE, ModelSpec

ROOT = Path(__file__).resolve().parents[1]
BOX = [PACKAGED_FILE.parent / name for name in ("pico-34k.gguf", "mini-1m.gguf")]


def main() -> None:
    """Measure and print."""
    sys.path.append(str(ROOT))
    from training.puzzles import held_out  # noqa: PLC0415  # it is no part of the installed package

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", type=Path, default=BOX)
    parser.add_argument("--answers", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    questions = [Question(puzzle.prompt, seed=n) for n, puzzle in enumerate(held_out(arguments.answers, 31))]
    table = Table("model", "tokens/answer", "here, ms", "worker, ms", "ratio", "added, ms/answer", "start, s")
    for path in arguments.models:
        short = ModelSpec(path.stem, path, n_ctx=0, max_tokens=200, temperature=0.0)
        long = replace(short, temperature=1e3, top_k=0, top_p=1.0, min_p=0.0)
        with LlamaCpp() as backend:
            loads = [backend.complete(each, questions[0], _drop).load_s for each in _here_and_apart(short)]
            for model in (short, long):
                rounds = [_round(backend, model, questions, number) for number in range(arguments.rounds)]
                here_ms, worker_ms = ([1e3 * each[way] / len(questions) for each in rounds] for way in (0, 1))
                table.add_row(
                    model.name,
                    f"{rounds[0][2] / len(questions):.1f}",
                    f"{statistics.median(here_ms):.2f}",
                    f"{statistics.median(worker_ms):.2f}",
                    _spread([theirs / mine for mine, theirs in zip(here_ms, worker_ms, strict=True)]),
                    _spread([theirs - mine for mine, theirs in zip(here_ms, worker_ms, strict=True)]),
                    f"{loads[1] - loads[0]:.2f}" if model is short else "",
                )
    console = Console(width=120)
    console.print(table)
    console.print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {platform.python_version()}"
    )


def _here_and_apart(model: ModelSpec) -> tuple[ModelSpec, ModelSpec]:
    return replace(model, isolate=False), replace(model, isolate=True)


def _round(backend: LlamaCpp, model: ModelSpec, questions: list[Question], number: int) -> tuple[float, float, int]:
    """Return the seconds here, those of the worker, and the tokens, which must be the same."""
    seconds: dict[int, float] = {}
    tokens: dict[int, int] = {}
    for way in (0, 1) if number % 2 else (1, 0):
        spec = _here_and_apart(model)[way]
        started = time.perf_counter()
        done = [backend.complete(spec, question, _drop) for question in questions]
        seconds[way] = time.perf_counter() - started
        tokens[way] = sum(each.tokens_out for each in done)
    assert tokens[0] == tokens[1]
    return seconds[0], seconds[1], tokens[0]


def _drop(_text: str) -> None:
    """Listen, so that answers are streamed."""


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
