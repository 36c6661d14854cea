"""Several routers on one state: how fast they are on PostgreSQL and on SQLite, and whether they keep one promise.

    python benchmarks/postgres.py [--seconds 10] [--requests 1000,1000000] [--rates 25,50,100,200]
        [--trace traces/box.parquet] [--rows 2000]

The first table: 1, 2 and 4 processes ask a scripted model that answers at once, grade the answer and learn from it, for
some seconds, on a state with a log of each size. Each process has one ask in flight, or 16, as a server has. Cases take
turns in three rounds. The second table: four processes on PostgreSQL get that many requests per second in all, at even
distances. Times are from when a request was due. The third table: the rows of a trace in shuffled orders, for one
router, for four processes on one state, and for four that learn apart. A server of PostgreSQL is made for the run, on
this machine, and it waits for its disk.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from long_logs import GOOD, written
from rich.console import Console
from rich.table import Table

import messctl
from messctl.backends import Scripted
from messctl.costs.meter_choice import meter_for
from messctl.live.router import Router
from messctl.records import Question
from messctl.state.copying import copy, end
from messctl.state.place import Place
from messctl.state.store import Store
from messctl.zoo import PACKAGED_FILE, load_zoo

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "makers"))
from postgres_making import PostgresServer

ROUNDS = 3
PROCESSES = (1, 2, 4)
IN_FLIGHT = (1, 16)
"""How many threads of a process ask at once."""
POLICY = "bandit"
SHARE = 0.95
"""α, as a part of the best model's attainment."""

Context = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Speed:
    """What a process did: its asks, and the seconds of each decision and of each ask."""

    asks: int
    decisions: Sequence[float]
    whole: Sequence[float]


def asking(place: Place, seconds: float, in_flight: int, pause: float, ready: Barrier, done: Queue[Speed]) -> None:
    """Ask for some seconds in some threads, and tell how fast that was. A decision ends when its model is asked.

    Each thread has a request due every `pause` seconds; with 0.0, as soon as it has done the one before.
    """
    zoo = load_zoo(PACKAGED_FILE)
    models = {model.name: model for model in zoo.models}
    with Store(place) as store:
        settings = replace(zoo.settings, policy=POLICY)
        router = Router(models, settings, Scripted(dict.fromkeys(models, "42")), meter_for(zoo), store)
        router.prepare()
        decisions: list[float] = []
        whole: list[float] = []

        def ask(number: int, began: float) -> None:
            router.ask(
                Question(f"What is {number} + {os.getpid()}?"),
                grader=lambda _: float(number % 4 > 0),
                on_decision=lambda _: decisions.append(time.perf_counter() - began),
            )
            whole.append(time.perf_counter() - began)

        def go_on(_: int) -> None:
            due = start + pause * random.random()
            while max(due, time.perf_counter()) < start + seconds:
                time.sleep(max(0.0, due - time.perf_counter()))
                ask(len(whole), due if pause else time.perf_counter())
                due += pause

        for number in range(20):
            ask(number, time.perf_counter())
        decisions.clear()
        whole.clear()
        ready.wait()
        start = time.perf_counter()
        with ThreadPoolExecutor(in_flight) as pool:
            list(pool.map(go_on, range(in_flight)))
    done.put(Speed(len(whole), decisions, whole))


def speed(
    place: Place, processes: int, in_flight: int, seconds: float, rate: float | None = None
) -> tuple[float, float, float]:
    """Return the asks per second of all together, and the median time of a decision and of an ask in milliseconds.

    All get `rate` requests per second; without, as many as they can do.
    """
    ready, done = Context.Barrier(processes), Context.Queue()
    pause = processes * in_flight / rate if rate else 0.0
    each = (place, seconds, in_flight, pause, ready, done)
    running = [Context.Process(target=asking, args=each) for _ in range(processes)]
    for process in running:
        process.start()
    found = [done.get() for _ in running]
    for process in running:
        process.join()
    decisions = [each for of in found for each in of.decisions]
    whole = [each for of in found for each in of.whole]
    rate = sum(of.asks for of in found) / seconds
    return rate, 1000 * statistics.median(decisions), 1000 * statistics.median(whole)


def copied(source: Store, place: Place) -> Place:
    """Copy a state to a place that holds nothing."""
    with Store(place, begun=True) as target:
        copy(source.database, target.database)
        end(target.database)
    return place


def speeds(server: PostgresServer, sizes: Sequence[int], seconds: float) -> Table:
    """Measure all cases in turns."""
    table = Table(title=f"{POLICY}: asked, answered, graded and learned; median of {ROUNDS} rounds, least to most")
    for heading in ("state", "logged requests", "processes", "in flight", "asks/s", "decision, ms", "ask, ms"):
        table.add_column(heading, justify="left" if heading == "state" else "right")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        places: dict[tuple[str, int], Place] = {}
        for size in sizes:
            places["SQLite", size] = folder / str(size)
            with written(folder / str(size), size, POLICY, GOOD["low"]).store as store:
                places["PostgreSQL", size] = copied(store, server.fresh())
        cases = [(*place, count, flying) for place in places for count in PROCESSES for flying in IN_FLIGHT]
        rounds = [{case: speed(places[case[:2]], *case[2:], seconds) for case in cases} for _ in range(ROUNDS)]
    for case in sorted(cases):
        columns = zip(*(each[case] for each in rounds), strict=True)
        figures = [f"{statistics.median(of):.1f} ({min(of):.1f} to {max(of):.1f})" for of in columns]
        kind, size, count, flying = case
        table.add_row(kind, f"{size:,}", str(count), str(flying), *figures)
    return table


