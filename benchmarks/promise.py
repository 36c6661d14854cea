"""Measures whether `bandit` keeps its promise, and what that costs, on recorded traces and on worlds drawn at random.

    python benchmarks/promise.py traces TRACE… [--orders 20] [--earlier CHECKOUT]
    python benchmarks/promise.py worlds [--count 200] [--earlier CHECKOUT]
    python benchmarks/promise.py ablation TRACE… [--count 40] [--orders 5]
    python benchmarks/promise.py speed TRACE… [--earlier CHECKOUT]

α is 90, 95 and 98 % of the best model's mean. An order *meets* if it ends at α or above. Costs are compared order by
order, and their ratios averaged geometrically. Nothing was chosen on these worlds: their seeds begin at FIRST_SEED.

`--earlier CHECKOUT` plays the same orders with the messctl of another checkout, in a process of its own.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from worlds import drawn

import messctl
from messctl.policies import Rounds, build
from messctl.policies.bandit import Bandit
from messctl.policies.bandit.tuning import Tuning
from messctl.policies.base import Floats
from messctl.replay.loading import load
from messctl.zoo import Settings

SHARES = (0.90, 0.95, 0.98)
"""α, as shares of the best model's mean."""
FIRST_SEED = 10_000
SETTLED = 1000
"""[requests] From here on the running level is looked at."""
LOW = -0.5
"""[points] An order ends low if it ends further below α than this."""
DIP = -1.0
"""[points] The running level is low if it is further below α than this."""
WITH_HINDSIGHT = 40
"""[worlds] Hindsight is played on the first of them alone, since it is slow."""
LONG, SHORT = (2000, 8000), (500, 2000)
"""[requests] The least and the most of a world."""
NEVER = 1e12
VARIANTS: Mapping[str, Mapping[str, float]] = {
    "as it is": {},
    "no reserve (R = 1)": {"chance": 1.0},
    "the reserve is full at once": {"ramp": 1e-9},
    "the reference is not trusted": {"trust": 0.0},
    "no shared ridge": {"shared_ridge": NEVER},
    "no predictions per prompt": {"shared_ridge": NEVER, "own_ridge": NEVER},
    "no ridge for costs": {"cost_range": 1.0},
    "nothing is forgotten": {"memory": NEVER, "idle_memory": NEVER},
    "no trials": {"trial_rate": 0.0},
    "no guard, and always curious": {"line": NEVER},
}
"""What each part brings: one is left out in turn. Hope and the two targets of λ₀ have no constant that does that."""
Given = TypeVar("Given")
Made = TypeVar("Made")


class Source(NamedTuple):
    """A recorded trace, or a world of `least` to `most` requests."""

    path: str = ""
    seed: int = 0
    least: int = 0
    most: int = 0

    @property
    def name(self) -> str:
        return Path(self.path).stem if self.path else f"world {self.seed}"


class Job(NamedTuple):
    """One order of a source, to be played at every α."""

    source: Source
    order: int
    variant: str = "as it is"


class Play(NamedTuple):
    """How one order went at one α: where it ended and its lowest level, in points from α, and the mean cost.

    `lowest` counts from request SETTLED on, and `best_lowest` is that of the best model alone. Both are NaN if there
    are fewer requests.
    """

    end: float
    lowest: float
    best_lowest: float
    cost: float


class Marks(NamedTuple):
    """What others cost at one α, who know all outcomes in advance. Hindsight is NaN where it was not played."""

    mix: float
    hindsight: float
    best: float


@functools.lru_cache(maxsize=4)
def rounds_of(source: Source) -> tuple[Rounds, bool]:
    """Return the rounds of a source, and whether they may be shuffled."""
    if source.path:
        return load(Path(source.path)).rounds, True
    world = drawn(source.seed, source.least, source.most)
    return world.rounds, not world.drifts


def lowest(satisfied: Floats, alpha: float) -> float:
    """Return the lowest running level from request SETTLED on, in points from α."""
    level = np.cumsum(satisfied) / np.arange(1, len(satisfied) + 1)
    return float(100.0 * (level[SETTLED - 1 :].min() - alpha)) if len(level) >= SETTLED else float("nan")


def play(job: Job) -> list[Play]:
    """Play one order at every α."""
    rounds, shuffle = rounds_of(job.source)
    arranged = rounds.arranged(seed=job.order, shuffle=shuffle, feedback_rate=1.0, feedback_delay=0)
    means = rounds.satisfied.mean(axis=0)
    alone = rounds.satisfied[arranged.order, int(means.argmax())]
    tuning, plays = Tuning()._replace(**VARIANTS[job.variant]), []
    for share in SHARES:
        alpha = share * float(means.max())
        played = Bandit(rounds.zoo, Settings(alpha=alpha, seed=job.order), tuning=tuning).play(arranged)
        end = 100.0 * float(played.satisfied.mean() - alpha)
        plays.append(Play(end, lowest(played.satisfied, alpha), lowest(alone, alpha), float(played.cost.mean())))
    return plays


