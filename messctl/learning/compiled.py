"""The one way in which this project compiles a function.

Compiled once per machine and cached on disk. No fast-math: a sum has one order and one result, so that
replay and live, and two runs of either, agree to the last bit.

numba compiles a function again when its own file changes, and not when that of a function that it calls does. Whoever
edits the code, or pulls another version into a checkout, clears the cache: `make dev` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

# Where colorama is installed, numba would have it write an escape sequence to stdout when the process ends.
os.environ.setdefault("NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING", "1")
from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile `function` on its first call; types stay as annotated."""
    return njit(cache=True, error_model="numpy", nogil=True)(function)
