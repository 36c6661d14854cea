"""Measured energy: what the machine's energy counters count while a model answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from messctl.costs.counters import Counter, Span, wrap_around_s
from messctl.costs.meter import JOULE, Reading, TokenMeter
from messctl.errors import BackendError
from messctl.records import Completion, Cost
from messctl.zoo import SUBTRACTED, CostPerToken, ModelSpec

IDLE_S = 1.0
"""For how many seconds the idle draw is measured."""


class EnergyMeter:
    """The energy of whole devices, in joules, while a model is loaded and answers.

    counters: the energy counters of the devices.
    expected: estimates the costs per token in advance, and the cost of an answer that is too short for the counters.
    idle_w: watts to subtract. 0 leaves the idle draw in; SUBTRACTED measures it for IDLE_S before the first answer.
    Thread-safe. Each of several simultaneous answers costs all the energy of its time, and its quality is "shared".
    """

    unit = JOULE
    includes_loads = True

    def __init__(self, counters: Sequence[Counter], expected: TokenMeter, idle_w: float | str = 0.0) -> None:
        self._counters = tuple(counters)
        self._expected = expected
        self._stated_idle = idle_w
        self._idle_w: float | None = None if isinstance(idle_w, str) else idle_w
        self._lock = threading.Lock()
        self._running: set[_EnergyReading] = set()

    @property
    def source(self) -> str:
        """See `Meter`."""
        idle = self._stated_idle
        how = "subtracted" if idle == SUBTRACTED else f"of {idle:g} W subtracted" if idle else "included"
        return f"measured: {' + '.join(counter.name for counter in self._counters)}, idle draw {how}"

    def per_token(self, model: ModelSpec) -> CostPerToken:
        """See `Meter`. This is an estimate, not a measurement."""
        return self._expected.per_token(model)

    def idle_w(self) -> float:
        """Return the watts to subtract. They are measured by the first call, if they have to be."""
        if self._idle_w is None:
            spans = [Span(counter) for counter in self._counters]
            time.sleep(IDLE_S)
            for span in spans:
                span.update()
            self._idle_w = sum(span.joules()[0] / span.seconds for span in spans)
        return self._idle_w

    @contextmanager
    def measuring(self) -> Iterator[Reading]:
        """See `Meter`."""
        with self._lock:
            idle_w = self.idle_w()
            reading = _EnergyReading(self._counters, self._expected, idle_w)
            self._running.add(reading)
            if len(self._running) > 1:
                for each in self._running:
                    each.shared = True
        try:
            with reading.watched():
                yield reading
        finally:
            with self._lock:
                self._running.discard(reading)


class _EnergyReading:
    """What the counters count from the creation of the reading to the end of `watched`."""

    def __init__(self, counters: Sequence[Counter], expected: TokenMeter, idle_w: float) -> None:
        self.shared = any(counter.is_shared() for counter in counters)
        self._counters, self._expected, self._idle_w = counters, expected, idle_w
        self._spans = [Span(counter) for counter in counters]
        self._failed: BackendError | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Sample all counters at the end, and before that as often as one could wrap around."""
        done = threading.Event()
        interval_s = wrap_around_s(self._counters)
        watcher = threading.Thread(target=self._watch, args=(done, interval_s), daemon=True)
        if interval_s is not None:
            watcher.start()
        try:
            yield
        finally:
            done.set()
            if interval_s is not None:
                watcher.join()
            self._update()
            self.shared = self.shared or any(counter.is_shared() for counter in self._counters)

    def _watch(self, done: threading.Event, interval_s: float) -> None:
        while not done.wait(interval_s):
            self._update()

    def _update(self) -> None:
        try:
            for span in self._spans:
                span.update()
        except BackendError as error:
            self._failed = self._failed or error

    def cost(self, model: ModelSpec, completion: Completion) -> Cost:
        """See `Reading`. A model at a server costs what its tokens cost, since no counter here sees that server."""
        if model.url is not None:
            return Cost(self._expected.cost(model, completion), self._expected.quality(model))
        if self._failed:
            raise self._failed
        measured = [span.joules() for span in self._spans]
        used = [joules - self._share(span.seconds) for (joules, _), span in zip(measured, self._spans, strict=True)]
        if sum(used) <= 0.0 or any(joules <= 0.0 for joules, _ in measured):
            return Cost(self._expected.cost(model, completion), "estimated")
        if not all(counted for _, counted in measured):
            return Cost(sum(used), "estimated")
        return Cost(sum(used), "shared" if self.shared else "measured")

    def _share(self, seconds: float) -> float:
        return self._idle_w * seconds / len(self._spans)
