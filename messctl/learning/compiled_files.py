"""The folder in which compiled functions are kept: one that belongs to this user, or none.

numba reads what it kept with pickle, which runs what is in the file. So nobody else may be able to write there.

- If NUMBA_CACHE_DIR is set, the folder is there, whoever it belongs to.
- Otherwise the folder is in one of `cache_folders`, if it is this user's own.
- The folder's name depends on the code, so that nothing of another version is loaded.
- A file that cannot be read or written is no error: the function is compiled again.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from messctl.learning.cache_folders import cache_folders
from messctl.trust import make_private

PACKAGE = Path(__file__).parents[1]
ROOMS = ("learning", "policies", "tune")
"""The parts of the package with compiled functions."""
VARIABLE = "NUMBA_CACHE_DIR"


@cache
def kept_in() -> Path | None:
    """Return the folder in which this process keeps what it compiles, made if it did not exist; None if none is fit."""
    name = f"compiled-{_version()}"
    chosen = os.environ.get(VARIABLE)
    if chosen:
        with suppress(OSError):
            folder = Path(chosen).absolute() / name
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.access(folder, os.W_OK | os.X_OK):
                return folder
    for base in cache_folders():
        with suppress(OSError):
            folder = base / name
            if make_private(base) and make_private(folder):
                return folder
    return None


def keep(dispatcher: Any) -> None:
    """Let a numba dispatcher keep what it compiles in `kept_in()`, if there is such a folder.

    With NUMBA_DISABLE_JIT it is a plain function, and nothing is compiled.
    """
    folder = kept_in()
    if folder is None or not hasattr(dispatcher, "py_func"):
        return
    from numba.core import caching, config  # noqa: PLC0415  # importing it takes longer than a decision in plain Python

    class Files(caching.FunctionCache):  # type: ignore[misc]  # numba has no types
        """numba's files, without its errors: a disk may be full, and a file cut short."""

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            with suppress(Exception):
                return super().load_overload(sig, target_context)
            return None

        def save_overload(self, sig: Any, data: Any) -> None:
            with suppress(Exception):
                super().save_overload(sig, data)

    # numba may have read other values from a file in the current folder.
    config.CACHE_DIR, config.CACHE_LOCATOR_CLASSES = str(folder), ""
    with suppress(RuntimeError, OSError):  # the folder is gone
        dispatcher._cache = Files(dispatcher.py_func)


def _version() -> str:
    """Return a digest of all code that may be compiled."""
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(file for room in ROOMS for file in (PACKAGE / room).rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
