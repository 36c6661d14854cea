"""Open the database of a state, wherever it is."""

from __future__ import annotations

from messctl.state import sqlite_file
from messctl.state.database import Database
from messctl.state.place import Place
from messctl.state.sqlite import SqliteDatabase


def open_database(place: Place, *, looking: bool = False, copied: bool = False) -> Database:
    """Open the database at a place: to write, for `looking` only, or `copied` into memory. See `Store`.

    Raises StoreError if it cannot be opened.
    """
    connect = sqlite_file.copied if copied else sqlite_file.look if looking else sqlite_file.connect
    return SqliteDatabase(place, connect)
