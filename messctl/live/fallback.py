"""A router to fall back on while the state cannot be reached. It routes by what was known, and nothing is stored."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from messctl.errors import StoreError
from messctl.live.router import Answered, Router

AGAIN_S = 2.0
"""For so long the state is left alone after it could not be reached; until then no request waits for it."""

Ask = Callable[[Router], Answered]


class Fallback:
    """Lets a `router` answer, or without its state a copy of it in memory. Thread-safe.

    The copy knows what the router knew when it last read or saved its state. It learns for as long as the state is
    away, and is then forgotten. `tell` gets the error that begins an outage.
    """

    def __init__(self, router: Router, tell: Callable[[str], None] = lambda _: None) -> None:
        self._router = router
        self._tell = tell
        self._alone: Router | None = None
        self._again_at = 0.0
        self._lock = threading.Lock()

    def answer(self, ask: Ask, shown: Callable[[], bool]) -> Answered:
        """Return what the router answers. If its state is away, the answer says that it is `degraded`.

        If part of an answer was `shown` already, the StoreError is raised.
        """
        with self._lock:
            now = time.monotonic()
            alone = self._alone if now < self._again_at else None
            if self._alone is not None and alone is None:
                self._again_at = now + AGAIN_S  # this request looks for the state, and the others do not wait for it
        if alone is None:
            try:
                answered = ask(self._router)
            except StoreError as error:
                if shown():
                    raise
                alone = self._away(error)
            else:
                with self._lock:
                    self._alone = None
                return answered
        return replace(ask(alone), degraded=True)

    def _away(self, error: StoreError) -> Router:
        with self._lock:
            self._again_at = time.monotonic() + AGAIN_S
            if self._alone is None:
                self._alone = self._router.in_memory()
                self._tell(f"{error}; until then requests are routed by what was known, and not stored")
            return self._alone
