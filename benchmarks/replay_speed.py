"""Decisions per second of a replay, beside the same algorithm as one would first write it.

    python benchmarks/replay_speed.py [--requests 100000] [--rounds 5]

Three ways to take the same decisions on the same synthetic trace, features given:

- `compiled`: what `messctl replay` runs;
- `two verbs`: the policy one request at a time, as live use does;
- `scikit-learn`: MESS+ in plain Python over SGDClassifier, the rival (on fewer requests: it is slow).

Prints the median of the rounds and their spread, and each one's ratio to the rival of the same round.
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

import numpy as np
from driving import drive
from make_trace import write
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import SGDClassifier

from messctl.learning.predictor import DECAY, SHRINKAGE, STEP
from messctl.learning.random_streams import stream
from messctl.policies import Rounds, build
from messctl.replay.loading import load
from messctl.trace import TraceFile
from messctl.zoo import Settings

SETTINGS = Settings(alpha=0.8)


def scikit_learn(rounds: Rounds, n: int) -> list[int]:
    """Return the models served on the first `n` requests: MESS+ as one would first write it."""
    features = rounds.features.csr()[:n].toarray()
    models = rounds.cost.shape[1]
    learners = [
        SGDClassifier(loss="log_loss", learning_rate="invscaling", eta0=STEP, power_t=DECAY, alpha=SHRINKAGE)
        for _ in range(models)
    ]
    costs: list[list[float]] = [[] for _ in range(models)]
    coins = stream(SETTINGS.seed, "exploration").random(n)
    served, queue = [], 0.0
    for t in range(n):
        x = features[t : t + 1]
        explored = coins[t] < min(1.0, SETTINGS.c / (t + 1) ** SETTINGS.exponent)
        known = hasattr(learners[0], "coef_")
        predicted = [float(each.predict_proba(x)[0, 1]) if known else 0.5 for each in learners]
        mean = [float(np.mean(seen)) if seen else 0.0 for seen in costs]
        scale = max(mean) or 1.0
        scores = [SETTINGS.weight * mean[m] / scale + queue * (SETTINGS.alpha - predicted[m]) for m in range(models)]
        choice = rounds.zoo.index(rounds.zoo.reference) if explored else int(np.argmin(scores))
        for m in range(models) if explored else (choice,):
            costs[m].append(float(rounds.cost[t, m]))
            if explored:
                learners[m].partial_fit(x, rounds.satisfied[t, m : m + 1], classes=[0.0, 1.0])
        queue = max(0.0, queue + SETTINGS.alpha - float(rounds.satisfied[t, choice]))
        served.append(choice)
    return served


def seconds(work: Callable[[], object]) -> float:
    """Return how long one call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def head(rounds: Rounds, n: int) -> Rounds:
    """Return the first `n` rounds."""
    return replace(rounds, order=rounds.order[:n], has_feedback=rounds.has_feedback[:n])


def main() -> None:
    """Measure, check that all three agree, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.parquet"
        write(path, arguments.requests, words=16, seed=1)
        started = time.perf_counter()
        rounds = load(path).rounds
        loading = time.perf_counter() - started
        prompts = [prompt for batch in TraceFile(path).batches() for prompt in batch.prompts.to_pylist()]
    few, some = min(1_000, len(rounds)), min(10_000, len(rounds))
    policy = build("messplus", rounds, SETTINGS)
    ways: dict[str, tuple[int, Callable[[], object]]] = {
        "compiled": (len(rounds), lambda: policy.play(rounds)),
        "two verbs": (
            some,
            lambda: list(drive(build("messplus", rounds, SETTINGS), head(rounds, some), prompts)),
        ),
        "scikit-learn": (few, lambda: scikit_learn(rounds, few)),
    }
    played = policy.play(rounds).served
    assert played is not None
    agreement = np.mean(np.array(scikit_learn(rounds, few)) == played[:few])
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _, work in ways.values():
        work()  # compiled and warm before anything is timed
    for _ in range(arguments.rounds):
        for name, (n, work) in ways.items():
            rates[name].append(n / seconds(work))
    table = Table(title=f"replay of messplus, {len(rounds.zoo.models)} models, {rounds.features.width} features")
    for heading in ("way", "requests", "decisions/s (median)", "least to most", "× scikit-learn (median)"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for name, (n, _) in ways.items():
        ratios = [mine / rival for mine, rival in zip(rates[name], rates["scikit-learn"], strict=True)]
        spread = f"{min(rates[name]):,.0f} to {max(rates[name]):,.0f}"
        median = statistics.median
        table.add_row(name, f"{n:,}", f"{median(rates[name]):,.0f}", spread, f"{median(ratios):,.1f}")
    console = Console(width=110)
    console.print(table)
    console.print(f"served the same as scikit-learn: {agreement:.2%} of {few:,} requests")
    console.print(
        f"reading and encoding {len(rounds):,} prompts, once: {loading:.2f} s ({len(rounds) / loading:,.0f}/s)"
    )
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    console.print(f"{machine}; " + ", ".join(f"{name} {version(name)}" for name in ("numba", "numpy", "scikit-learn")))


if __name__ == "__main__":
    main()
