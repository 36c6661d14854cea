"""Open the database of a state, wherever it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from messctl.errors import MissingExtraError
from messctl.state import sqlite_file
from messctl.state.copying import copy_tables
from messctl.state.database import Database
from messctl.state.place import Address, Place, exists
from messctl.state.sqlite import SqliteDatabase

if TYPE_CHECKING:
    from messctl.state.postgres import PostgresDatabase


def open_database(place: Place, *, looking: bool = False, copied: bool = False) -> Database:
    """Open the database at a place: to write, for `looking` only, or `copied` into memory. See `Store`.

    Raises StoreError if it cannot be opened.
    """
    if isinstance(place, Address):
        return _on_server(place, looking=looking, copied=copied)
    connect = sqlite_file.copied if copied else sqlite_file.look if looking else sqlite_file.connect
    return SqliteDatabase(place, connect)


def is_there(place: Place) -> bool:
    """Return whether something is at a place: a file, or tables in a schema. Raises StoreError if nobody can look."""
    return may_begin(place) is None if isinstance(place, Address) else exists(place)


def is_made(place: Place) -> bool:
    """Return whether a state is at a place. An empty file has none. Raises StoreError if it cannot be read."""
    if isinstance(place, Address) or not exists(place):
        return is_there(place)
    with closing(open_database(place, looking=True)) as opened:
        return bool(opened.version())


def may_begin(address: Address) -> bool | None:
    """Return whether a state can be made at an address; None if there is one. Raises StoreError."""
    with closing(_connected(address, looking=True)) as opened:
        return None if opened.version() else opened.may_begin()


@contextmanager
def closed_on_failure(opened: Database) -> Iterator[None]:
    """Close a database if the block raises anything."""
    try:
        yield
    except BaseException:
        opened.close()
        raise


def _on_server(address: Address, *, looking: bool, copied: bool) -> Database:
    opened = _connected(address, looking=looking or copied)
    if not (looking or copied):
        return opened
    with closed_on_failure(opened):
        version = opened.version()
    if looking and not copied and version:
        return opened
    with closing(opened):
        if copied and not version:
            raise opened.failure("there is no state", "correct --state, or create it with `messctl ask`")
        copy = SqliteDatabase(address, lambda _: sqlite_file.connect(sqlite_file.MEMORY))
        if version == opened.latest:
            copy.migrate()
            copy_tables(opened, copy)
        elif version:
            opened.in_memory()  # which says why not
    return copy


def _connected(address: Address, *, looking: bool) -> PostgresDatabase:
    try:
        from messctl.state.postgres import PostgresDatabase  # noqa: PLC0415  # who has a file needs no client
    except ModuleNotFoundError as error:
        raise MissingExtraError("psycopg", "postgres", "a state on PostgreSQL") from error
    return PostgresDatabase(address, looking=looking)
