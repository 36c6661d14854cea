"""Measures the exported models with llama-cpp-python, and writes their model card."""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

from llama_cpp import Llama as Runtime

from training.card import card
from training.export import load_checkpoint
from training.measures import Measure, read_record, table
from training.puzzles import Puzzle, held_out, is_right
from training.sizes import SIZES
from training.tokens import END, decode, encode_prompt

MOST_TOKENS: Final = 48
"""The limit of an answer, in tokens. Every correct answer has fewer than 40."""


def ask(runtime: Runtime, prompt: str) -> tuple[str, int, int]:
    """Return the greedy answer by chat completion, and the numbers of prompt and answer tokens."""
    # Without the reset, a common beginning of two prompts would not be computed again.
    runtime.reset()  # type: ignore[no-untyped-call]
    reply: Any = runtime.create_chat_completion(
        [{"role": "user", "content": prompt}], temperature=0.0, max_tokens=MOST_TOKENS
    )
    usage = reply["usage"]
    text = str(reply["choices"][0]["message"]["content"])
    return text, int(usage["prompt_tokens"]), int(usage["completion_tokens"])


def measure(path: Path, puzzles: list[Puzzle]) -> tuple[Measure, list[str]]:
    """Answer `puzzles` with the model at `path`. Return the measures and the answers."""
    runtime = Runtime(str(path), n_ctx=256, n_threads=1, n_threads_batch=1, verbose=False)
    ask(runtime, "What is 1 + 1?")
    marks: dict[str, list[bool]] = defaultdict(list)
    answers, asked, answered = [], 0, 0
    began = time.perf_counter()
    for puzzle in puzzles:
        answer, prompt_tokens, answer_tokens = ask(runtime, puzzle.prompt)
        answers.append(answer)
        asked, answered = asked + prompt_tokens, answered + answer_tokens
        right = is_right(answer, puzzle)
        marks[puzzle.family].append(right)
        marks[f"{puzzle.family} {puzzle.difficulty}"].append(right)
    took = time.perf_counter() - began
    count = len(puzzles)
    result = Measure(
        name=path.stem,
        parameters=int(runtime._model.n_params()),
        file_bytes=path.stat().st_size,
        puzzles=count,
        overall=sum(is_right(a, p) for a, p in zip(answers, puzzles, strict=True)) / count,
        accuracy={name: sum(marks[name]) / len(marks[name]) for name in sorted(marks)},
        prompt_tokens=asked / count,
        answer_tokens=answered / count,
        milliseconds=1000 * took / count,
    )
    runtime.close()
    return result, answers


def differing(name: str, checkpoints: Path, puzzles: list[Puzzle], answers: list[str]) -> int:
    """Return how many answers of llama.cpp differ from those of the PyTorch checkpoint."""
    model = load_checkpoint(name, checkpoints)
    ours = (decode(model.answer(encode_prompt(p.prompt), END, MOST_TOKENS)) for p in puzzles)
    return sum(mine != theirs for mine, theirs in zip(ours, answers, strict=True))


def main() -> int:
    """Measure each size that has a file, print the table, and write the card if requested."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with the GGUF files")
    parser.add_argument("-n", type=int, default=1500, help="held-out puzzles, in equal parts per family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"))
    parser.add_argument("--against-torch", type=int, default=0, metavar="N", help="compare N answers")
    parser.add_argument("--card", type=Path, help="write the model card to this file")
    options = parser.parse_args()
    puzzles = held_out(options.n, options.seed)
    measures = []
    for name in SIZES:
        path = options.folder / f"{name}.gguf"
        if not path.exists():
            continue
        result, answers = measure(path, puzzles)
        measures.append(result)
        if few := options.against_torch:
            other = differing(name, options.checkpoints, puzzles[:few], answers[:few])
            print(f"{name}: {other} of {few} answers differ from PyTorch's")
    print(table(measures))
    if options.card:
        records = [read_record(options.checkpoints / f"{m.name}.json") for m in measures]
        options.card.write_text(card(measures, records))
    return 0


if __name__ == "__main__":
    sys.exit(main())
