"""Energy counters: what one is, and the energy between two looks at it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from messctl.errors import BackendError

MOST_WATTS = 2000.0
"""No single device that is counted draws more; so often must a counter be looked at that wraps around."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a counter: when (`at_s`, a monotonic clock), what it showed, and the power drawn, if known."""

    at_s: float
    count: int
    watts: float | None = None


class Counter(Protocol):
    """An energy counter of one device. It only grows, but for the wrap-around where there is one."""

    @property
    def name(self) -> str:
        """What is counted, for people."""

    @property
    def joules_per_count(self) -> float:
        """The unit of what the counter shows."""

    @property
    def range(self) -> int | None:
        """How many values it has: the one after the last is 0 again. None where it never wraps around."""

    @property
    def step_s(self) -> float:
        """How long it may show the same, while energy is used."""

    def sample(self) -> Sample:
        """Look at it. Raises BackendError where it cannot be read, with what would help."""

    def others(self) -> bool:
        """Return whether another process uses the device, as far as that can be known."""


def counts_between(counter: Counter, before: Sample, after: Sample) -> int:
    """Return how far a counter went from one look to the next, ≥ 0; at most once around.

    Raises BackendError where one that does not wrap around went back, as when its driver was started anew.
    """
    difference = after.count - before.count
    if counter.range is not None:
        return difference % counter.range
    if difference < 0:
        raise BackendError(f"{counter.name}: the energy counter was reset while a model answered; ask again")
    return difference


def longest_unseen_s(counters: Iterable[Counter]) -> float | None:
    """Return how long none of the counters can go once around; None where none ever does."""
    ranges = [counter.range * counter.joules_per_count for counter in counters if counter.range is not None]
    return min(ranges) / MOST_WATTS if ranges else None


class Span:
    """What one counter counts from the making of this to its `stop`; `look` in between never changes the sum."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._first = self._last = counter.sample()
        self._counts = 0

    def look(self) -> None:
        """Take what was counted since the last look."""
        latest = self._counter.sample()
        self._counts += counts_between(self._counter, self._last, latest)
        self._last = latest

    @property
    def seconds(self) -> float:
        """From the first look to the last."""
        return self._last.at_s - self._first.at_s

    def joules(self) -> tuple[float, bool]:
        """Return the energy, and whether it was counted.

        A time shorter than the counter's step is not: what is told then is the power drawn, the mean of the first
        look and the last, times the time; nothing where the device does not tell its power.
        """
        if self._counts and self.seconds >= self._counter.step_s:
            return self._counts * self._counter.joules_per_count, True
        powers = [sample.watts for sample in (self._first, self._last) if sample.watts is not None]
        if not powers:
            return 0.0, False
        return sum(powers) / len(powers) * self.seconds, False
