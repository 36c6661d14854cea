"""Copy a state from one database to another, table by table."""

from __future__ import annotations

from messctl.state.columns import COLUMNS
from messctl.state.database import Database
from messctl.state.sqlite import SqliteDatabase

PARTS = 500
"""How many rows are written at a time."""


def copy_tables(source: Database, target: Database) -> None:
    """Replace all that a database holds by a copy of another one; both have the latest tables. Raises StoreError."""
    if isinstance(source, SqliteDatabase) and isinstance(target, SqliteDatabase):
        source.copy_to(target)
        return
    with source.unchanging(), target.transaction(synced=True):
        target.turn()
        for table in reversed(list(COLUMNS)):  # rows that refer to others go first
            target.execute(f"DELETE FROM {table}")
        for table in COLUMNS:
            _copy_table(source, target, table)
        target.continue_ids()


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
