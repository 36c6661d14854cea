"""Output files: written under a temporary name, then renamed, so that a reader never sees half a file."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from messctl.errors import OutputError
from messctl.inputs import read_start

PARQUET = b"PAR1"
"""The first bytes of every Parquet file."""


def check_writable(path: Path) -> None:
    """Check, before the work starts, that `path` can be written. A link is followed to its target.

    Raises OutputError if `path` is a directory or a device, or if its folder is missing or not writable.
    """
    try:
        _check_writable(path, _target(path).parent)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({_reason(error)}); choose another place") from None


def _check_writable(path: Path, folder: Path) -> None:
    if path.is_dir():
        raise OutputError(f"{path}: is a directory; give a file name")
    if _target(path).is_symlink():
        raise OutputError(f"{path}: is a link that leads back to itself; choose another place")
    if path.exists() and not path.is_file():
        # Renaming the result to `path` would replace /dev/null itself.
        raise OutputError(f"{path}: is not a regular file; give a file name")
    if not folder.is_dir():
        raise OutputError(f"{path}: the folder {folder} does not exist; create it or choose another")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: no permission to write in {folder}; choose another place")


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
    seen = {os.path.realpath(path): "is read by the same command" for path in inputs}
    for path in outputs:
        place = os.path.realpath(path)
        if place in seen:
            raise OutputError(f"{path}: {seen[place]}; give the output another name")
        seen[place] = "is written twice by the same command"


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`. On success it is synced to disk and replaces `path`.

    If `path` is a link, its target is replaced. The new file gets the mode of the one that it replaces. On any
    exception, including Ctrl-C, the temporary file is removed and `path` stays unchanged. Raises OutputError if the
    file cannot be written.
    """
    check_writable(path)
    target = _target(path)
    aside = target.with_name(f".{target.name[:40]}.{secrets.token_hex(4)}.part")
    try:
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
        if mode is not None:
            aside.touch(mode=stat.S_IRUSR | stat.S_IWUSR)  # a private file stays private while it is written
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


def _target(path: Path) -> Path:
    """Return the final target of a link, whether it exists or not; or `path` itself if it is no link."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
