"""llama.cpp as a shared library: loaded at first use, with its log kept for error messages.

llama.cpp has one log per process and writes it to stderr by default. Here nothing is printed: the last errors and the
lines about memory are kept, per thread.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from messctl.display.text import plain
from messctl.errors import BackendError, MissingExtraError

_INFO, _ERROR = 2, 4
_SPINS = "1000"
"""How often a thread looks whether the others are done before it sleeps. With more, a lone answer is no faster."""
_PREFIXES = re.compile(r"^(?:\w+: |error loading model: )+")
_GENERIC = ("failed to load model", "failed to initialize the context", "failed to read")


class _LogLines(threading.local):
    """The last lines of llama.cpp's log from this thread: errors, and where it put layers and buffers."""

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=8)
        self.placement: deque[str] = deque(maxlen=256)


class LlamaLibrary:
    """llama.cpp's C interface (`api`) and its log.

    `keep_loading` is the callback that ends the loading of a model after Ctrl-C. Raises MissingExtraError if
    llama-cpp-python is not installed, BackendError if it cannot be loaded.
    """

    def __init__(self) -> None:
        try:
            with _short_waits():
                self.api: Any = _bindings()
        except ModuleNotFoundError as error:
            raise MissingExtraError("llama-cpp-python", "llama", "answering with a GGUF model") from error
        except (OSError, RuntimeError) as error:
            why = plain(" ".join(str(error).split()))
            raise BackendError(f"llama-cpp-python is installed but does not load: {why}: reinstall it") from error
        self._lines = _LogLines()
        self._callback = self.api.llama_log_callback(self._on_log)  # llama.cpp keeps a bare pointer to it
        self.api.llama_log_set(self._callback, None)
        self.keep_loading = self.api.llama_progress_callback(self._on_progress)
        self.api.llama_backend_init()

    def _on_log(self, level: int, text: bytes, _user_data: object) -> None:
        if level == _ERROR:
            self._lines.errors.append(text.decode("utf-8", "replace"))
        elif level == _INFO and (b"buffer size" in text or b"offloaded" in text):
            self._lines.placement.append(text.decode("utf-8", "replace"))

    def _on_progress(self, _progress: float, _user_data: object) -> bool:
        return not _interrupts

    def model_params(self) -> Any:
        """Return llama.cpp's parameters for loading a model, with what keeps it from crashing on this processor.

        Many builds crash on processors with AMX: their compiler drops the set-up of AMX, see
        https://github.com/ggml-org/llama.cpp/pull/26954. There, weights are kept as they are in the file.
        """
        params = self.api.llama_model_default_params()
        if b"AMX_INT8 = 1" in self.api.llama_print_system_info():
            params.use_extra_bufts = False
        return params

    def clear_log(self) -> None:
        """Forget the log lines of this thread."""
        self._lines.errors.clear()
        self._lines.placement.clear()

    def placement_lines(self) -> list[str]:
        """Return this thread's log lines, since `clear_log`, about offloaded layers and buffers."""
        return list(self._lines.placement)

    def last_errors(self) -> str:
        """Return the errors in this thread's log since `clear_log`, on one line of at most 300 characters."""
        lines = [_PREFIXES.sub("", " ".join(line.split())) for line in self._lines.errors]
        specific = [line for line in lines if line and not line.startswith(_GENERIC)]
        return plain("; ".join(dict.fromkeys(specific)))[:300] or "llama.cpp gives no reason"


@contextmanager
def unprinted() -> Iterator[None]:
    """Drop what C code prints on standard error within the block: llama.cpp does not log what a grammar lacks.

    Only C's own stream leads elsewhere; Python's does not. Where its C library has no such stream, nothing changes.
    """
    with _printing:
        try:
            held = ctypes.c_void_p.in_dll(ctypes.CDLL(None), "stderr")
        except (ValueError, OSError, TypeError):
            yield
            return
        before, held.value = held.value, _nowhere()
        try:
            yield
        finally:
            held.value = before


@cache
def _nowhere() -> int | None:
    """Return a stream of C that drops what is written to it; one per process."""
    opened = ctypes.CDLL(None).fopen
    opened.restype = ctypes.c_void_p
    stream: int | None = opened(os.devnull.encode(), b"w")
    return stream


@contextmanager
def _short_waits() -> Iterator[None]:
    """Make the threads of llama.cpp, if it is loaded within, sleep soon when they wait for each other.

    GNU's OpenMP lets them spin for 3 ms. A spinning thread keeps the processor from the thread that it waits for, as
    soon as another process computes: two processes that answer at once then take up to ten times as long. Settings of
    the user's own stay. See benchmarks/README.md.
    """
    if not os.environ.keys().isdisjoint(("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")):
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = _SPINS
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]


def _bindings() -> Any:
    """Import the module with llama.cpp's C interface, without the rest of llama-cpp-python.

    The package's own import brings its chat formats and its class `Llama`, and takes longer than a small model's
    answer. So a bare package stands in while the module is imported.
    """
    package, name = "llama_cpp", "llama_cpp.llama_cpp"
    if package in sys.modules:
        return importlib.import_module(package).llama_cpp
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(name=package)
    sys.modules[package] = importlib.util.module_from_spec(spec)
    try:
        return importlib.import_module(name)
    finally:
        for part in [each for each in sys.modules if each == package or each.startswith(f"{package}.")]:
            del sys.modules[part]  # a later import of the whole package starts afresh


_interrupts: list[int] = []


def interrupted() -> bool:
    """Return whether a Ctrl-C came inside `interrupts_delayed` and still waits."""
    return bool(_interrupts)


@contextmanager
def interrupts_delayed() -> Iterator[None]:
    """Delay Ctrl-C to the end of the block: an exception inside a callback from llama.cpp would be lost.

    A model that loads with `LlamaLibrary.keep_loading` stops loading at once. Outside the main thread nothing is
    delayed, as Python raises KeyboardInterrupt in the main thread only.
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


_printing = threading.Lock()
_load_once = cache(LlamaLibrary)
_loading = threading.Lock()


def load_library() -> LlamaLibrary:
    """Return llama.cpp, loaded at the first call; there is one per process. Raises as `LlamaLibrary`."""
    with _loading:
        return _load_once()
