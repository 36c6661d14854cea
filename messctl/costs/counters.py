"""Energy counters, and the energy between two samples of one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from messctl.errors import BackendError

MOST_WATTS = 2000.0
"""No measured device draws more. This sets how often a counter that wraps around must be sampled."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of a counter: the time (`at_s`, by a monotonic clock), the count, and the power draw if known."""

    at_s: float
    count: int
    watts: float | None = None


class Counter(Protocol):
    """The energy counter of one device. It only grows, except when it wraps around."""

    @property
    def name(self) -> str:
        """The name of the counter, for people."""

    @property
    def joules_per_count(self) -> float:
        """The energy of one count, in joules."""

    @property
    def range(self) -> int | None:
        """The number of its values; the last one is followed by 0. None if it never wraps around."""

    @property
    def step_s(self) -> float:
        """The time between two updates of the counter, in seconds."""

    def sample(self) -> Sample:
        """Read the counter. Raises BackendError, which names a remedy, if it cannot be read."""

    def is_shared(self) -> bool:
        """Return whether another process uses the device, as far as that is known."""


def counts_between(counter: Counter, before: Sample, after: Sample) -> int:
    """Return the counts between two samples, ≥ 0. The counter must have wrapped around at most once.

    Raises BackendError if a counter that never wraps around went back, for example after a restart of its driver.
    """
    difference = after.count - before.count
    if counter.range is not None:
        return difference % counter.range
    if difference < 0:
        raise BackendError(f"{counter.name}: the energy counter was reset while a model answered; ask again")
    return difference


def wrap_around_s(counters: Iterable[Counter]) -> float | None:
    """Return the shortest time in which a counter can wrap around, in seconds; None if none ever does."""
    ranges = [counter.range * counter.joules_per_count for counter in counters if counter.range is not None]
    return min(ranges) / MOST_WATTS if ranges else None


class Span:
    """What one counter counts from the creation of the span to the last `update`. More updates change nothing."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._first = self._last = counter.sample()
        self._counts = 0

    def update(self) -> None:
        """Sample the counter, and add what it counted since the last sample."""
        latest = self._counter.sample()
        self._counts += counts_between(self._counter, self._last, latest)
        self._last = latest

    @property
    def seconds(self) -> float:
        """The time from the first sample to the last."""
        return self._last.at_s - self._first.at_s

    def joules(self) -> tuple[float, bool]:
        """Return the energy in joules, and whether the counter measured it.

        In a time shorter than the counter's step, the energy is an estimate: the mean power of the first and the last
        sample × the time. It is 0 if the device does not report its power.
        """
        if self._counts and self.seconds >= self._counter.step_s:
            return self._counts * self._counter.joules_per_count, True
        powers = [sample.watts for sample in (self._first, self._last) if sample.watts is not None]
        if not powers:
            return 0.0, False
        return sum(powers) / len(powers) * self.seconds, False
