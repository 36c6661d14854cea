"""The history of a promise, read beside the router: how it stood over time, and what the latest requests were like.

It has a connection of its own that only reads. So it keeps no request waiting, and sees what other processes write.
"""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from dataclasses import dataclass

from messctl.state.curve import Curve
from messctl.state.database import Row
from messctl.state.place import Place
from messctl.state.request_log import LoggedRequest
from messctl.state.store import Store

RECENT = 1000
"""The number of latest requests whose latencies count."""
LATENCIES = (
    "SELECT served, latency_s FROM requests JOIN answers ON request = requests.id AND model = served "
    "WHERE requests.id > (SELECT coalesce(max(id), 0) - ? FROM requests) AND latency_s IS NOT NULL"
)


@dataclass(frozen=True, slots=True)
class Latency:
    """How long the latest answers of a model took, in seconds: the median, and the 95th percentile."""

    answers: int
    median_s: float
    p95_s: float

    @classmethod
    def of(cls, seconds: list[float]) -> Latency:
        """Compute it from at least one latency."""
        ordered = sorted(seconds)
        last = len(ordered) - 1
        return cls(len(ordered), ordered[last // 2], ordered[math.ceil(last * 0.95)])


class History:
    """The history in the state at a place. Thread-safe. Every method raises StoreError."""

    def __init__(self, path: Place) -> None:
        self._store = Store(path, looking=True)
        self._database = self._store.database
        self._curve = Curve()
        self._alone = threading.Lock()

    def stamp(self) -> tuple[int, int]:
        """Return what changes if anything is written to the state."""
        with self._alone:
            return self._database.stamp

    def curve(self) -> dict[str, list[float]]:
        """Return, a list each: the times, and what was attained, certain and owed then, and over how many answers."""
        with self._alone, self._database.unchanging():
            points = self._curve.follow(self._database)
        return {
            "at": [round(point.at, 3) for point in points],
            "judged": [point.judged for point in points],
            "attained": [round(point.satisfied / point.judged, 6) for point in points],
            "certificate": [round((point.alpha - point.queue) / point.judged, 6) for point in points],
            "queue": [round(point.queue, 6) for point in points],
        }

    def latencies(self) -> dict[str, Latency]:
        """Return, by model, how long the served ones of the latest answers took."""
        seconds: defaultdict[str, list[float]] = defaultdict(list)
        with self._alone, self._database.unchanging():
            for model, latency in self._database.read(_latency, LATENCIES, (RECENT,)):
                seconds[model].append(latency)
        return {model: Latency.of(each) for model, each in sorted(seconds.items())}

    def newest(self, count: int) -> list[LoggedRequest]:
        """Return the newest requests, the newest first."""
        with self._alone, self._store.unchanging():
            return self._store.requests.newest(count)[::-1]

    def close(self) -> None:
        """Close the file."""
        with self._alone:
            self._store.close()


def _latency(row: Row) -> tuple[str, float]:
    model, seconds = row
    if not isinstance(model, str) or not math.isfinite(seconds):
        raise ValueError(f"the latency of model {model!r} is {seconds!r}")
    return model, float(seconds)
