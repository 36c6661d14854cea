"""The database of the store: every statement goes through it.

Every error of SQLite becomes a StoreError, and so does every row that does not hold what its columns may hold.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from messctl.errors import StoreError
from messctl.state import sqlite_file
from messctl.state.columns import COLUMNS, check
from messctl.state.sqlite_file import ANOTHER_PLACE

Row = sqlite3.Row
"""A row of a table: its values by column name."""
T = TypeVar("T")

RESTORE = "restore a copy, or start again with `messctl reset`"
"""What to do about a damaged state."""
EXPORT = "restore a copy, or export the log with `messctl export` and start again with `messctl reset`"
"""The same if the log is sound."""

ROW_ERRORS = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, OSError, RecursionError, SyntaxError)
"""What reading a damaged row may raise: a value of another type, out of range, or none at all."""


class Database:
    """An open database at `path`. The values of a statement take the place of its question marks.

    Several threads may use it, each within `transaction` or `unchanging`, where one thread is at a time. `connect`
    opens the file, see `sqlite_file`. Every method raises StoreError: which file, what is wrong, what to do.
    """

    def __init__(self, path: Path, connect: Callable[[Path], sqlite3.Connection] = sqlite_file.connect) -> None:
        self.path = path
        self._alone = threading.RLock()
        self._turns = 0
        with self._mapped():
            self._connection = connect(path)

    @property
    def stamp(self) -> tuple[int, int]:
        """A value that changes whenever another process has written, or `turn` was called. Use it in a transaction."""
        found = self.row("PRAGMA data_version")
        return (0 if found is None else int(found[0])), self._turns

    def turn(self) -> None:
        """Let the stamp change: what was read earlier may not be true any more."""
        self._turns += 1

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        """Execute a statement that returns nothing."""
        with self._mapped():
            self._connection.execute(statement, values)

    def execute_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Execute a statement once for the values of each row."""
        with self._mapped():
            self._connection.executemany(statement, rows)

    def execute_patiently(self, statement: str) -> None:
        """Execute a statement as soon as other processes let it; Ctrl-C ends the wait."""
        with self._mapped():
            sqlite_file.patiently(self._connection, statement)

    def row(self, statement: str, values: Sequence[Any] = ()) -> Row | None:
        """Return the first row that a statement selects, None if there is none."""
        try:
            found: Row | None = self._connection.execute(statement, values).fetchone()
        except sqlite3.Error as error:
            raise self.failure(str(error)) from error
        return found

    def rows(self, statement: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """Yield the rows that a statement selects; it runs when the first is taken."""
        try:
            yield from self._connection.execute(statement, values)
        except sqlite3.Error as error:
            raise self.failure(str(error)) from error

    def read(self, convert: Callable[[Row], T], statement: str, values: Sequence[Any] = ()) -> Iterator[T]:
        """Yield what `convert` makes of each row that a statement selects.

        An error of `convert`, as ROW_ERRORS lists them, means that the row is damaged.
        """
        for row in self.rows(statement, values):
            try:
                converted = convert(row)
            except ROW_ERRORS as error:
                raise self.damage(str(error)) from error
            yield converted

    def table(self, name: str, where: str = "", values: Sequence[Any] = ()) -> list[Row]:
        """Return the rows of a table, checked; `where` begins with WHERE."""

        def checked(row: Row) -> Row:
            check(f"a row of {name!r}", dict(row), COLUMNS[name])
            return row

        return list(self.read(checked, f"SELECT * FROM {name} {where}", values))

    @contextmanager
    def transaction(self, *, synced: bool = False) -> Iterator[None]:
        """See `Store.transaction`."""
        with self._alone:
            self.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
            with self._begun("BEGIN IMMEDIATE"):
                yield

    @contextmanager
    def unchanging(self) -> Iterator[None]:
        """See `Store.unchanging`."""
        with self._alone, self._begun("BEGIN"):
            yield

    def in_memory(self) -> Database:
        """Return a copy in memory, which keeps this one's path for its errors."""
        return Database(self.path, lambda _: sqlite_file.in_memory(self._connection))

    def copy_to(self, other: Database) -> None:
        """Replace all that another database holds by a copy of this one."""
        with self._mapped():
            self._connection.backup(other._connection)

    def add_function(self, name: str, function: Callable[[Any], Any]) -> None:
        """Let statements call a function of one value."""
        with self._mapped():
            self._connection.create_function(name, 1, function, deterministic=True)

    def damage(self, what: str) -> StoreError:
        """Return the error that says which row is damaged, and what to do about it."""
        return self.failure(f"the state is damaged ({' '.join(what.split())})", RESTORE)

    def failure(self, what: str, remedy: str | None = None) -> StoreError:
        """Return the error that says what is wrong with the file, and what to do about it."""
        return StoreError(f"{self.path}: {what}; {remedy or _remedy(what)}")

    @contextmanager
    def _begun(self, begin: str) -> Iterator[None]:
        """Do the block as one transaction, which the statement `begin` opens. On any exception, undo all of it."""
        self.execute_patiently(begin)
        try:
            yield
            self.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self.turn()
                self.execute("ROLLBACK")

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self.failure(str(error)) from error
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror or error}; {ANOTHER_PLACE}") from error


def _remedy(what: str) -> str:
    for sign, remedy in (
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
    ):
        if sign in what:
            return remedy
    return "check it with `messctl doctor`"
