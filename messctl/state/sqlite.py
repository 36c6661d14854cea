"""The database of the store as an SQLite file; `sqlite_file` opens it."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from messctl.errors import StoreError
from messctl.state import migrations, sqlite_file
from messctl.state.database import FAULT, RESTORE, Database, Row
from messctl.state.place import Place
from messctl.state.sqlite_file import ANOTHER_PLACE, MEMORY
from messctl.state.write_back import written_back


class SqliteDatabase(Database):
    """The file at `path`. `connect` opens it, see `sqlite_file`; if it is for memory, the path is for errors alone."""

    def __init__(self, path: Place, connect: Callable[[Any], sqlite3.Connection] = sqlite_file.connect) -> None:
        super().__init__()
        self.path = path
        self._alone = threading.RLock()
        self._synchronous = ""
        with self._mapped():
            self._connection = connect(path)
            in_file = self._connection.execute("SELECT file <> '' FROM pragma_database_list").fetchone()[0]
        where = Path(os.path.realpath(path)) if in_file and isinstance(path, Path) else None
        self._file = None if where is None else (where, _identity(where))

    @property
    def inside(self) -> bool:
        """See `Database`."""
        return self._connection.in_transaction

    def close(self) -> None:
        """See `Database`."""
        self._connection.close()

    def execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        """See `Database`."""
        self._writes(statement)
        with self._mapped():
            self._connection.execute(statement, values)

    def execute_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """See `Database`."""
        listed = list(rows)
        if listed:
            self._writes(statement)
            with self._mapped():
                self._connection.executemany(statement, listed)

    def execute_patiently(self, statement: str) -> None:
        """Execute a statement as soon as other processes let it; Ctrl-C ends the wait."""
        with self._mapped():
            sqlite_file.patiently(self._connection, statement)

    def row(self, statement: str, values: Sequence[Any] = ()) -> Row | None:
        """See `Database`."""
        try:
            found: Row | None = self._connection.execute(statement, values).fetchone()
        except sqlite3.Error as error:
            raise self.failure(str(error)) from error
        return found

    def rows(self, statement: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """See `Database`."""
        try:
            yield from self._connection.execute(statement, values)
        except sqlite3.Error as error:
            raise self.failure(str(error)) from error

    def scan(self, statement: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """See `Database`. Rows never lie in memory all at once."""
        return self.rows(statement, values)

    def ahead(self, names: Iterable[str], statement: str = "", keys: Sequence[str] = ()) -> None:
        """See `Database`. A file is near: nothing would be gained."""

    @contextmanager
    def transaction(self, *, synced: bool = False) -> Iterator[None]:
        """See `Store.transaction`."""
        level = "FULL" if synced else "NORMAL"
        with self._alone:
            if level != self._synchronous:
                self.execute(f"PRAGMA synchronous = {level}")
                self._synchronous = level
            with self._begun("BEGIN IMMEDIATE"):
                yield

    @contextmanager
    def unchanging(self) -> Iterator[None]:
        """See `Store.unchanging`."""
        with self._alone, self._begun("BEGIN"):
            yield

    @contextmanager
    def tended(self) -> Iterator[None]:
        """See `Database`. Commits need not bring the log into the file."""
        with ExitStack() as stack:
            if isinstance(self.path, Path) and self.path != MEMORY:
                with self._mapped():
                    stack.enter_context(written_back(self._connection, self.path))
            yield

    @contextmanager
    def migrating(self) -> Iterator[None]:
        """See `Database`."""
        with self.transaction():
            yield

    @property
    def latest(self) -> int:
        """See `Database`."""
        return len(migrations.MIGRATIONS)

    def version(self) -> int:
        """See `Database`."""
        found = self.row("PRAGMA user_version")
        return int(found[0]) if found else 0

    def migrate(self) -> bool:
        """See `Database`."""
        with self._mapped():
            self._connection.create_function("packed", 1, migrations.packed, deterministic=True)
        before = self.version()
        for script in migrations.MIGRATIONS[before:]:
            for statement in script.split(";"):
                self.execute(statement)
        self.execute(f"PRAGMA user_version = {self.latest}")
        return before < migrations.KEPT <= self.latest

    def erase(self) -> None:
        """Delete everything, and make new tables: no prompt or answer is left in the file or its log.

        If another process is reading at that moment, the log may keep them until the last process closes the file.
        What a file system or a disk keeps of freed blocks is out of reach.
        """
        self.overwrite_deleted()
        self.execute("PRAGMA foreign_keys = OFF")  # tables go in any order
        try:
            with self.transaction():
                self.turn()
                self._drop()
                self.migrate()
        finally:
            self.execute("PRAGMA foreign_keys = ON")
        self.pack()  # rows that were deleted earlier were not overwritten

    def overwrite_deleted(self) -> None:
        """See `Database`."""
        self.execute("PRAGMA secure_delete = ON")

    def pack(self) -> None:
        """See `Database`. The file is written anew, and its log is emptied."""
        self.execute_patiently("VACUUM")
        self.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def in_memory(self) -> SqliteDatabase:
        """See `Database`."""
        return SqliteDatabase(self.path, lambda _: sqlite_file.in_memory(self._connection))

    def copy_to(self, other: SqliteDatabase) -> None:
        """Replace all that another database holds by a copy of this one."""
        with self._mapped():
            self._connection.backup(other._connection)
        other.forget_kept()

    def integrity(self) -> Iterator[str]:
        """See `Database`."""
        for row in self.rows("PRAGMA integrity_check"):
            if row[0] != "ok":
                yield " ".join(str(row[0]).split())
        for table, _, other, _ in self.rows("PRAGMA foreign_key_check"):
            yield f"a row of {table!r} belongs to a row of {other!r} that is not there"

    def form(self, table: str) -> dict[str, tuple[str, bool, int]]:
        """See `Database`."""
        return {
            row["name"]: (row["type"], bool(row["notnull"] or row["pk"]), row["pk"])
            for row in self.rows(f"PRAGMA table_info ({table})")
        }

    def last_ids(self) -> dict[str, int]:
        """See `Database`."""
        return {row["name"]: int(row["seq"]) for row in self.rows("SELECT name, seq FROM sqlite_sequence")}

    def continue_ids(self, last: Mapping[str, int]) -> None:
        """See `Database`."""
        for table, number in last.items():
            self.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
            self.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, number))

    def remedy(self, what: str) -> str:
        """See `Database`."""
        return next((remedy for sign, remedy in REMEDIES if sign in what), "check it with `messctl doctor`")

    def _written(self) -> int:
        if self.inside and self._seen is not None:
            return self._seen  # as it was when the transaction began: nobody else's writing is seen within
        found = self.row("PRAGMA data_version")
        return 0 if found is None else int(found[0])

    def _drop(self) -> None:
        """Delete all tables, whatever they hold."""
        for kind in ("view", "table"):
            found = self.rows("SELECT name FROM sqlite_master WHERE type = ? AND name NOT LIKE 'sqlite_%'", (kind,))
            for row in list(found):
                quoted = row["name"].replace('"', '""')
                self.execute(f'DROP {kind} "{quoted}"')
        self.execute("PRAGMA user_version = 0")

    @contextmanager
    def _begun(self, begin: str) -> Iterator[None]:
        """Do the block as one transaction, which the statement `begin` opens. On any exception, undo all of it."""
        if self.inside:
            raise self.failure("a transaction is begun within another", FAULT)
        self._check_file()
        committed = False
        try:
            self.execute_patiently(begin)
            self._has_begun()
            yield
            self.finish()
            self.execute("COMMIT")
            committed = True
        finally:
            try:
                if not committed:
                    self._is_undone()
            finally:
                if self.inside:
                    self.execute("ROLLBACK")

    def _check_file(self) -> None:
        """Raise StoreError if the open file is not at its place any more: what is stored in it then would be lost."""
        if self._file is not None and _identity(self._file[0]) != self._file[1]:
            what = "the file was deleted, moved or replaced while it was open"
            raise self.failure(what, "put it back, or start messctl again")

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self.failure(str(error)) from error
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror or error}; {ANOTHER_PLACE}") from error


def _identity(path: Path) -> tuple[int, int] | None:
    """Return which file is at a path, by its device and its number; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


REMEDIES = (
    ("readonly", f"make it writable, or {ANOTHER_PLACE}"),
    ("unable to open", f"make its folder writable, or {ANOTHER_PLACE}"),
    ("full", f"free some space, or {ANOTHER_PLACE}"),
    ("disk I/O", f"the disk may be full or broken; free some space, or {ANOTHER_PLACE}"),
    ("locked", "another process holds it; try again"),
    ("not a database", f"it is no messctl state; {ANOTHER_PLACE}"),
    ("malformed", "it is damaged; move it away, or restore a copy"),
    ("no such", f"it is damaged; {RESTORE}"),
    ("already exists", f"it is damaged; {RESTORE}"),
    ("has no column", f"it is damaged; {RESTORE}"),
    ("ould not decode", f"it is damaged; {RESTORE}"),
)
"""What to do about an error of SQLite, by a part of its text."""
