"""The one way in which this project compiles a function.

Compiled once per machine and cached on disk. No fast-math: a sum has one order and one result, so that
replay and live, and two runs of either, agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile `function` on its first call; types stay as annotated."""
    return njit(cache=True, error_model="numpy", nogil=True)(function)
