"""llama.cpp itself: found when it is first needed, and kept quiet.

llama.cpp has one log per process, and would write it to stderr. `Library` listens to it instead: what went wrong
is kept for the message of an exception, and nothing is written anywhere.
"""

from __future__ import annotations

import importlib
import re
import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from messctl.display.text import plain
from messctl.errors import BackendError, MissingExtraError

_INFO, _ERROR = 2, 4
_PREFIXES = re.compile(r"^(?:\w+: |error loading model: )+")
_GENERIC = ("failed to load model", "failed to initialize the context", "failed to read")


class _Lines(threading.local):
    """The last errors that llama.cpp reported in this thread, and where it put things: threads' messages never mix."""

    def __init__(self) -> None:
        self.last: deque[str] = deque(maxlen=8)
        self.placed: deque[str] = deque(maxlen=256)


class Library:
    """The C interface of llama.cpp (`api`), and what it last complained of."""

    def __init__(self) -> None:
        try:
            self.api: Any = importlib.import_module("llama_cpp").llama_cpp
        except ModuleNotFoundError as error:
            raise MissingExtraError("llama-cpp-python", "llama", "answering with a GGUF model") from error
        except (OSError, RuntimeError) as error:
            why = plain(" ".join(str(error).split()))
            raise BackendError(f"llama-cpp-python is installed but does not start: {why}: reinstall it") from error
        self._lines = _Lines()
        self._callback = self.api.llama_log_callback(self._hear)  # llama.cpp keeps a bare pointer to it
        self.api.llama_log_set(self._callback, None)
        self.go_on = self.api.llama_progress_callback(self._goes_on)
        self.api.llama_backend_init()

    def _hear(self, level: int, text: bytes, _user_data: object) -> None:
        if level == _ERROR:
            self._lines.last.append(text.decode("utf-8", "replace"))
        elif level == _INFO and (b"buffer size" in text or b"offloaded" in text):
            self._lines.placed.append(text.decode("utf-8", "replace"))

    def _goes_on(self, _progress: float, _user_data: object) -> bool:
        return not _interrupts

    def listen(self) -> None:
        """Forget what this thread has heard so far."""
        self._lines.last.clear()
        self._lines.placed.clear()

    def report(self) -> list[str]:
        """Return what llama.cpp has said in this thread, since `listen`, on layers offloaded and buffers made."""
        return list(self._lines.placed)

    def complaint(self) -> str:
        """Return what llama.cpp has complained of in this thread since `listen`, in one line."""
        said = [_PREFIXES.sub("", " ".join(line.split())) for line in self._lines.last]
        told = [line for line in said if line and not line.startswith(_GENERIC)]
        return plain("; ".join(dict.fromkeys(told)))[:300] or "llama.cpp gives no reason"


_interrupts: list[int] = []


def interrupted() -> bool:
    """Whether Ctrl-C is being held back."""
    return bool(_interrupts)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back until the block ends, as it must while llama.cpp calls back: there it would be lost.

    A model that is being loaded with `Library.go_on` is given up at once. Python interrupts the main thread alone.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield
        return
    _interrupts.clear()
    signal.signal(signal.SIGINT, lambda number, _frame: _interrupts.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if _interrupts:
            _interrupts.clear()
            signal.raise_signal(signal.SIGINT)


_found = cache(Library)
_finding = threading.Lock()


def library() -> Library:
    """Return the process's llama.cpp; its log is one per process, and so is this."""
    with _finding:
        return _found()
