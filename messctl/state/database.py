"""The SQLite file beneath the store: made for its owner alone, shared with others, and looked at without a change."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from messctl.errors import StoreError

MEMORY = Path(":memory:")
"""Stands for a database that is kept in no file."""
WAIT_S = 60.0
"""How long a process waits for the others' transactions."""
LOGS = ("-wal", "-journal")
"""What SQLite appends to a file's name for the log of what is written, and for the journal of what was there before."""
STEP_S = 0.5
"""How long it waits at a time: while SQLite itself waits, Ctrl-C is not heard."""


def connect(path: Path) -> sqlite3.Connection:
    """Open a file to read and write it, with write-ahead logging; it and its folder are made where they do not exist.

    What is made is for its owner alone to read. Raises StoreError for another program's database, before anything in
    it is changed, OSError, sqlite3.Error.
    """
    if path != MEMORY:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(path)
    database = _opened(path)
    with _closed_on_failure(database):
        # Two that make the same file at once get in each other's way here, too.
        if patiently(database, "PRAGMA journal_mode").fetchone()[0] == "delete":
            patiently(database, "PRAGMA journal_mode = WAL")
        database.execute("PRAGMA foreign_keys = ON")
    return database


def look(path: Path) -> sqlite3.Connection:
    """Open a file to read it; where there is none, an empty database in memory. No file is made but, maybe, the log's.

    Where SQLite can make no log beside a file, it cannot keep writers from what it reads, though somebody else's may
    come. What is opened then is a copy in memory, taken while nobody wrote. Raises as `connect`.
    """
    if not path.exists():
        return _opened(MEMORY)
    location = path.resolve().as_uri()
    while True:
        try:
            return _opened(path, f"{location}?mode=ro")
        except sqlite3.OperationalError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code not in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN) or _has_log(path):
                raise
        before = path.stat()
        with closing(_opened(path, f"{location}?immutable=1")) as whole:
            copy = in_memory(whole)
        after = path.stat()
        if not _has_log(path) and (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size):
            return copy
        copy.close()


def files(path: Path) -> list[Path]:
    """Return the file and those that SQLite keeps beside it, whether they are there or not."""
    return [Path(f"{os.path.realpath(path)}{end}") for end in ("", "-shm", *LOGS)]


def in_memory(database: sqlite3.Connection) -> sqlite3.Connection:
    """Return a copy that lives in memory."""
    copy = _opened(MEMORY)
    database.backup(copy)
    return copy


def patiently(database: sqlite3.Connection, statement: str) -> sqlite3.Cursor:
    """Execute a statement as soon as others let it, for up to WAIT_S; Ctrl-C is heard meanwhile."""
    gives_up = time.monotonic() + WAIT_S
    while True:
        try:
            return database.execute(statement)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > gives_up:
                raise
            time.sleep(0.01)  # some statements SQLite does not wait for at all


@contextmanager
def begun(database: sqlite3.Connection, begin: str) -> Iterator[None]:
    """Do what is in the block as one transaction, which the statement `begin` opens; on any exception, none of it."""
    patiently(database, begin)
    try:
        yield
        database.execute("COMMIT")
    finally:
        if database.in_transaction:
            database.execute("ROLLBACK")


def _make(path: Path) -> None:
    """Make an empty file, which only its owner may read: SQLite gives its log the same permissions."""
    with suppress(OSError):  # it is there already, or cannot be made, and SQLite will say why
        os.close(os.open(os.path.realpath(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _opened(path: Path, address: str | None = None) -> sqlite3.Connection:
    """Open a file, or what an address says of it, and read in it. Raises StoreError for another program's database."""
    database = sqlite3.connect(address or path, timeout=STEP_S, isolation_level=None, uri=address is not None)
    with _closed_on_failure(database):
        database.row_factory = sqlite3.Row
        tables = {row[0] for row in patiently(database, "SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "router" not in tables:
            raise StoreError(f"{path}: another program's database; choose another place with --state")
    return database


@contextmanager
def _closed_on_failure(database: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        database.close()
        raise


def _has_log(path: Path) -> bool:
    return any(Path(f"{path.resolve()}{end}").exists() for end in LOGS)
