"""Requests per second of paretobandit's router loop, beside messctl's, on the same rows and features.

    python benchmarks/paretobandit_speed.py [TRACE] [--requests 2000] [--rounds 5]

All learn: each request is routed, and its feedback learned, before the next one. paretobandit gets its features as
dense vectors, with the budget pacer on; messctl's policies get the same features sparse, as in a replay. Without a
trace, a synthetic one of four models is used. Prints medians over the rounds with their spread, and the ratio within a
round. Needs `pip install -e '.[bench]'`.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from make_trace import write
from rich.console import Console
from rich.table import Table
from rivals import ParetoBandit

from messctl.policies import Rounds, build
from messctl.replay.loading import load
from messctl.zoo import Settings

SETTINGS = Settings(alpha=0.8)
PLAYS = 10
"""The number of plays of messctl per timing: one takes only milliseconds."""


def route(rounds: Rounds, folded: bool) -> Callable[[], float]:
    """Return a run of paretobandit from fresh that returns the seconds of its loop alone."""
    rival = ParetoBandit(optimism=0.05, forgetting=0.997, hope=0.0, budget=0.5, folded=folded)
    x = rival.features(rounds)

    def run() -> float:
        router = rival.router(rounds, 0)
        started = time.perf_counter()
        rival.drive(router, x, rounds, SETTINGS.alpha)
        return time.perf_counter() - started

    return run


def play(rounds: Rounds, name: str) -> Callable[[], float]:
    """Return a few runs of one of messctl's policies, each from fresh, that return the seconds of one."""

    def run() -> float:
        policy = build(name, rounds, SETTINGS)
        started = time.perf_counter()
        for _ in range(PLAYS):
            policy.play(rounds)
        return (time.perf_counter() - started) / PLAYS

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", nargs="?", type=Path)
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.trace or Path(folder) / "trace.parquet"
        if arguments.trace is None:
            write(path, arguments.requests, words=16, seed=1)
        rounds = load(path).rounds
    n = min(arguments.requests, len(rounds))
    rounds = replace(rounds, order=rounds.order[:n], has_feedback=rounds.has_feedback[:n])
    ways: dict[str, Callable[[], float]] = {
        "paretobandit": route(rounds, folded=False),
        "paretobandit, words folded to 32": route(rounds, folded=True),
        "messctl bandit": play(rounds, "bandit"),
        "messctl messplus": play(rounds, "messplus"),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for work in ways.values():
        work()  # compiled and warm before anything is timed
    for _ in range(arguments.rounds):
        for name, work in ways.items():
            rates[name].append(n / work())
    title = f"{path.stem}: {n:,} requests, {len(rounds.zoo.models)} models, {rounds.features.width} features"
    table = Table(title=title)
    for heading in ("way", "requests/s (median)", "least to most", "× paretobandit", "× paretobandit, folded"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for name, measured in rates.items():
        cells = [f"{statistics.median(measured):,.0f}", f"{min(measured):,.0f} to {max(measured):,.0f}"]
        for rival in list(ways)[:2]:
            ratios = [mine / other for mine, other in zip(measured, rates[rival], strict=True)]
            cells.append(f"{statistics.median(ratios):,.1f} ({min(ratios):,.1f} to {max(ratios):,.1f})")
        table.add_row(name, *cells)
    console = Console(width=130)
    console.print(table)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    packages = ("paretobandit", "numba", "numpy")
    console.print(f"{machine}; " + ", ".join(f"{name} {version(name)}" for name in packages))


if __name__ == "__main__":
    main()
