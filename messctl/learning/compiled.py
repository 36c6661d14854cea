"""`compiled`: the decorator by which this project compiles a function, with numba.

A function is compiled once per machine and cached on disk. There is no fast-math: a sum has one order and one result,
so that replay and live use agree to the last bit, and so do two runs of either.

numba compiles a function again when its own file changes, but not when the file of a function that it calls changes.
Clear the cache after editing the code or pulling another version: `make dev` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

# If colorama is installed, numba makes it write an escape sequence to stdout when the process ends.
os.environ.setdefault("NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING", "1")
from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Return `function`, compiled on its first call for the types that it is called with."""
    return njit(cache=True, error_model="numpy", nogil=True)(function)


def inlined(function: F) -> F:
    """Compile `function` into each compiled function that calls it; it may return what no call can, such as records."""
    return njit(inline="always", error_model="numpy", nogil=True)(function)
