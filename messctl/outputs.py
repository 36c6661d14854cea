"""Output files: written under a temporary name, then renamed, so that a reader never sees half a file.

What holds prompts or answers is private: only its owner may read it. A link may be planted, so that another file is
overwritten. So one at the place of an output is followed only if it belongs to this user or to root, and stays in its
folder or below. A link to a folder on the way there is followed, unless it belongs to somebody else.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from messctl.errors import OutputError
from messctl.inputs import read_start
from messctl.trust import foreign_link, is_foreign, owner

OWNERS = stat.S_IRUSR | stat.S_IWUSR
"""The mode of a private file: its owner may read and write it."""
PARQUET = b"PAR1"
"""The first bytes of every Parquet file."""


def check_writable(path: Path) -> None:
    """Check, before the work starts, that `path` can be written. A link that can be trusted is followed to its target.

    Raises OutputError if `path` is a directory or a device, or a link that may be planted, or if its folder is missing
    or not writable.
    """
    try:
        _check_writable(path, _target(path).parent)
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: cannot be written ({_reason(error)}); choose another place") from None


def _check_writable(path: Path, folder: Path) -> None:
    if path.is_dir():
        raise OutputError(f"{path}: is a directory; give a file name")
    if _target(path).is_symlink():
        raise OutputError(f"{path}: is a link that leads back to itself; choose another place")
    _check_link(path)
    if path.exists() and not path.is_file():
        # Renaming the result to `path` would replace /dev/null itself.
        raise OutputError(f"{path}: is not a regular file; give a file name")
    if not folder.is_dir():
        raise OutputError(f"{path}: the folder {folder} does not exist; create it or choose another")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: no permission to write in {folder}; choose another place")


def _check_link(path: Path) -> None:
    """Raise OutputError if a link may be planted: a foreign one on the way, or one that leads out of its folder."""
    foreign = foreign_link(path)
    if foreign is not None:
        raise OutputError(
            f"{path}: {foreign} is a link of {owner(foreign.lstat())}; remove it, or choose another place"
        )
    if path.is_symlink() and not _target(path).is_relative_to(os.path.realpath(path.parent)):
        raise OutputError(
            f"{path}: is a link out of its folder, to {_target(path)}; name that file, or remove the link"
        )


def check_trace_writable(path: Path) -> None:
    """Check, before the work starts, that a trace, or another Parquet file, can be written to `path`.

    Raises OutputError as `check_writable` does, and if it would replace a file that is neither Parquet nor empty.
    """
    check_writable(path)
    if not path.exists():
        return
    try:
        replaceable = read_start(path, len(PARQUET)) in (b"", PARQUET)
    except OSError as error:
        raise OutputError(f"{path}: cannot be replaced ({_reason(error)}); choose another place") from None
    if not replaceable:
        raise OutputError(f"{path}: exists and is not a Parquet file; give another name")


def check_distinct(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise OutputError if an output is also an input, or if two outputs are the same file."""
    seen = {_place(path): "is read by the same command" for path in inputs}
    for path in outputs:
        place = _place(path)
        if place in seen:
            raise OutputError(f"{path}: {seen[place]}; give the output another name")
        seen[place] = "is written twice by the same command"


@contextmanager
def atomic_write(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Yield the path of a temporary file beside `path`. On success it is synced to disk and replaces `path`.

    If `path` is a link, its target is replaced. The new file gets the mode of the one that it replaces; only its owner
    may read a `private` one. On any exception, including Ctrl-C, the temporary file is removed and `path` stays
    unchanged. Raises OutputError if the file cannot be written.
    """
    check_writable(path)
    target = _target(path)
    aside = target.with_name(f".{target.name[:40]}.{secrets.token_hex(4)}.part")
    try:
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
        if private:
            mode = OWNERS
        # A private file stays private while it is written.
        os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 if mode is None else OWNERS))
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        if mode is not None:
            aside.chmod(mode)
        aside.replace(target)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({_reason(error)}); choose another place") from error
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def make_private_file(path: Path) -> None:
    """Make a file that only its owner may read, or check that it is one. No link is followed.

    Raises OSError if it cannot be made, is no ordinary file, or belongs to somebody else.
    """
    careful = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # a pipe would wait for a reader
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | careful, OWNERS)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link, which may be planted; remove it", str(path)) from None
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is not an ordinary file", str(path))
        if is_foreign(found):
            raise OSError(errno.EPERM, f"it belongs to {owner(found)}", str(path))
    finally:
        os.close(descriptor)
    path.chmod(OWNERS)


def _target(path: Path) -> Path:
    """Return the final target of a link, whether it exists or not; or `path` itself if it is no link."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _place(path: Path) -> str:
    try:
        return os.path.realpath(path)
    except ValueError as error:
        raise OutputError(f"{path}: is no path ({error}); choose another place") from None


def _reason(error: OSError | ValueError) -> str:
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