def marks_of(source: Source, with_hindsight: bool = True) -> list[Marks]:
    """Return what others cost at every α."""
    rounds, _ = rounds_of(source)
    means, found = rounds.satisfied.mean(axis=0), []
    for share in SHARES:
        settings = Settings(alpha=share * float(means.max()))
        mix, hindsight = (
            float(build(name, rounds, settings).play(rounds).cost.mean()) if wanted else float("nan")
            for name, wanted in (("static-mix", True), ("hindsight", with_hindsight))
        )
        found.append(Marks(mix, hindsight, float(rounds.cost[:, means.argmax()].mean())))
    return found


def spread(work: Callable[[Given], Made], jobs: Sequence[Given]) -> list[Made]:
    """Return the work on every job, in order, done by as many processes as there are cores."""
    work(jobs[0])  # what is compiled here, the others have
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(work, jobs))


def asked(checkout: Path, command: str, jobs: object) -> Any:
    """Return what this script's `command` says with the messctl of another checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    child = [sys.executable, __file__, command]
    said = json.loads(subprocess.check_output(child, input=json.dumps(jobs), env=environment, text=True))
    if not Path(said["messctl"]).is_relative_to(checkout.resolve()):
        sys.exit(f"{checkout}: it has no messctl of its own; give the folder of a checkout")
    return said["result"]


def answer(command: str) -> None:
    """Do what `asked` asks for, from standard input to standard output."""
    jobs = json.load(sys.stdin)
    if command == "play":
        result: Any = spread(play, [Job(Source(*source), order) for source, order, _ in jobs])
    else:
        result = [microseconds(Source(*source)) for source in jobs]
    print(json.dumps({"messctl": str(Path(messctl.__file__).resolve()), "result": result}))


def played_earlier(checkout: Path | None, jobs: Sequence[Job]) -> list[list[Play]] | None:
    """Return the same jobs as an earlier version plays them."""
    if not checkout:
        return None
    return [[Play(*each) for each in plays] for plays in asked(checkout, "play", jobs)]


def ratio(costs: Iterable[float], others: Iterable[float]) -> float:
    """Return the geometric mean of the ratios; NaN ones are left out."""
    return float(np.exp(np.nanmean(np.log(np.array(list(costs)) / np.array(list(others))))))


def share_of(values: Iterable[float], least: float) -> str:
    """Return the share of values that are `least` or more, as text."""
    known = [value for value in values if not np.isnan(value)]
    return f"{np.mean([value >= least for value in known]):.3f}" if known else "–"


def cells(plays: Sequence[Play], marks: Sequence[Marks], earlier: Sequence[Play] | None) -> str:
    """Return the cells of one row: several orders at one α."""
    costs, ends = [one.cost for one in plays], [one.end for one in plays]
    row = [
        share_of(ends, -1e-9),
        f"{np.mean([end < LOW for end in ends]):.3f}",
        f"{np.mean(ends):+.2f}",
        f"{min(ends):+.2f}",
        f"{share_of((one.lowest for one in plays), DIP)} ({share_of((one.best_lowest for one in plays), DIP)})",
        f"{ratio(costs, [each.hindsight for each in marks]):.2f}",
        f"{ratio(costs, [each.mix for each in marks]):.2f}",
        f"{ratio([each.best for each in marks], [each.mix for each in marks]):.2f}",
    ]
    if earlier:
        row.append(f"{ratio(costs, [one.cost for one in earlier]):.3f}")
        row.append(share_of([one.end for one in earlier], -1e-9))
    return " | ".join(row)


def heading(first: str, with_earlier: bool) -> str:
    columns = f"{first} | α/best | met | ends low | mean end | worst end | running level (best alone) "
    columns += "| ÷ hindsight | ÷ static-mix | best alone ÷ static-mix"
    if with_earlier:
        columns += " | ÷ earlier | earlier: met"
    return f"| {columns} |\n{'|---' * (columns.count(' | ') + 1)}|"


def traces_table(paths: Sequence[Path], orders: int, earlier: Path | None) -> None:
    """Print each trace at every α, over shuffled orders."""
    print(f"\n## Recorded traces, {orders} shuffled orders each\n\n{heading('trace', bool(earlier))}", flush=True)
    for path in paths:
        source = Source(str(path.resolve()))
        jobs = [Job(source, order) for order in range(orders)]
        plays, before, marks = spread(play, jobs), played_earlier(earlier, jobs), marks_of(source)
        for at, share in enumerate(SHARES):
            column = [each[at] for each in before] if before else None
            print(f"| {source.name} | {share} | {cells([each[at] for each in plays], [marks[at]] * orders, column)} |")


def worlds_table(count: int, earlier: Path | None) -> None:
    """Print worlds drawn at random, long ones and short ones apart, at every α."""
    print(f"\n## {count} worlds drawn at random, one order each\n\n{heading('requests', bool(earlier))}", flush=True)
    for least, most in (LONG, SHORT):
        sources = [Source("", FIRST_SEED + at, least, most) for at in range(count)]
        jobs = [Job(source, 0) for source in sources]
        plays, before = spread(play, jobs), played_earlier(earlier, jobs)
        marks = spread(marks_of, sources[:WITH_HINDSIGHT])
        if rest := sources[WITH_HINDSIGHT:]:
            marks += spread(functools.partial(marks_of, with_hindsight=False), rest)
        for at, share in enumerate(SHARES):
            column = [each[at] for each in before] if before else None
            row = cells([each[at] for each in plays], [each[at] for each in marks], column)
            print(f"| {least} to {most} | {share} | {row} |", flush=True)


def ablation_table(paths: Sequence[Path], count: int, orders: int) -> None:
    """Print what is met, and the cost ÷ that of the bandit as it is, if one part is left out."""
    groups = {
        f"{count} worlds": [Job(Source("", FIRST_SEED + at, *LONG), 0) for at in range(count)],
        f"traces, {orders} orders": [Job(Source(str(path.resolve())), at) for path in paths for at in range(orders)],
    }
    print("\n## Ablation: met at 0.90, 0.95, 0.98; ends low; cost ÷ as it is at 0.90, 0.95, 0.98\n")
    print("| left out " + "".join(f"| {name}: met | ends low | cost " for name in groups) + "|")
    print("|---" * (1 + 3 * len(groups)) + "|", flush=True)
    usual: dict[str, list[list[Play]]] = {}
    for variant in VARIANTS:
        row = [variant]
        for name, jobs in groups.items():
            plays = spread(play, [job._replace(variant=variant) for job in jobs])
            columns = list(zip(*plays, strict=True))
            base = list(zip(*usual.setdefault(name, plays), strict=True))
            row.append(", ".join(share_of((one.end for one in column), -1e-9) for column in columns))
            row.append(f"{np.mean([one.end < LOW for column in columns for one in column]):.3f}")
            costs = ([[one.cost for one in column] for column in each] for each in (columns, base))
            row.append(", ".join(f"{ratio(new, old):.2f}" for new, old in zip(*costs, strict=True)))
        print("| " + " | ".join(row) + " |", flush=True)


def microseconds(source: Source) -> list[float]:
    """Return the time of one decision with its learning, in µs, of five plays after a first one."""
    rounds, _ = rounds_of(source)
    policy = Bandit(rounds.zoo, Settings(alpha=0.95 * float(rounds.satisfied.mean(axis=0).max())))
    policy.play(rounds)
    taken = []
    for _ in range(5):
        start = time.process_time()
        policy.play(rounds)
        taken.append((time.process_time() - start) / len(rounds) * 1e6)
    return taken


def speed_table(paths: Sequence[Path], earlier: Path | None) -> None:
    """Print the time of a decision with its learning, in compiled code."""
    print("\n## One decision with its learning, µs: median (least to most) of five\n")
    print("| trace | models | now | earlier |\n|---|---|---|---|")
    for path in paths:
        source = Source(str(path.resolve()))
        runs = [microseconds(source), *(asked(earlier, "time", [source]) if earlier else [])]
        times = " | ".join(f"{np.median(each):.1f} ({min(each):.1f} to {max(each):.1f})" for each in runs)
        print(f"| {source.name} | {len(rounds_of(source)[0].zoo.models)} | {times} |", flush=True)


def main() -> None:
    """Print the tables that were asked for."""
    if sys.argv[1:] in (["play"], ["time"]):
        return answer(sys.argv[1])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=("traces", "worlds", "ablation", "speed"))
    parser.add_argument("traces", nargs="*", type=Path)
    parser.add_argument("--orders", type=int)
    parser.add_argument("--count", type=int)
    parser.add_argument("--earlier", type=Path)
    given = parser.parse_args()
    if given.table == "traces":
        traces_table(given.traces, given.orders or 20, given.earlier)
    elif given.table == "worlds":
        worlds_table(given.count or 200, given.earlier)
    elif given.table == "ablation":
        ablation_table(given.traces, given.count or 40, given.orders or 5)
    else:
        speed_table(given.traces, given.earlier)
    return None


if __name__ == "__main__":
    main()