def times_at(server: PostgresServer, rates: Sequence[float], seconds: float) -> Table:
    """Measure how long four processes take, if requests come at a rate."""
    title = f"{POLICY}, four processes on PostgreSQL, requests at even distances; median of {ROUNDS} rounds"
    table = Table(title=title)
    for heading in ("requests/s", "asks/s", "decision, ms", "ask, ms"):
        table.add_column(heading, justify="right")
    with tempfile.TemporaryDirectory() as folder, written(Path(folder) / "log", 1000, POLICY, GOOD["low"]).store as log:
        place = copied(log, server.fresh())
    rounds = [
        {rate: speed(place, PROCESSES[-1], IN_FLIGHT[-1], seconds, rate) for rate in rates} for _ in range(ROUNDS)
    ]
    for rate in rates:
        columns = zip(*(each[rate] for each in rounds), strict=True)
        figures = [f"{statistics.median(of):.1f} ({min(of):.1f} to {max(of):.1f})" for of in columns]
        table.add_row(f"{rate:g}", *figures)
    return table


@dataclass(frozen=True, slots=True)
class Share:
    """The part of a trace's rows that one process routes; each row: its prompt, and satisfaction and cost by model."""

    models: Sequence[str]
    alpha: float
    rows: Sequence[tuple[str, Mapping[str, float], Mapping[str, float]]]


def routing(share: Share, place: str, ready: Barrier, done: Queue[tuple[float, float]]) -> None:
    """Route rows, and learn from each. Tell the satisfaction and the cost of all."""
    satisfied = cost = 0.0
    with messctl.open_router(list(share.models), place, policy=POLICY, alpha=share.alpha) as router:
        ready.wait()
        for prompt, levels, costs in share.rows:
            decision = router.decide(prompt)
            router.learn(decision, satisfied=levels[decision.served], cost=costs[decision.served])
            satisfied += levels[decision.served]
            cost += costs[decision.served]
    done.put((satisfied, cost))


def routed(shares: Sequence[Share], places: Sequence[str]) -> tuple[float, float]:
    """Return the attainment and the mean cost of processes, each with a share of the rows and the place of a state.

    All begin at once.
    """
    ready, done = Context.Barrier(len(shares)), Context.Queue()
    running = [
        Context.Process(target=routing, args=(share, place, ready, done))
        for share, place in zip(shares, places, strict=True)
    ]
    for process in running:
        process.start()
    found = [done.get() for _ in running]
    for process in running:
        process.join()
    count = sum(len(share.rows) for share in shares)
    satisfied, cost = (sum(column) for column in zip(*found, strict=True))
    return satisfied / count, cost / count


def promises(server: PostgresServer, file: Path, rows: int, orders: int) -> Table:
    """Route a trace in shuffled orders by one router, by four together, and by four apart."""
    trace = messctl.Trace.read(file)
    frame: Any = trace.to_pandas()
    models = list(trace.models)
    best = max(float(frame[f"satisfied/{name}"].mean()) for name in models)
    models.sort(key=lambda name: float(frame[f"satisfied/{name}"].mean()))
    alpha = round(SHARE * best, 4)
    table = Table(title=f"{file.stem}, α = {alpha}, {rows:,} requests in each of {orders} orders")
    for heading in ("routers", "attained", "worst", "met", "mean cost", "÷ one router"):
        table.add_column(heading, justify="left" if heading == "routers" else "right")
    found: dict[str, list[tuple[float, float]]] = {"one": [], "four, one state": [], "four, each its own": []}
    for seed in range(orders):
        some = frame.sample(n=rows, random_state=seed)
        listed = [
            (
                row["prompt"],
                {name: row[f"satisfied/{name}"] for name in models},
                {name: row[f"cost/{name}"] for name in models},
            )
            for row in some.to_dict("records")
        ]
        dealt = [Share(models, alpha, listed[start::4]) for start in range(4)]
        found["one"].append(routed([Share(models, alpha, listed)], [":memory:"]))
        address = f"{server.url}?schema={server.schema()}"
        found["four, one state"].append(routed(dealt, [address] * 4))
        found["four, each its own"].append(routed(dealt, [":memory:"] * 4))
    for name, ends in found.items():
        attained, costs = zip(*ends, strict=True)
        ratios = [cost / one for cost, (_, one) in zip(costs, found["one"], strict=True)]
        table.add_row(
            name,
            f"{statistics.mean(attained):.4f}",
            f"{min(attained):.4f}",
            f"{sum(each >= alpha for each in attained)} of {orders}",
            f"{statistics.mean(costs):.6f}",
            f"{statistics.mean(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
        )
    return table


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each case and round; 0: no speeds")
    parser.add_argument("--requests", default="1000,1000000", help="the sizes of the logs; empty: none")
    parser.add_argument("--rates", default="25,50,100,200", help="requests per second, for four processes")
    parser.add_argument("--trace", type=Path, default=Path("traces/box.parquet"))
    parser.add_argument("--rows", type=int, default=2000, help="how many rows of the trace; 0: no promises")
    parser.add_argument("--orders", type=int, default=5)
    arguments = parser.parse_args()
    console = Console(width=120)
    with PostgresServer(durable=True) as server:
        if arguments.seconds:
            sizes = [int(size) for size in arguments.requests.split(",") if size]
            rates = [float(rate) for rate in arguments.rates.split(",") if rate]
            if sizes:
                console.print(speeds(server, sizes, arguments.seconds))
            if rates:
                console.print(times_at(server, rates, arguments.seconds))
        if arguments.rows:
            console.print(promises(server, arguments.trace, arguments.rows, arguments.orders))
    console.print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
