"""Copy a state from one database to another, table by table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from messctl.errors import StoreError, UsageError
from messctl.state.columns import COLUMNS
from messctl.state.database import Database
from messctl.state.migrations import COPIES
from messctl.state.sqlite import SqliteDatabase

PARTS = 500
"""How many rows are written at a time."""
PAGE = 2000
"""How many keys a page of a resumable copy has; each is a transaction."""
MARK = "copying"
"""The table that says of what a state is the begun copy."""
TAKEN = "is a state already; name another place, or reset it first"
"""Why a place is not copied to."""
COPIED = tuple(table for table in COLUMNS if table != MARK)
"""All other tables; those that others refer to come first."""

Rows = Mapping[tuple[Any, ...], tuple[Any, ...]]
"""Rows by key."""


def copy_tables(source: Database, target: Database) -> None:
    """Replace all that a database holds by a copy of another one; both have the latest tables. Raises StoreError."""
    if isinstance(source, SqliteDatabase) and isinstance(target, SqliteDatabase):
        source.copy_to(target)
        return
    with source.unchanging(), target.transaction(synced=True):
        target.turn()
        for table in reversed(COPIED):  # rows that refer to others go first
            target.execute(f"DELETE FROM {table}")
        for table in COPIED:
            _copy_table(source, target, table)
        target.continue_ids(source.last_ids())


def copy(source: Database, target: Database, tell: Callable[[int], None] = lambda _: None) -> int:
    """Copy a state as it is now into a new one, or finish a copy that was begun. Return the number of rows.

    Both have the latest tables. What the target has already is compared, and only what differs is written, page by
    page. Until all is there, the target says that it is a begun copy, and is opened for nothing else. `tell` gets the
    number of rows so far. Raises UsageError if the target holds anything else, StoreError.
    """
    with source.unchanging():
        _begin(source, target)
        rows = 0
        for table in COPIED:
            form = _Form.of(target, table)
            for first, last in _pages(source, form):
                rows += _copy_page(source, target, form, first, last)
                tell(rows)
        with target.transaction(synced=True):
            for table in COPIED:
                there, here = (_count(database, table) for database in (source, target))
                if there != here:
                    raise target.failure(
                        f"has {here} rows of {table!r}, and {source.path} has {there}", "copy it again"
                    )
            target.continue_ids(source.last_ids())
    return rows


def end(target: Database) -> None:
    """Let a copy that is complete be a state like others."""
    with target.transaction(synced=True):
        target.turn()
        target.execute(f"DELETE FROM {MARK}")


def check_free(target: Database) -> None:
    """Raise UsageError if a place holds the state of an older messctl, before anybody brings its tables up to date.

    What was begun by an older messctl may be finished.
    """
    version = target.version()
    begun = version >= COPIES and target.row(f"SELECT source FROM {MARK}") is not None
    if 0 < version < target.latest and not begun:
        raise UsageError(f"{target.path}: {TAKEN}")


def check_complete(database: Database) -> None:
    """Raise StoreError if a state is a copy that was only begun."""
    found = database.row(f"SELECT source FROM {MARK}")
    if found is not None:
        what = f"is a copy of {found['source']} that was not finished"
        raise StoreError(f"{database.path}: {what}; finish it with `messctl state copy`")


@dataclass(frozen=True, slots=True)
class _Form:
    """A table: its columns, those of its key, and the one that pages go by, None if all rows are one page."""

    table: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    paged: str | None

    @classmethod
    def of(cls, database: Database, table: str) -> _Form:
        form = database.form(table)
        key = tuple(sorted((name for name in form if form[name][2]), key=lambda name: form[name][2]))
        return cls(table, tuple(form), key, key[0] if form[key[0]][0] == "INTEGER" else None)

    def rows(self, database: Database, first: int, last: int) -> Rows:
        """Return the rows of a page."""
        where, values = (f"WHERE {self.paged} > ? AND {self.paged} <= ?", (first, last)) if self.paged else ("", ())
        places = [self.columns.index(name) for name in self.key]
        found = map(tuple, database.rows(f"SELECT {', '.join(self.columns)} FROM {self.table} {where}", values))
        return {tuple(row[place] for place in places): row for row in found}


def _begin(source: Database, target: Database) -> None:
    """Mark a new state as a begun copy, or check that it is one."""
    name = str(source.path)
    with target.transaction(synced=True):
        mark = target.row(f"SELECT source FROM {MARK}")
        if mark is not None and mark["source"] != name:
            raise UsageError(
                f"{target.path}: is a begun copy of {mark['source']}; finish that one, or name another place"
            )
        if mark is None:
            if any(_count(target, table) for table in COPIED):
                raise UsageError(f"{target.path}: {TAKEN}")
            target.execute(f"INSERT INTO {MARK} (id, source) VALUES (1, ?)", (name,))
        target.turn()


def _pages(source: Database, form: _Form) -> Iterator[tuple[int, int]]:
    """Yield the bounds of the pages of a table: the key before the first row, and that of the last. There is one more.

    The last page has no rows in the source: what the target has there goes.
    """
    first, most = -(2**62), 2**62
    while form.paged:
        keys = f"SELECT {form.paged} AS key FROM {form.table} WHERE {form.paged} > ? ORDER BY {form.paged} LIMIT ?"
        found = source.row(f"SELECT max(key) FROM ({keys}) AS keys", (first, PAGE))
        if found is None or found[0] is None:
            break
        yield first, int(found[0])
        first = int(found[0])
    yield first, most


def _copy_page(source: Database, target: Database, form: _Form, first: int, last: int) -> int:
    """Let a page be in the target as it is in the source, and return the number of its rows."""
    there, here = form.rows(source, first, last), form.rows(target, first, last)
    extra = [key for key in here if key not in there]
    changed = [row for key, row in there.items() if here.get(key) != row]
    if extra or changed:
        others = [name for name in form.columns if name not in form.key]
        replaced = ", ".join(f"{name} = excluded.{name}" for name in others)
        with target.transaction():
            where = " AND ".join(f"{name} = ?" for name in form.key)
            target.execute_many(f"DELETE FROM {form.table} WHERE {where}", extra)
            target.execute_many(
                f"INSERT INTO {form.table} ({', '.join(form.columns)}) VALUES ({', '.join('?' * len(form.columns))}) "
                f"ON CONFLICT ({', '.join(form.key)}) DO {f'UPDATE SET {replaced}' if others else 'NOTHING'}",
                changed,
            )
    return len(there)


def _count(database: Database, table: str) -> int:
    found = database.row(f"SELECT count(*) FROM {table}")
    return int(found[0]) if found else 0


def _copy_table(source: Database, target: Database, table: str) -> None:
    names = list(target.form(table))
    listed = ", ".join(names)
    insert = f"INSERT INTO {table} ({listed}) VALUES ({', '.join('?' * len(names))})"
    part: list[tuple[object, ...]] = []
    for row in source.scan(f"SELECT {listed} FROM {table}"):
        part.append(tuple(row))
        if len(part) == PARTS:
            target.execute_many(insert, part)
            part = []
    target.execute_many(insert, part)
