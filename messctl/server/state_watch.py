"""The watch over the state: whether it can be used now, and the line about it in the server's own output."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from messctl.display.text import plain
from messctl.errors import StoreError

AGAIN_S = 2.0
"""For so long what is known of the state is taken to be true."""
PATIENCE_S = 1.0
"""How long the state may take to answer."""
SAID_S = 600.0
"""How soon the server's own output says again what is still wrong with the state."""
MOST_SAID = 16
SILENT = f"the state has not answered for {PATIENCE_S:g} s; see that its database runs and can be reached"


class StateWatch:
    """Whether requests can be stored. Thread-safe.

    Requests say how it went. If none has, `check` asks the state, which raises StoreError if it cannot be used. It is
    called at most every AGAIN_S, by one thread, however many ask: a database that is away gets one connection at most.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="messctl-state")
        self._lock = threading.Lock()
        self._looking: Future[str | None] | None = None
        self._known: str | None = None
        self._known_until = 0.0
        self._said: dict[str, float] = {}

    def problem(self) -> str | None:
        """Return why the state cannot be used, and what to do about it; None if it can. Takes PATIENCE_S at most."""
        with self._lock:
            if time.monotonic() < self._known_until:
                return self._known
            looking = self._looking = self._looking or self._pool.submit(self._look)
        try:
            return looking.result(PATIENCE_S)
        except TimeoutError:
            with self._lock:
                if self._looking is looking:
                    self._know(SILENT)
            return SILENT

    def worked(self) -> None:
        """Note that a request was stored."""
        with self._lock:
            self._know(None)

    def failed(self, error: StoreError) -> None:
        """Note that a request could not be stored, or something not be read; the server's own output says so.

        It says a line once in SAID_S: the server goes on, and nobody may look at its answers.
        """
        text, now = plain(str(error)), time.monotonic()
        with self._lock:
            if self._known is None:
                self._known_until = 0.0
            said_at = self._said.pop(text, None)
            new = said_at is None or now - said_at >= SAID_S
            self._said[text] = now if new or said_at is None else said_at
            if len(self._said) > MOST_SAID:
                del self._said[next(iter(self._said))]
        if new:
            sys.stderr.write(f"messctl: {text}\n")

    def close(self) -> None:
        """Ask the state no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _look(self) -> str | None:
        problem = None
        try:
            self._check()
        except StoreError as error:
            self.failed(error)
            problem = plain(str(error))
        finally:
            with self._lock:
                self._looking = None
        with self._lock:
            self._know(problem)
        return problem

    def _know(self, problem: str | None) -> None:
        self._known, self._known_until = problem, time.monotonic() + AGAIN_S
