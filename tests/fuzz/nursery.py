"""The parent of a campaign's children: it loads and compiles everything once, and forks a child for each batch.

A child that dies costs one input. A new child takes those that it has left. On standard output is what happened: what
every child reported of its inputs, then `ended`, its exit code and its last words. A code below 0 is a signal.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import random
import resource
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import child
from campaign import WEIGHTS, WORKERS

BATCH = 200
"""How many inputs a child takes."""

Input = tuple[str, int]
"""A subject, and the number that an input is made from."""


@dataclass(frozen=True)
class Batch:
    """A child's inputs, and the folder in which it takes them."""

    folder: Path
    inputs: Sequence[Input]

    def begin(self, corpus: Path, until: float) -> int:
        """Fork the child, and return its process number."""
        self.folder.mkdir()
        process = os.fork()
        if process:
            return process
        code = 1
        try:
            os.chdir(self.folder)
            said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            for stream, file in enumerate((os.open(os.devnull, os.O_RDONLY), said, said)):
                os.dup2(file, stream)
            faulthandler.enable()
            child.take(self.inputs, corpus, until)
            code = 0
        except BaseException:  # noqa: BLE001  # the child must never return into the parent's loop
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def end(self, code: int) -> Sequence[Input]:
        """Print what the child reported, and how it ended. Return the inputs that it did not take."""
        written = self.folder / "report"
        lines = written.read_text().splitlines() if written.exists() else []
        said = (self.folder / "said").read_text(errors="replace")[-2000:] if (self.folder / "said").exists() else ""
        print(*lines, f"ended {code} {child.one_line(said)}", sep="\n", flush=True)
        shutil.rmtree(self.folder)
        taken = sum(line.startswith("begin ") for line in lines)
        return self.inputs[taken:] if taken else ()


def main(folder: Path, seconds: float, seed: int, names: Sequence[str], numbers: Sequence[int]) -> None:
    """Take inputs for a time, or exactly those with these numbers; then print the processor time that it took."""
    until = float("inf") if numbers else time.monotonic() + seconds
    corpus = folder / "corpus"
    os.chdir(folder)
    child.warm_up(corpus)
    gc.freeze()
    warnings.filterwarnings(
        "ignore", "This process", DeprecationWarning
    )  # threads that a fork leaves behind hold nothing
    waiting = iter([[(name, number) for name in names for number in numbers]]) if numbers else _chosen(seed, names)
    running: dict[int, Batch] = {}
    started = 0
    while True:
        while len(running) < WORKERS and time.monotonic() < until and (inputs := next(waiting, ())):
            started += 1
            batch = Batch(folder / f"batch{started}", inputs)
            running[batch.begin(corpus, until)] = batch
        if not running:
            break
        process, status = os.wait()
        if process in running:
            left = running.pop(process).end(os.waitstatus_to_exitcode(status))
            waiting = chain([left], waiting) if left else waiting
    print(f"spent {sum(_processor_s(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)):.1f}")


def _processor_s(whose: int) -> float:
    used = resource.getrusage(whose)
    return used.ru_utime + used.ru_stime


def _chosen(seed: int, names: Sequence[str]) -> Iterator[Sequence[Input]]:
    """Yield batches without end: subjects at random, and numbers that no other seed has."""
    chance = random.Random(seed)
    weights = [WEIGHTS[name] for name in names]
    number = seed * 10**7
    while True:
        yield [(name, number + at) for at, name in enumerate(chance.choices(names, weights, k=BATCH))]
        number += BATCH


if __name__ == "__main__":
    place, time_s, chosen, subjects, given = sys.argv[1:]
    main(Path(place), float(time_s), int(chosen), subjects.split(), [int(each) for each in given.split()])
