"""Whose files are these: folders of this user's own, and files and links that somebody else may have planted.

Files of this user and of root are trusted. Where the system has no owners of files, all are.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

WRITABLE = stat.S_IWGRP | stat.S_IWOTH
"""The permissions to write that others than the owner have."""
READABLE = stat.S_IRGRP | stat.S_IROTH
"""The permissions to read that others than the owner have."""


def is_foreign(found: os.stat_result) -> bool:
    """Return whether a file, by its status, belongs to neither this user nor root."""
    return hasattr(os, "geteuid") and found.st_uid not in (0, os.geteuid())


def owner(found: os.stat_result) -> str:
    """Return the owner of a file, by its status: the name, or the number if nobody has that name."""
    try:
        import pwd  # noqa: PLC0415  # Windows has none

        return pwd.getpwuid(found.st_uid).pw_name
    except (ImportError, KeyError):
        return f"user {found.st_uid}"


def foreign_link(path: Path) -> Path | None:
    """Return the first link on the way to `path`, itself included, that is foreign; None if there is none."""
    whole = path.absolute()
    for part in (*reversed(whole.parents), whole):
        try:
            found = part.lstat()
        except OSError:
            return None
        if stat.S_ISLNK(found.st_mode) and is_foreign(found):
            return part
    return None


def make_private(folder: Path) -> bool:
    """Make a folder that only this user may write into. Return whether it is one, and no link to one.

    A folder of this user that others may write into is closed to them. Raises OSError if it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or (hasattr(os, "geteuid") and found.st_uid != os.geteuid()):
        return False
    if found.st_mode & WRITABLE and os.name == "posix":
        folder.chmod(0o700)
    return os.access(folder, os.W_OK | os.X_OK)
