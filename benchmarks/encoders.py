"""What the bandit gains by seeing prompts through an embedding model instead of their words.

    python benchmarks/minilm_gguf.py minilm.gguf
    python benchmarks/encoders.py TRACE… --gguf minilm.gguf

α is 0.90, 0.95 and 0.98 × the best model's mean. `hindsight` is the best router in hindsight with the same features:
its cost shows what the features tell, the bandit's what can be learned of that. Per trace and encoder it prints the
time to see one prompt, as the median of a hundred, and per α: the cost ÷ the cost with words in the same shuffled
orders, as the mean over the orders with its standard error; the lowest attainment less α in points; and the number of
orders that end more than half a point below α. For words it prints the cost ÷ that of the costliest model. Without
--gguf it takes the models in the box, whose last layers serve as embeddings. Embeddings are stored beside each trace,
so a second run is quick.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from messctl.backends.embedding import GgufEncoder
from messctl.learning.features import Encoder, WordEncoder
from messctl.policies import Rounds, build
from messctl.replay.loading import load
from messctl.trace import TraceFile
from messctl.zoo import Settings
from messctl.zoo.models import BOX

SHARES = (0.90, 0.95, 0.98)
TIMED = 100  # prompts
MISSED = 0.5  # points below α


@dataclass(frozen=True, slots=True)
class Played:
    """The orders of one trace, played at one α: `costs` ÷ the costliest model's mean, `ends` in points above α."""

    costs: np.ndarray
    ends: np.ndarray


def main() -> None:
    """Play the traces under every encoder and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", type=Path, nargs="+")
    parser.add_argument("--gguf", type=Path, action="append")
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    files = options.gguf or sorted(BOX.glob("*.gguf"), key=lambda path: path.stat().st_size)
    table = Table("trace", "policy", "seen by", "ms per prompt", *(f"α = {share:g} × best" for share in SHARES))
    encoders: list[tuple[str, Encoder]] = [(path.stem, GgufEncoder(path)) for path in files]
    for trace in options.traces:
        rounds = load(trace, encoder=WordEncoder()).rounds
        words = {name: played(name, rounds, seeds) for name, seeds in (("bandit", options.seeds), ("hindsight", 1))}
        took = taken(trace, WordEncoder())
        for name, seen in words.items():
            table.add_row(trace.stem, name, "words", took, *map(alone, seen))
        for stem, encoder in encoders:
            rounds, took = load(trace, encoder=encoder).rounds, taken(trace, encoder)
            for name, seen in words.items():
                both = zip(played(name, rounds, len(seen[0].costs)), seen, strict=True)
                table.add_row(trace.stem, name, stem, took, *(beside(one, other) for one, other in both))
    Console(width=160).print(table)


def played(policy: str, rounds: Rounds, seeds: int) -> list[Played]:
    """Return the orders that a policy played, for each α."""
    best, dearest = float(rounds.satisfied.mean(axis=0).max()), float(rounds.cost.mean(axis=0).max())
    found = []
    for alpha in (share * best for share in SHARES):
        costs, ends = [], []
        for seed in range(seeds):
            arranged = rounds.arranged(seed=seed, shuffle=True, feedback_rate=1.0, feedback_delay=0)
            run = build(policy, rounds, replace(Settings(), alpha=alpha, seed=seed)).play(arranged)
            costs.append(run.cost.mean() / dearest)
            ends.append(100.0 * (run.satisfied.mean() - alpha))
        found.append(Played(np.array(costs), np.array(ends)))
    return found


def taken(trace: Path, encoder: Encoder) -> str:
    """Return the median milliseconds to see one prompt."""
    prompts = next(TraceFile(trace).batches()).prompts.to_pylist()
    for prompt in prompts[:50]:  # to load the model, and to compile what sees words
        encoder.one(prompt)
    seconds = []
    for prompt in prompts[:: max(1, len(prompts) // TIMED)][:TIMED]:
        started = time.perf_counter()
        encoder.one(prompt)
        seconds.append(time.perf_counter() - started)
    return f"{1e3 * statistics.median(seconds):.2g}"


def alone(seen: Played) -> str:
    return f"{seen.costs.mean():.3f}, {_ends(seen)}"


def beside(seen: Played, words: Played) -> str:
    ratios = seen.costs / words.costs
    error = f" ± {ratios.std(ddof=1) / np.sqrt(len(ratios)):.2f}" if len(ratios) > 1 else ""
    return f"× {ratios.mean():.2f}{error}, {_ends(seen)}"


def _ends(seen: Played) -> str:
    return f"{seen.ends.min():+.1f}, {(seen.ends < -MISSED).sum()} missed"


if __name__ == "__main__":
    main()
