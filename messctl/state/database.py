"""The database of the store: every statement goes through it.

`sqlite` and `postgres` implement it. Statements are in the SQL that both understand; what differs is a method here.
Every error of a database becomes a StoreError, and so does every row that does not hold what its columns may hold.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from functools import lru_cache
from typing import Any, Protocol, TypeVar, cast

from messctl.display.text import clipped
from messctl.errors import StoreError
from messctl.state.columns import COLUMNS, check
from messctl.state.place import Place

T = TypeVar("T")
Transaction = Callable[[], AbstractContextManager[None]]
Select = tuple[str, tuple[Any, ...]]
"""A statement that selects rows, and its values."""

RESTORE = "restore a copy, or start again with `messctl reset`"
"""What to do about a damaged state."""
EXPORT = "restore a copy, or export the log with `messctl export` and start again with `messctl reset`"
"""The same if the log is sound."""

LONGEST = 500
"""The longest part of an error that is shown, in characters: a damaged row may hold anything."""

FAULT = "this is a fault in messctl; report it"

ROW_ERRORS = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, OSError, RecursionError, SyntaxError)
"""What reading a damaged row may raise: a value of another type, out of range, or none at all."""


class Row(Protocol):
    """A row of a table: its values by column name, and in their order."""

    def __getitem__(self, key: Any, /) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...

    def keys(self) -> Iterable[str]:
        """Return the names of the columns."""
        ...


class Database(ABC):
    """An open database at `path`. The values of a statement take the place of its question marks.

    Several threads may use it, each within `transaction` or `unchanging`, where one thread is at a time.
    Every method raises StoreError: which database, what is wrong, what to do.
    """

    path: Place
    changes = 0
    """The number of statements that wrote, and of calls of `later`, so far."""
    used: set[str]
    _turns = 0

    def __init__(self) -> None:
        self._kept: dict[str, Any] = {}
        self._expected: dict[str, Select] = {}
        self.used: set[str] = set()
        """Takes the names of what is read in transactions, from memory or not."""
        self._seen: int | None = None
        self._due: dict[Callable[[], None], None] = {}
        self._others = ExitStack()
        self._joined: set[Transaction] = set()

    @property
    def stamp(self) -> tuple[int, int]:
        """A value that changes whenever another process has written, or `turn` was called. Use it in a transaction.

        Its first part is for other processes, its second for this one: it turns also if a transaction is undone.
        """
        return self._written(), self._turns

    def turn(self) -> None:
        """Let the stamp change: what was read earlier may not be true any more."""
        self._turns += 1

    def kept(self, name: str) -> list[Row]:
        """Return the rows of a small table, checked.

        In a transaction they may come from memory, where they stay until somebody writes to the table.
        """
        return self.remembered(name, lambda: self._read_kept(name))

    def remembered(self, name: str, read: Callable[[], T]) -> T:
        """Return what `read` returns. In a transaction it may come from memory, as `kept` says.

        If the name is not a table's, what is remembered stays until another process has written.
        """
        if not self.inside:
            return read()
        self.used.add(name)
        if name not in self._kept:
            self._kept[name] = read()
        return cast(T, self._kept[name])

    def keep(self, name: str, rows: list[Row]) -> None:
        """Let `kept` return these rows: they were written to a table, or are to be written in this transaction."""
        self._kept[name] = rows

    def expect(self, name: str, statement: str, values: Sequence[Any] = ()) -> None:
        """Say what is read again once another process has written: `ahead` finds it by the name of its table."""
        self._expected[name] = statement, tuple(values)
        self.used.add(name)

    def forget_kept(self) -> None:
        """Read every table anew: it may have been changed from outside, or what was written is undone."""
        self._kept.clear()

    def later(self, call: Callable[[], None]) -> None:
        """Call something before the transaction is committed, or as soon as `settle` is called.

        It is called once, however often that is asked for, and not at all if the transaction is undone. Outside of a
        transaction it is called at once.
        """
        self.changes += 1
        if self.inside:
            self._due[call] = None
        else:
            call()

    def join(self, other: Transaction) -> None:
        """Begin the transaction of another database within this one's, which ends with it: committed first, or undone.

        It is begun once, however often that is asked for.
        """
        if other not in self._joined:
            self._others.enter_context(other())
            self._joined.add(other)

    def settle(self) -> None:
        """Call what is to be called later."""
        while self._due:
            self._due.popitem()[0]()

    def finish(self) -> None:
        """Do all that a transaction still has to do, so that only its commit can fail, or raise UndoneError."""
        self.settle()
        self._joined.clear()
        self._others.close()

    @property
    @abstractmethod
    def inside(self) -> bool:
        """Whether a transaction is going on."""

    @abstractmethod
    def close(self) -> None:
        """Close it."""

    @abstractmethod
    def execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        """Execute a statement that returns nothing."""

    @abstractmethod
    def execute_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Execute a statement once for the values of each row."""

    def gather(self, statement: str, values: Sequence[Any]) -> None:
        """Execute a statement that returns nothing, before any other one: those of its kind may go together.

        So a row that is written by it must be read before it is written again.
        """
        self.execute(statement, values)

    @abstractmethod
    def row(self, statement: str, values: Sequence[Any] = ()) -> Row | None:
        """Return the first row that a statement selects, None if there is none."""

    @abstractmethod
    def rows(self, statement: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """Yield the rows that a statement selects; it runs when the first is taken."""

    @abstractmethod
    def scan(self, statement: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """Yield the rows of a statement that may select more than the memory holds. Use it in a transaction."""

    @abstractmethod
    def ahead(self, names: Iterable[str], statement: str = "", keys: Sequence[str] = ()) -> None:
        """Say what is read soon in this transaction: all may come in one go.

        That is what is expected under some names, if another process has written, and what a statement selects for
        each of some keys before anybody changes it. It ends with the name of a column that it selects, and `= ?`.
        """

    @abstractmethod
    def transaction(self, *, synced: bool = False) -> AbstractContextManager[None]:
        """See `Store.transaction`."""

    @abstractmethod
    def unchanging(self) -> AbstractContextManager[None]:
        """See `Store.unchanging`."""

    def check_usable(self) -> None:
        """Raise StoreError if nothing could be written now; nothing is."""
        with self.unchanging():
            pass

    def tended(self) -> AbstractContextManager[None]:
        """See `Store.tended`."""
        return nullcontext()

    @abstractmethod
    def migrating(self) -> AbstractContextManager[None]:
        """Do all of the block, or nothing of it, while no other process changes the tables."""

    @property
    @abstractmethod
    def latest(self) -> int:
        """The version of the tables that this messctl makes."""

    @abstractmethod
    def version(self) -> int:
        """Return the version of the tables, 0 if there are none."""

    @abstractmethod
    def migrate(self) -> bool:
        """Bring the tables to the latest version, within `migrating`.

        Returns whether what is kept up to date with the log still has to be computed from it.
        """

    @abstractmethod
    def erase(self) -> None:
        """Delete everything, whatever it is, and make new tables."""

    @abstractmethod
    def overwrite_deleted(self) -> None:
        """From now on, overwrite where it was stored what is deleted, if the database can."""

    @abstractmethod
    def pack(self) -> None:
        """Give back the space of what was deleted, so that nothing of it is left."""

    @abstractmethod
    def in_memory(self) -> Database:
        """Return a copy in memory whose tables may be migrated. It keeps this one's path for its errors."""

    @abstractmethod
    def integrity(self) -> Iterator[str]:
        """Yield what the database itself finds wrong, one line each."""

    @abstractmethod
    def form(self, table: str) -> dict[str, tuple[str, bool, int]]:
        """Return, by column of a table, its type in SQLite's terms, whether it needs a value, its place in the key."""

    @abstractmethod
    def last_ids(self) -> dict[str, int]:
        """Return, by table whose rows are numbered as they come, the last number that was given; 0: none."""

    @abstractmethod
    def continue_ids(self, last: Mapping[str, int]) -> None:
        """Let new rows get the numbers after the `last` ones, by table."""

    @abstractmethod
    def remedy(self, what: str) -> str:
        """Return what to do about an error, by its text."""

    @abstractmethod
    def _written(self) -> int:
        """Return a number that changes whenever another process has written."""

    def _has_begun(self) -> None:
        """Forget what is kept in memory if another process has written; at the beginning of a transaction."""
        earlier, self._seen = self._seen, None
        self._seen = self._written()
        if self._seen != earlier:
            self.forget_kept()

    def _read_kept(self, name: str) -> list[Row]:
        self.expect(name, _all_of(name))
        return self.table(name)

    def _is_undone(self) -> None:
        """Forget what was read and written in a transaction that is undone, and undo those that it was joined by."""
        self._due.clear()
        self._joined.clear()
        undone = self.failure("undone", "try again")
        with suppress(StoreError):
            self._others.__exit__(type(undone), undone, None)
        self.turn()
        self.forget_kept()

    def _writes(self, statement: str) -> None:
        """Forget what is kept of the table that a statement writes to."""
        self.changes += 1
        table = table_of(statement)
        if table is None:
            self.forget_kept()
        else:
            self._kept.pop(table, None)

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

        return list(self.read(checked, _all_of(name, where), values))

    def damage(self, what: str) -> StoreError:
        """Return the error that says which row is damaged, and what to do about it."""
        return self.failure(f"the state is damaged ({' '.join(what.split())})", RESTORE)

    def failure(self, what: str, remedy: str | None = None) -> StoreError:
        """Return the error that says what is wrong with the database, and what to do about it."""
        return StoreError(f"{self.path}: {clipped(' '.join(what.split()), LONGEST)}; {remedy or self.remedy(what)}")


def _all_of(table: str, where: str = "") -> str:
    return f"SELECT * FROM {table} {where}"


_WRITES = re.compile(r"\s*(?:INSERT INTO|UPDATE|DELETE FROM)\s+(\w+)")
_READS = re.compile(r"\s*(?:SELECT|PRAGMA|BEGIN|COMMIT|ROLLBACK)\b")


@lru_cache(maxsize=1024)
def table_of(statement: str) -> str | None:
    """Return the table that a statement writes to; "" for none, None if it may be any."""
    found = _WRITES.match(statement)
    if found:
        return found[1]
    return "" if _READS.match(statement) else None
