"""Compiled functions: each runs as plain Python at first, and compiled by numba once that pays. Both give the same.

To import numba and to load what it compiled takes a third of a second, and a single decision in plain Python a few
thousandths. So a process that decides once never compiles; one that decides often does after `PLAIN_CALLS`.

The two agree to the last bit, so a compiled function may only use what is exact in both: sums in one written order,
whole numbers within 64 bits, and `math` for powers, roots, exponentials and logarithms. NumPy's own differ in the last
bit, and its sums add in pairs. There is no fast-math.

numba keeps what it compiled on disk, see `messctl.learning.compiled_files`. Without a folder for that, a function that
Python calls one request at a time stays plain, because to compile it anew in every process would not pay.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar

import numpy as np

from messctl.errors import UsageError, shortage
from messctl.learning.compiled_files import VARIABLE, keep, kept_in

P = ParamSpec("P")
R = TypeVar("R")

_PLAIN_MESSAGES = "NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING"
PLAIN_CALLS = 100
"""[calls] As many decisions in plain Python take as long as loading what was compiled before."""


def compiled(function: Callable[P, R]) -> Compiled[P, R]:
    """Return `function`, which Python calls one request at a time: compiled after PLAIN_CALLS calls."""
    return Compiled(function, PLAIN_CALLS)


def compiled_loop(function: Callable[P, R]) -> Compiled[P, R]:
    """Return `function`, which loops over many requests: compiled at its first call."""
    return Compiled(function, 0)


def inlined(function: Callable[P, R]) -> Compiled[P, R]:
    """Compile `function` into each compiled function that calls it; it may return what no call can, such as records."""
    return Compiled(function, PLAIN_CALLS, inline="always")


class _Running(threading.local):
    """Whether this thread is within the plain form of a compiled function, and whether it is to compile `at_once`."""

    plain = False
    at_once = False


_running = _Running()


@contextmanager
def plainly() -> Iterator[None]:
    """Run every compiled function within the block in its plain form, as one that Python calls seldom runs."""
    before, _running.plain = _running.plain, True
    try:
        with np.errstate(all="ignore"):  # as in compiled code, where 1.0 / 0.0 is infinite
            yield
    finally:
        _running.plain = before


@contextmanager
def at_once() -> Iterator[None]:
    """Compile every function that is called within the block, or load it: a process that serves calls it often."""
    before, _running.at_once = _running.at_once, True
    try:
        yield
    finally:
        _running.at_once = before


@contextmanager
def compiling_told(tell: Callable[[str], None]) -> Iterator[None]:
    """Call `tell` with one line whenever numba starts to compile within the block; to load is not to compile."""
    _import_numba()
    from numba.core import event  # noqa: PLC0415  # importing it takes longer than a decision in plain Python

    class Listener(event.Listener):  # type: ignore[misc]  # numba has no types
        def on_start(self, _event: object) -> None:
            tell("compiling, once after installing" if kept_in() else "compiling; no folder can keep the result")

        def on_end(self, _event: object) -> None:
            pass

    with event.install_listener("numba:compile", Listener()):
        yield


def _import_numba() -> None:
    """Import numba. Raises UsageError if it refuses a setting, in a variable or in a file of the current folder."""
    # If colorama is installed, numba makes it write an escape sequence to stdout when the process ends.
    os.environ.setdefault(_PLAIN_MESSAGES, "1")
    try:
        importlib.import_module("numba")
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        if shortage(error):
            raise
        given = {name for name in os.environ if name.startswith("NUMBA_")} - {_PLAIN_MESSAGES, VARIABLE}
        where = ", ".join(sorted(given)) or ".numba_config.yaml in this folder"
        raise UsageError(f"numba refuses a setting ({' '.join(str(error).split())}); correct {where}") from error


class Compiled(Generic[P, R]):
    """A function in two forms. Python calls the plain one `plain_calls` times, and the compiled one after that.

    A plain function calls the plain form of others, and a compiled one their compiled form.
    """

    def __init__(self, function: Callable[P, R], plain_calls: int, **options: str | bool) -> None:
        self.plain = function
        self._plain_calls = self._plain_calls_left = plain_calls
        self._options = options
        update_wrapper(self, function)

    def __call__(self, *arguments: P.args, **named: P.kwargs) -> R:
        """Call the function in the form that pays."""
        if _running.plain:
            return self.plain(*arguments, **named)
        if _running.at_once:
            self._plain_calls_left = 0
        if self._plain_calls_left <= 0 and self._pays:
            compiled_result: R = self.dispatcher(*arguments, **named)
            return compiled_result
        self._plain_calls_left -= 1
        with plainly():
            return self.plain(*arguments, **named)

    @cached_property
    def _pays(self) -> bool:
        """Whether to compile the function, once it was called often enough."""
        return self._plain_calls == 0 or kept_in() is not None

    @cached_property
    def dispatcher(self) -> Any:
        """The compiled form."""
        _import_numba()
        from numba import njit  # noqa: PLC0415  # importing it takes longer than a decision in plain Python

        made = njit(error_model="numpy", nogil=True, **self._options)(self.plain)
        if not self._options:  # what is inlined is kept with its callers
            keep(made)
        return made

    # What numba asks of a function that a compiled one calls.

    @property
    def _numba_type_(self) -> Any:
        return self.dispatcher._numba_type_  # numba's protocol

    @property
    def targetoptions(self) -> Any:
        """How numba is to treat calls, such as to inline them."""
        return self.dispatcher.targetoptions

    @property
    def py_func(self) -> Any:
        """The plain form, under numba's name."""
        return self.plain
