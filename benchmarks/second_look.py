"""Measures what a second look saves: the bandit with `asks` 1, 2 and 3, and with parts of what it sees taken away.

    python benchmarks/second_look.py traces TRACE… [--orders 20] [--first 0]
    python benchmarks/second_look.py parts TRACE… [--orders 4]
    python benchmarks/second_look.py nothing TRACE… [--orders 20]
    python benchmarks/second_look.py figure [TRACE] [--output docs/second-look.png]

α is 90, 95 and 98 % of the best model's mean; every order is shuffled. An order *meets* if it ends at α or above. Costs
are compared with one ask in the same order, and with `hindsight`; ratios are averaged geometrically, ± their standard
error. The second half says what is paid once most is learned. `nothing` takes away all that is seen of answers.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from messctl.graders.equality import FORMS
from messctl.policies import Rounds, build
from messctl.policies.base import Answers
from messctl.replay.loading import load
from messctl.zoo import Settings

SHARES = (0.90, 0.95, 0.98)
"""α, as shares of the best model's mean."""
BOX = Path("traces/box.parquet")
ALL, CONFIDENCE, AGREEMENT, NOTHING = "all", "confidence", "agreement", "nothing"
PARTS: Mapping[str, tuple[int, str]] = {
    "one ask": (1, ALL),
    "two asks": (2, ALL),
    "three asks": (3, ALL),
    "three, confidence only": (3, CONFIDENCE),
    "three, agreement only": (3, AGREEMENT),
    "three, nothing to see": (3, NOTHING),
}


class Order(NamedTuple):
    """What one order brought: points above α at the end, mean cost, that of the second half, and asks per request."""

    end: float
    cost: float
    half: float
    asks: float


@functools.cache
def rounds_of(path: Path, seen: str) -> Rounds:
    """Return a trace with what is `seen` of its answers."""
    rounds = load(path, equal=FORMS["text"]).rounds
    assert rounds.answers is not None, "the trace has answers"
    group, logprob = rounds.answers
    if seen in (CONFIDENCE, NOTHING):
        group = np.tile(np.arange(group.shape[1]), (len(group), 1))
    if seen in (AGREEMENT, NOTHING):
        logprob = np.full(logprob.shape, np.nan)
    return replace(rounds, answers=Answers(group, logprob))


def play(job: tuple[Path, float, int, int, str]) -> Order:
    """Play one order of a trace."""
    path, share, seed, asks, seen = job
    rounds = rounds_of(path, seen)
    alpha = float(share * rounds.satisfied.mean(axis=0).max())
    order = rounds.arranged(seed=seed, shuffle=True, feedback_rate=1.0, feedback_delay=0)
    played = build("bandit", rounds, Settings(alpha=alpha, seed=seed, asks=asks)).play(order)
    half = float(played.cost[len(played.cost) // 2 :].mean())
    mean_asks = 1.0 if played.asks is None else float(played.asks.mean())
    return Order(100.0 * float(played.satisfied.mean() - alpha), float(played.cost.mean()), half, mean_asks)


def yardstick(path: Path, share: float, name: str) -> float:
    """Return the mean cost of a yardstick that attains α."""
    rounds = rounds_of(path, ALL)
    alpha = float(share * rounds.satisfied.mean(axis=0).max())
    return float(build(name, rounds, Settings(alpha=alpha, asks=3)).play(rounds).cost.mean())


def geometric(ratios: Iterable[float]) -> float:
    """Return the geometric mean."""
    return float(np.exp(np.mean(np.log(list(ratios)))))


def spread(ratios: Sequence[float]) -> str:
    """Return the geometric mean and its standard error."""
    logarithms = np.log(ratios)
    mean = np.exp(logarithms.mean())
    return f"{mean:.3f} ± {mean * logarithms.std() / np.sqrt(len(ratios)):.3f}"


def compare(paths: list[Path], parts: Mapping[str, tuple[int, str]], orders: range) -> None:
    """Print a line for each trace, share and part."""
    jobs = [
        (path, share, seed, asks, seen)
        for path in paths
        for share in SHARES
        for asks, seen in parts.values()
        for seed in orders
    ]
    play(jobs[0])  # compiles once, for all processes
    with ProcessPoolExecutor() as pool:
        found = dict(zip(jobs, pool.map(play, jobs), strict=True))
    total: dict[str, list[float]] = {name: [] for name in parts}
    print("| trace | α/best | | met | mean end | worst end | ÷ one ask | ÷ hindsight | second half | asks |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for path in paths:
        for share in SHARES:
            hindsight = yardstick(path, share, "hindsight")
            for name, (asks, seen) in parts.items():
                ours = [found[path, share, seed, asks, seen] for seed in orders]
                one = [found[path, share, seed, 1, ALL] for seed in orders]
                ratios = [each.cost / other.cost for each, other in zip(ours, one, strict=True)]
                total[name].append(geometric(ratios))
                print(
                    f"| {path.stem} | {share:.2f} | {name} | {np.mean([each.end >= -1e-7 for each in ours]):.0%} | "
                    f"{np.mean([each.end for each in ours]):+.2f} | {min(each.end for each in ours):+.2f} | "
                    f"{spread(ratios)} | {geometric(each.cost / hindsight for each in ours):.2f} | "
                    f"{geometric(each.half / hindsight for each in ours):.2f} | "
                    f"{np.mean([each.asks for each in ours]):.2f} |",
                    flush=True,
                )
            cascade = yardstick(path, share, "hindsight-cascade") / hindsight
            print(f"| {path.stem} | {share:.2f} | hindsight-cascade | | | | | {cascade:.2f} | | |", flush=True)
    for name, ratios in total.items():
        print(f"{name}: {geometric(ratios):.3f} of one ask")


def draw(path: Path, output: Path) -> None:
    """Draw what each level of α costs with one ask and with three, beside the yardsticks."""
    import matplotlib.pyplot as plt  # noqa: PLC0415  # for the figure alone

    rounds = rounds_of(path, ALL)
    best = float(rounds.satisfied.mean(axis=0).max())
    shares = np.linspace(0.80, 0.99, 9)
    lines = {"one ask": (1, "#9aa5b1", "-"), "three asks": (3, "#1c5d8c", "-")}
    figure, axes = plt.subplots(figsize=(7.0, 3.6), layout="constrained")
    for name, (asks, color, style) in lines.items():
        costs = [np.mean([play((path, share, seed, asks, ALL)).cost for seed in range(5)]) for share in shares]
        axes.plot(shares * best, costs, style, color=color, linewidth=2, label=f"bandit, {name}")
    for name, color in (("hindsight", "#9aa5b1"), ("hindsight-cascade", "#1c5d8c")):
        costs = [yardstick(path, share, name) for share in shares]
        axes.plot(shares * best, costs, ":", color=color, linewidth=1.5, label=name)
    axes.set_xlabel("promised share α")
    axes.set_ylabel("J per request")
    axes.set_ylim(bottom=0.0)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(output, dpi=160)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("traces", "parts", "nothing", "figure"))
    parser.add_argument("traces", nargs="*", type=Path, default=[BOX])
    parser.add_argument("--orders", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("docs/second-look.png"))
    wanted = parser.parse_args()
    orders = range(wanted.first, wanted.first + wanted.orders)
    if wanted.what == "figure":
        draw(wanted.traces[0], wanted.output)
    elif wanted.what == "parts":
        compare(wanted.traces, PARTS, orders)
    else:
        other = "three asks" if wanted.what == "traces" else "three, nothing to see"
        compare(wanted.traces, {name: PARTS[name] for name in ("one ask", other)}, orders)


if __name__ == "__main__":
    main()
