"""The SQLite file below the store: opened to write, opened to read without a change, or copied into memory."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from messctl.errors import StoreError
from messctl.inputs import check_ordinary
from messctl.state.place import exists

MEMORY = Path(":memory:")
"""The path of a database that has no file."""
ANOTHER_PLACE = "choose another place with --state"
"""What to do if a file cannot be used."""
WAIT_S = 60.0
"""How long a process waits for the transactions of others."""
LOGS = ("-wal", "-journal")
"""What SQLite appends to a file's name for its write-ahead log and for its rollback journal."""
STEP_S = 0.5
"""How long SQLite waits at a time. Python handles Ctrl-C only between two of these waits."""


def connect(path: Path) -> sqlite3.Connection:
    """Open a file to read and write it, with a write-ahead log. Make the file and its folder if they do not exist.

    Only their owner may read what is made. Raises StoreError for another program's database, before anything in
    it is changed, OSError, sqlite3.Error.
    """
    if path != MEMORY:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(path)
    connection = _opened(path)
    with _closed_on_failure(connection):
        # Two processes that make the same file at once lock each other out here, too.
        if patiently(connection, "PRAGMA journal_mode").fetchone()[0] == "delete":
            patiently(connection, "PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")
    return connection


def look(path: Path) -> sqlite3.Connection:
    """Open a file to read it only. If there is none, open an empty database in memory.

    SQLite may make its log beside the file. If it cannot, as in a read-only folder, it cannot keep writers from what
    it reads; then a copy in memory is opened, taken while nobody wrote. Raises the same as `connect`.
    """
    if not exists(path):
        return _opened(MEMORY)
    while True:
        try:
            return _opened(path, "mode=ro")
        except sqlite3.OperationalError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code not in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN) or _has_log(path):
                raise
        copy = _copied_unless_written(path)
        if copy is not None:
            return copy


def copied(path: Path) -> sqlite3.Connection:
    """Return a copy of a file in memory. Neither the file changes nor anything beside it.

    Raises the same as `connect`, also if there is no file.
    """
    while True:
        if _has_log(path):  # what was committed last may be in the log alone; SQLite reads both
            with closing(_opened(path, "mode=ro")) as whole:
                return in_memory(whole)
        copy = _copied_unless_written(path)
        if copy is not None:
            return copy


def files(path: Path) -> list[Path]:
    """Return the paths of the file and of all that SQLite keeps beside it, whether they exist or not."""
    return [Path(f"{os.path.realpath(path)}{end}") for end in ("", "-shm", *LOGS)]


def in_memory(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Return a copy of a database in memory."""
    copy = _opened(MEMORY)
    connection.backup(copy)
    return copy


def patiently(connection: sqlite3.Connection, statement: str) -> sqlite3.Cursor:
    """Execute a statement as soon as other processes let it, for up to WAIT_S. Ctrl-C ends the wait."""
    gives_up = time.monotonic() + WAIT_S
    while True:
        try:
            return connection.execute(statement)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > gives_up:
                raise
            time.sleep(0.01)  # for some statements SQLite does not wait at all
        except UnicodeDecodeError as error:  # Python reads names of tables as UTF-8
            raise sqlite3.DatabaseError("a name in it is not UTF-8") from error


def _copied_unless_written(path: Path) -> sqlite3.Connection | None:
    """Return a copy in memory, or None if somebody wrote meanwhile. SQLite makes nothing beside the file."""
    before = path.stat()
    with closing(_opened(path, "immutable=1")) as whole:
        copy = in_memory(whole)
    after = path.stat()
    if not _has_log(path) and (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size):
        return copy
    copy.close()
    return None


def _make(path: Path) -> None:
    """Make an empty file that only its owner may read. SQLite gives its log the same permissions."""
    with suppress(OSError):  # the file exists; or it cannot be made, and SQLite will say why
        os.close(os.open(os.path.realpath(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _opened(path: Path, options: str = "") -> sqlite3.Connection:
    """Open a file, with `options` of SQLite's URIs. Raises StoreError for another program's database."""
    if path != MEMORY and exists(path):
        check_ordinary(path)  # SQLite would wait for a pipe without end, and find no words for a folder
        for beside in files(path)[1:]:
            try:
                with suppress(FileNotFoundError):  # another process may remove it at any time
                    check_ordinary(beside)
            except OSError as error:
                told = f"{beside}: is where SQLite keeps its log, and no ordinary file; move it away"
                raise StoreError(told) from error
    address = f"{path.resolve().as_uri()}?{options}" if options else path
    connection = sqlite3.connect(
        address, timeout=STEP_S, isolation_level=None, uri=bool(options), check_same_thread=False
    )
    with _closed_on_failure(connection):
        connection.row_factory = sqlite3.Row
        tables = {row[0] for row in patiently(connection, "SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "router" not in tables:
            raise StoreError(f"{path}: another program's database; {ANOTHER_PLACE}")
    return connection


@contextmanager
def _closed_on_failure(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _has_log(path: Path) -> bool:
    return any(Path(f"{path.resolve()}{end}").exists() for end in LOGS)
