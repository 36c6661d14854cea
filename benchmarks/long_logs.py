"""What `ask`, `feedback`, `status`, `log` and the page of `serve` take with long logs, as ratios to the shortest log.

    python benchmarks/long_logs.py [--requests 1000,1000000] [--rounds 25] [--policy messplus] [--debt low]

Each log is a real file, in which every request has an answer and feedback; a scripted model answers at once. The logs
are measured in turns: in each round every action once per log. `--debt high` makes logs whose answers are mostly bad,
so that the debt only grows: then the correction of the oldest feedback changes the queue after all others. With `--debt
steady` the debt stays near 16, a power of two, where floats change their spacing: that is the longest way to correct.
Of each time there are two tables: by the clock, which includes the wait for the disk and for other programs, and of the
processor.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from messctl.backends import Scripted
from messctl.costs.meter_choice import meter_for
from messctl.live.router import Router
from messctl.records import Question
from messctl.server.history import History
from messctl.state.request_log import ADD_ANSWER
from messctl.state.store import Store
from messctl.zoo import PACKAGED_FILE, load_zoo

GOOD = {"low": (0.9, 0.9), "high": (0.5, 0.5), "steady": (0.7, 0.9)}
"""The share of good answers in the log at a debt below and above `LEVEL`, by what it leaves of a debt."""
LEVEL = 16.0


class Milliseconds(NamedTuple):
    """How long an action took."""

    clock: float
    processor: float


@dataclass(frozen=True, slots=True)
class Log:
    """A log of a number of requests, and a router over it."""

    size: int
    store: Store
    router: Router
    history: History

    def timed(self, rng: random.Random) -> dict[str, Milliseconds]:
        """Do everything once, and return how long each took."""
        near, far = rng.randrange(self.size * 9 // 10, self.size), rng.randrange(self.size // 20)
        coin = float(rng.random() < 0.5)
        answered = self.router.ask(Question(f"What is {near}?")).decision.request.request_id
        actions: dict[str, Callable[[], object]] = {
            "ask": lambda: self.router.ask(Question(f"What is {far} + {near}?")),
            "ask, graded": lambda: self.router.ask(Question(f"What is {near} + {far}?"), grader=lambda _: coin),
            "feedback, first": lambda: self.router.feedback(answered, coin),
            "page, after that": self._look,
            "feedback, corrected, newest": lambda: self.router.feedback(answered, 1.0 - coin),
            "feedback, corrected, old": lambda: self._correct(far),
            "feedback, corrected, oldest": lambda: self._correct(0),
            "status": self.router.ledger,
            "log": lambda: self.store.requests.newest(10),
            "log, before an old one": lambda: self.store.requests.newest(10, f"request-{far:07}"),
            "page, first look": self._first_look,
            "page, after corrections": self._look,
        }
        return {name: _milliseconds(action) for name, action in actions.items()}

    def _first_look(self) -> None:
        history = History(self.store.path)
        history.curve()
        history.close()

    def _look(self) -> None:
        self.history.curve()
        self.history.latencies()
        self.history.newest(20)

    def _correct(self, number: int) -> None:
        logged = self.store.requests.find(f"request-{number:07}")
        assert logged.satisfied is not None
        self.router.feedback(logged.decision.request.request_id, 1.0 - logged.satisfied)


def _milliseconds(action: Callable[[], object]) -> Milliseconds:
    clock, processor = time.perf_counter(), time.process_time()
    action()
    return Milliseconds(1000 * (time.perf_counter() - clock), 1000 * (time.process_time() - processor))


def satisfactions(size: int, alpha: float, good: tuple[float, float], rng: random.Random) -> list[float]:
    """Return whether each answer is good, with a chance that depends on the debt so far."""
    queue, drawn = 0.0, []
    for _ in range(size):
        drawn.append(float(rng.random() < good[queue > LEVEL]))
        queue = max(0.0, queue + alpha - drawn[-1])
    return drawn


def written(path: Path, size: int, policy: str, good: tuple[float, float]) -> Log:
    """Write a log of `size` requests to a new file, and open it."""
    zoo = load_zoo(PACKAGED_FILE)
    meter, names = meter_for(zoo), [model.name for model in zoo.models]
    store = Store(path)
    settings = replace(zoo.settings, policy=policy)
    backend = Scripted(dict.fromkeys(names, "forty-two"))
    router = Router({model.name: model for model in zoo.models}, settings, backend, meter, store)
    for index in range(20):
        router.ask(Question(f"What is {index}?"), grader=lambda _: 1.0)
    known = store.policy.snapshot(policy)
    rng = random.Random(size)
    served = rng.choices(names, k=size)
    first = store.requests.count() + 1
    ids = range(first, first + size)
    with store.transaction():
        store.database.execute_many(
            "INSERT INTO requests (id, request_id, asked_at, prompt, policy, request_number, served, explored, forced, "
            "gradable, alpha, p_explore, propensity, queue, cost_unit, meter, characters, others) "
            "VALUES (?, ?, 1.7e9, ?, ?, ?, ?, 0, 0, 1, ?, 0.0, 0.5, 0.0, ?, ?, 30, 0)",
            (
                (key, f"request-{number:07}", f"What is {number} + {size}, please?", policy, known.decided + number + 1,
                 served[number], settings.aim, meter.unit, meter.source)
                for number, key in enumerate(ids)
            ),
        )  # fmt: skip
        good_ones = satisfactions(size, settings.aim, good, rng)
        store.database.execute_many(
            ADD_ANSWER,
            (
                (key, model, "forty-two", rng.random(), 0.1, 8, 2, satisfied, "estimated", "stop", None)
                for key, model, satisfied in zip(ids, served, good_ones, strict=True)
            ),
        )
        store.database.execute_many(
            "INSERT INTO feedback (request, satisfied, given_at) VALUES (?, ?, 1.7e9)", zip(ids, good_ones, strict=True)
        )
        store.requests.fill()
        queue, balance = store.requests.queue(), store.requests.balance()
        store.policy.save(replace(known, decided=known.decided + size, queue=queue, balance=balance))
    return Log(size, store, router, History(path))


def _table(title: str, rounds: list[dict[int, dict[str, float]]]) -> Table:
    """Return the medians of all rounds in milliseconds, by size and action, and the ratios of the longest log."""
    sizes = list(rounds[0])
    first, last = sizes[0], sizes[-1]
    table = Table(title=f"{title}, {len(rounds)} rounds, milliseconds")
    for heading in ("action", *(f"{size:,}" for size in sizes), "ratio of the same round (median, quartiles)"):
        table.add_column(heading, justify="left" if heading == "action" else "right")
    for action in rounds[0][first]:
        medians = [statistics.median(each[size][action] for each in rounds) for size in sizes]
        low, middle, high = statistics.quantiles([each[last][action] / each[first][action] for each in rounds])
        table.add_row(action, *(f"{median:.2f}" for median in medians), f"{middle:.2f} ({low:.2f} to {high:.2f})")
    return table


def main() -> None:
    """Write the logs, measure in turns, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", default="1000,1000000")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--policy", default="messplus")
    parser.add_argument("--debt", choices=sorted(GOOD), default="low")
    arguments = parser.parse_args()
    rng = random.Random(1)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        logs = []
        for size in map(int, arguments.requests.split(",")):
            log = written(folder / str(size), size, arguments.policy, GOOD[arguments.debt])
            logs.append(log)
            stack.enter_context(log.store)
        for log in logs:
            log.timed(rng)
        rounds = [{log.size: log.timed(rng) for log in logs} for _ in range(arguments.rounds)]
        for log in logs:
            assert log.store.check() == [], log.size
    console = Console(width=120)
    for which in Milliseconds._fields:
        times = [
            {size: {name: getattr(ms, which) for name, ms in of.items()} for size, of in each.items()}
            for each in rounds
        ]
        console.print(_table(f"{arguments.policy}, {arguments.debt} debt: {which}", times))
    console.print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
