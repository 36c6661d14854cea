"""Tokens per second of the llama.cpp backend, beside llama-cpp-python's own chat completion.

    python benchmarks/generation_speed.py MODEL.gguf [--tokens 128] [--rounds 9] [--threads 1] [--temperature 0.7]

Both use the same model, prompt, sampling settings, threads and number of tokens. They take turns, and the order changes
every round; the first answers do not count. The time is that of the whole call, prompt included. A model that ends its
answer early gets the prompt again until the tokens are there.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llama_cpp
from rich.console import Console
from rich.table import Table

from messctl.backends import LlamaCpp
from messctl.records import Question
from messctl.zoo import ModelSpec

Way = Callable[[int, int], int]
"""Answers the prompt once, with this maximum of tokens and this seed; returns the number of generated tokens."""


def backend(spec: ModelSpec, prompt: str) -> Way:
    ours = LlamaCpp()

    def answer(tokens: int, seed: int) -> int:
        return ours.complete(spec, Question(prompt, max_tokens=tokens, seed=seed), lambda _: None).tokens_out

    return answer


def direct(spec: ModelSpec, prompt: str) -> Way:
    model: Any = llama_cpp.Llama(
        str(spec.path),
        n_ctx=spec.n_ctx,
        n_threads=spec.n_threads,
        n_threads_batch=spec.n_threads,
        n_gpu_layers=spec.gpu_layers,
        verbose=False,
    )

    def answer(tokens: int, seed: int) -> int:
        model.reset()  # so that it reads the whole prompt every time, as we do
        made = model.create_chat_completion(
            [{"role": "user", "content": prompt}],
            max_tokens=tokens,
            temperature=spec.temperature,
            top_p=spec.top_p,
            top_k=spec.top_k,
            min_p=spec.min_p,
            seed=seed,
        )
        return int(made["usage"]["completion_tokens"])

    return answer


def speed(way: Way, tokens: int, seed: int) -> float:
    """Return the tokens per second over `tokens` tokens, in as many answers as that takes."""
    started, made = time.perf_counter(), 0
    while made < tokens:
        made += way(tokens - made, seed)
        seed += 1
    return made / (time.perf_counter() - started)


def measure(ways: dict[str, Way], tokens: int, rounds: int) -> dict[str, list[float]]:
    for way in ways.values():
        speed(way, tokens, 1)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways) if number % 2 else reversed(ways):
            found[name].append(speed(ways[name], tokens, 1000 * number + 1))
    return found


def show(found: dict[str, list[float]], tokens: int) -> None:
    ours, theirs = found.values()
    ratios = sorted(mine / other for mine, other in zip(ours, theirs, strict=True))
    table = Table(title=f"{tokens} tokens a round, {len(ours)} rounds")
    for heading in ("way", "tokens/s (median)", "least to most"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for name, speeds in found.items():
        table.add_row(name, f"{statistics.median(speeds):,.0f}", f"{min(speeds):,.0f} to {max(speeds):,.0f}")
    console = Console()
    console.print(table)
    console.print(
        f"ratio of the same round: median {statistics.median(ratios):.3f}, {ratios[0]:.3f} to {ratios[-1]:.3f}\n"
        f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, "
        f"llama-cpp-python {version('llama-cpp-python')}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--prompt", default="What is 17 + 25?")
    given = parser.parse_args()
    spec = ModelSpec(
        given.model.stem,
        given.model.absolute(),
        n_ctx=given.context,
        n_threads=given.threads,
        temperature=given.temperature,
    )
    ways = {"messctl's backend": backend(spec, given.prompt), "llama-cpp-python": direct(spec, given.prompt)}
    show(measure(ways, given.tokens, given.rounds), given.tokens)


if __name__ == "__main__":
    main()
