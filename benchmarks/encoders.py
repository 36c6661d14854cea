"""What the bandit gains by seeing prompts through an embedding model instead of their words.

    python benchmarks/encoders.py TRACE [GGUF …]

Prints, for α = 0.90, 0.95 and 0.98 × the best model's mean: the mean cost ÷ that of the costliest model over shuffled
seeds with its standard deviation, the lowest attainment less α in points, and the time to see one prompt. Without GGUF
files it uses the models in the box, whose last layers serve as embeddings.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from messctl.backends.embedding import GgufEncoder
from messctl.learning.features import WordEncoder
from messctl.policies import build
from messctl.replay.loading import load
from messctl.trace import TraceFile
from messctl.zoo import Settings
from messctl.zoo.models import BOX

SHARES = (0.90, 0.95, 0.98)


def main() -> None:
    """Play the trace under every encoder and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("trace", type=Path)
    parser.add_argument("gguf", type=Path, nargs="*")
    parser.add_argument("--seeds", type=int, default=20)
    arguments = parser.parse_args()
    files = arguments.gguf or sorted(BOX.glob("*.gguf"), key=lambda path: path.stat().st_size)
    table = Table("seen by", "µs", *(f"α = {share:g} × best" for share in SHARES))
    for encoder, name in [(WordEncoder(), "words"), *((GgufEncoder(path), path.stem) for path in files)]:
        recording = load(arguments.trace, encoder=encoder, cache=False)
        prompts = next(TraceFile(arguments.trace).batches()).prompts.slice(0, 500)
        started = time.perf_counter()
        encoder.column(prompts)
        took = (time.perf_counter() - started) / len(prompts)
        cells = [cell(recording.rounds, share, arguments.seeds) for share in SHARES]
        table.add_row(name, f"{took * 1e6:.0f}", *cells)
    Console(width=140).print(table)


def cell(rounds, share: float, seeds: int) -> str:
    """Return cost, its deviation, and the lowest end over the seeds, as text."""
    alpha = share * float(rounds.satisfied.mean(axis=0).max())
    dearest = float(rounds.cost.mean(axis=0).max())
    costs, ends = [], []
    for seed in range(seeds):
        arranged = rounds.arranged(seed=seed, shuffle=True, feedback_rate=1.0, feedback_delay=0)
        played = build("bandit", rounds, replace(Settings(), alpha=alpha, seed=seed)).play(arranged)
        costs.append(played.cost.mean() / dearest)
        ends.append(100.0 * (played.satisfied.mean() - alpha))
    return f"{np.mean(costs):.3f} ± {np.std(costs):.3f}, {min(ends):+.2f}"


if __name__ == "__main__":
    main()
