"""Two processes that answer at once on one machine: python benchmarks/processes.py [MODEL.gguf]

llama.cpp's threads wait for each other several hundred times per token. GNU's OpenMP lets a waiting thread spin for
some 3 ms before it sleeps. A thread that spins keeps the processor from the thread that it waits for, as soon as
something else computes. Each way below is measured alone, two at once, and alone beside a process that computes
without pause. One round measures all ways, in an order of its own, and ratios are those of one round. Prints medians
over the rounds, with the least and the largest value. Without MODEL.gguf it takes SmolLM2,
see `packaged_models`.

`--asks` measures the command instead: two `messctl ask` in turn and at once, start-up included.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from packaged_models import INSTALL, smollm2
from rich.console import Console
from rich.table import Table

from messctl.backends import LlamaCpp
from messctl.records import Question
from messctl.zoo import ModelSpec

OPENMP_SPINS = "300000"  # of GNU's OpenMP, if nothing is set
QUESTION = "Tell me a long story about a river. " * 6


@dataclass(frozen=True, slots=True)
class Way:
    """How processes share the processor: OpenMP's spins, None for messctl's; threads; whether they take turns."""

    spins: str | None
    threads: int = 0
    turns: bool = False

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
        return kept | ({} if self.spins is None else {"GOMP_SPINCOUNT": self.spins})


WAYS = {
    "300,000 spins, OpenMP's own": Way(OPENMP_SPINS),
    "the same, and answers take turns": Way(OPENMP_SPINS, turns=True),
    "the same, and one thread each": Way(OPENMP_SPINS, threads=1),
    "1,000 spins, messctl's": Way(None),
    "no spins": Way("0"),
}


class Answerer:
    """A process with a loaded model. `start` makes it answer, `seconds` waits for the answer."""

    def __init__(self, way: Way, model: Path, tokens: int, lock: Path) -> None:
        command = [sys.executable, __file__, str(model), "--answers", str(way.threads), "--tokens", str(tokens)]
        command += ["--lock", str(lock)] if way.turns else []
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=way.environment, text=True)
        self._line()

    def start(self) -> None:
        print(file=self._process.stdin, flush=True)

    def seconds(self) -> float:
        return float(self._line())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def answer_forever(model: Path, threads: int, tokens: int, lock: Path | None) -> None:
    """Answer once per line on standard input, and print the seconds that it took."""
    spec = ModelSpec("m", model, n_ctx=1024, temperature=0.0, n_threads=threads or None)
    question = Question(QUESTION, max_tokens=tokens, to_the_limit=True)
    with LlamaCpp() as backend:
        backend.complete(spec, question)
        print("ready", flush=True)
        for _ in sys.stdin:
            started = time.perf_counter()
            with ExitStack() as stack:
                if lock is not None:
                    fcntl.flock(stack.enter_context(lock.open("w")), fcntl.LOCK_EX)
                backend.complete(spec, question)
            print(time.perf_counter() - started, flush=True)


def together(*answerers: Answerer) -> float:
    """Return the seconds until all have answered, asked at once."""
    for each in answerers:
        each.start()
    return max(each.seconds() for each in answerers)


@contextmanager
def busy_process() -> Iterator[None]:
    """Run a process that computes without pause."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def compare_ways(model: Path, tokens: int, rounds: int) -> Table:
    """Measure all ways."""
    table = Table(
        "way", "alone, s", "two at once ÷ two in turn", "÷ two in turn of the first", "beside a busy process, s"
    )
    alone, at_once, beside = ({name: [] for name in WAYS} for _ in range(3))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        pairs = {}
        for name, way in WAYS.items():
            pairs[name] = [Answerer(way, model, tokens, Path(folder, "lock")) for _ in range(2)]
            for each in pairs[name]:
                stack.callback(each.close)
        for number in range(rounds):
            for name in random.sample(list(WAYS), len(WAYS)):
                first, second = pairs[name]
                alone[name].append((together(first) + together(second)) / 2)
                at_once[name].append(together(first, second))
                with busy_process():
                    beside[name].append(together(first))
                took = f"{alone[name][-1]:.2f} s, {at_once[name][-1]:.2f} s at once, {beside[name][-1]:.2f} s beside"
                print(f"round {number + 1}, {name}: {took}", file=sys.stderr, flush=True)
    usual = alone[next(iter(WAYS))]
    for name in WAYS:
        table.add_row(
            name,
            spread(alone[name]),
            spread([both / (2 * one) for both, one in zip(at_once[name], alone[name], strict=True)]),
            spread([both / (2 * one) for both, one in zip(at_once[name], usual, strict=True)]),
            spread(beside[name]),
        )
    return table


def compare_asks(model: Path, tokens: int, rounds: int) -> Table:
    """Measure two `messctl ask` in turn and at once, as commands."""
    table = Table("way", "two in turn, s", "two at once, s", "ratio of the same round")
    ways = {"300,000 spins, OpenMP's own": Way(OPENMP_SPINS), "messctl's": Way(None)}
    in_turn, at_once = ({name: [] for name in ways} for _ in range(2))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "zoo.yaml").write_text(f"models: [{{name: m, path: '{model}', n_ctx: 1024, temperature: 0}}]\n")
        command = [sys.executable, "-m", "messctl", "ask", QUESTION, "--max-tokens", str(tokens), "--state", "state"]

        def ask(way: Way) -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                command, cwd=folder, env=way.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )

        ask(ways["messctl's"]).wait()
        for _ in range(rounds):
            for name in random.sample(list(ways), len(ways)):
                started = time.perf_counter()
                for _ in range(2):
                    ask(ways[name]).wait()
                between = time.perf_counter()
                for each in [ask(ways[name]) for _ in range(2)]:
                    each.wait()
                in_turn[name].append(between - started)
                at_once[name].append(time.perf_counter() - between)
                took = f"{in_turn[name][-1]:.2f} s in turn, {at_once[name][-1]:.2f} s at once"
                print(f"{name}: {took}", file=sys.stderr, flush=True)
    for name in ways:
        ratios = [both / one for both, one in zip(at_once[name], in_turn[name], strict=True)]
        table.add_row(name, spread(in_turn[name]), spread(at_once[name]), spread(ratios))
    return table


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", nargs="?", type=Path, default=smollm2())
    parser.add_argument("--asks", action="store_true")
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--answers", type=int, help=argparse.SUPPRESS)  # be an `Answerer` with this number of threads
    parser.add_argument("--lock", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.model is None:
        parser.error(f"install the model, `{INSTALL}`, or give a GGUF file")
    if options.answers is not None:
        answer_forever(options.model, options.answers, options.tokens, options.lock)
        return
    compare = compare_asks if options.asks else compare_ways
    console = Console(width=160)
    console.print(compare(options.model, options.tokens, options.rounds))
    console.print(f"{os.cpu_count()} cores, load of the machine at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
