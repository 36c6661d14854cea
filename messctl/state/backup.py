"""A copy of a state in another file, made while others write: it is whole, and it is checked before it is there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from messctl.errors import OutputError, StoreError
from messctl.outputs import atomic_write
from messctl.state import sqlite_file
from messctl.state.store import Store


def back_up(state: Path, output: Path) -> int:
    """Copy the state in a file to another file, which only its owner may read, and return the number of its requests.

    The copy is of one moment; nobody has to wait for it. Raises StoreError if the state cannot be read, or if the copy
    is not sound, and OutputError if it cannot be written. Then an older file at `output` stays.
    """
    for log in (output.with_name(output.name + end) for end in sqlite_file.LOGS):
        if log.exists():  # SQLite would apply it to the copy
            what = f"belongs to an older file {output.name!r} that is in use, or whose process was killed"
            raise OutputError(f"{log}: {what}; remove both, or give another name")
    with atomic_write(output, private=True) as aside:
        _copy(state, aside)
        try:
            with Store(aside, looking=True) as copy:
                problems, requests = copy.check(), copy.requests.count()
        except StoreError as error:
            problems, requests = [str(error)], 0
        if problems:
            problem = problems[0].removeprefix(f"{aside}: ")  # the copy has no name that anybody knows
            raise StoreError(f"{state}: a copy of it is not sound ({problem}); check it with `messctl doctor`")
    return requests


def _copy(state: Path, aside: Path) -> None:
    try:
        with closing(sqlite_file.look(state)) as source, closing(sqlite3.connect(aside)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it
    except sqlite3.Error as error:
        full = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
        if full:
            raise OutputError(f"{aside.parent}: the copy cannot be written ({error}); free some space") from error
        raise StoreError(f"{state}: cannot be copied ({error}); check it with `messctl doctor`") from error
