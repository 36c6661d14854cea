"""What `messctl record` adds to a model's own time, per answer: python benchmarks/recording_overhead.py [--answers N]

In every round the same loaded model answers the same prompts twice: through the backend alone, and as in `record`, with
log-probability, cost, grade and journal. The order changes every round. Prints medians over the rounds, least and
largest values, and the difference within a round.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from messctl.backends import LlamaCpp
from messctl.costs.meter_choice import meter_for
from messctl.graders import reference_grader
from messctl.record.journal import Journal
from messctl.record.prompts import Prompt
from messctl.record.recorder import Plan, record, seed_of
from messctl.records import Question
from messctl.zoo import load_zoo

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Measure and print."""
    sys.path.append(str(ROOT))
    from training.puzzles import held_out  # noqa: PLC0415  # it is no part of the installed package

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--answers", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    zoo = load_zoo(None)
    exact, meter = reference_grader("exact"), meter_for(zoo)
    prompts = [Prompt(str(n), puzzle.prompt, puzzle.answer) for n, puzzle in enumerate(held_out(arguments.answers, 31))]
    table = Table("model", "bare, ms", "recorded, ms", "added, ms (median)", "least to most")
    with LlamaCpp() as backend:
        for model in zoo.models:
            plan = Plan(prompts, [model], "exact", lambda prompt, answer: exact(answer, prompt.reference or ""))

            def bare(plan=plan, model=model) -> None:
                for prompt in plan.prompts:
                    seed = seed_of(0, prompt.request_id, model.name)
                    backend.complete(model, Question(prompt.prompt, seed=seed))

            def recorded(plan=plan) -> None:
                with (
                    tempfile.TemporaryDirectory(dir=Path.cwd()) as folder,
                    Journal(Path(folder) / "journal", plan.terms(meter)) as journal,
                ):
                    record(plan, backend, meter, journal)

            bare()
            times = {bare: [], recorded: []}
            for round_ in range(arguments.rounds):
                for way in (bare, recorded) if round_ % 2 else (recorded, bare):
                    started = time.perf_counter()
                    way()
                    times[way].append(1e3 * (time.perf_counter() - started) / len(prompts))
            added = [mine - other for mine, other in zip(times[recorded], times[bare], strict=True)]
            table.add_row(
                model.name,
                *(f"{statistics.median(times[way]):.3f}" for way in (bare, recorded)),
                f"{statistics.median(added):.3f}",
                f"{min(added):.3f} to {max(added):.3f}",
            )
    console = Console(width=100)
    console.print(table)
    console.print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {platform.python_version()}"
    )


if __name__ == "__main__":
    main()
