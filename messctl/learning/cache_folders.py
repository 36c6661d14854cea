"""Where messctl may keep what it can compute again: the user's cache folder, or one beside the state.

A service has no home folder, and its installation is read-only. Then only the folder of its state is left.
"""

from __future__ import annotations

import os
from pathlib import Path


def cache_folders() -> list[Path]:
    """Return the folders to try, the best first. They may not exist, and there may be none."""
    return [*_users_own(), *_beside_the_state()]


def _users_own() -> list[Path]:
    import platformdirs  # noqa: PLC0415  # only who caches needs it

    try:
        own = Path(platformdirs.user_cache_dir("messctl", appauthor=False))
    except RuntimeError:  # the user has no home folder
        return []
    return [own] if own.is_absolute() else []  # some versions leave the ~ of such a user


def _beside_the_state() -> list[Path]:
    state = os.environ.get("MESSCTL_STATE")
    return [Path(state).absolute().parent / "messctl-cache"] if state else []
