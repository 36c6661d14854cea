"""What routing adds to an answer, from the prompt to the durable decision and after it, beside the model's own time.

    python benchmarks/routing_latency.py [--asks 500] [--policy bandit] [--state FILE]

Real models (the zoo in the box) answer through real llama.cpp; the state is a real file. A decision counts once its
transaction is committed. `feedback` waits for the disk, so that it outlives a power cut.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from messctl.backends import LlamaCpp
from messctl.costs.meter_choice import meter_for
from messctl.live.router import Router
from messctl.records import Question
from messctl.state.store import Store
from messctl.zoo import PACKAGED_FILE, load_zoo


def measure(router: Router, asks: int) -> dict[str, list[float]]:
    """Return the milliseconds of each part, one entry per ask."""
    parts: dict[str, list[float]] = {name: [] for name in ("decide", "model", "rest", "feedback")}
    for index in range(asks):
        decided: list[float] = []
        started = time.perf_counter()
        answer = router.ask(
            Question(f"What is {index % 90} + {index % 7}?"),
            on_decision=lambda _, at=decided: at.append(time.perf_counter()),
        )
        answered = time.perf_counter()
        router.feedback("last", float(index % 5 > 0))
        judged = time.perf_counter()
        model = answer.completion.latency_s + answer.completion.load_s
        parts["decide"].append(decided[0] - started)
        parts["model"].append(model)
        parts["rest"].append(answered - decided[0] - model)
        parts["feedback"].append(judged - answered)
    return {name: [1000 * seconds for seconds in values] for name, values in parts.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--asks", type=int, default=500)
    parser.add_argument("--policy", help="default: that of the zoo in the box")
    parser.add_argument("--state", type=Path, help="default: a temporary file")
    arguments = parser.parse_args()
    zoo = load_zoo(PACKAGED_FILE)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        backend = stack.enter_context(LlamaCpp())
        store = stack.enter_context(Store(arguments.state or folder / "state"))
        settings = replace(zoo.settings, policy=arguments.policy or zoo.settings.policy)
        router = Router({model.name: model for model in zoo.models}, settings, backend, meter_for(zoo), store)
        measure(router, 20)  # compiled, loaded, and warm
        parts = measure(router, arguments.asks)
    table = Table(title=f"{settings.policy}: {arguments.asks} asks, {len(zoo.models)} models, milliseconds")
    for heading in ("part", "median", "90 %", "99 %", "÷ the model's own (median)"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    names = {
        "decide": "prompt to durable decision",
        "model": "the model's own time",
        "rest": "learning the cost, committed",
        "feedback": "feedback, on disk",
    }
    own = statistics.median(parts["model"])
    for part, name in names.items():
        centiles = statistics.quantiles(parts[part], n=100)
        median = statistics.median(parts[part])
        table.add_row(name, f"{median:.2f}", f"{centiles[89]:.2f}", f"{centiles[98]:.2f}", f"{median / own:.2f}")
    console = Console(width=110)
    console.print(table)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    console.print(f"{machine}; llama-cpp-python {version('llama-cpp-python')}")


if __name__ == "__main__":
    main()
