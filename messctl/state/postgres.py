"""The database of the store as a schema of a PostgreSQL database; `postgres_session` does its transactions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cache, lru_cache, partial
from itertools import count
from typing import Any

from messctl.state import migrations, postgres_tables
from messctl.state.columns import COLUMNS
from messctl.state.database import FAULT, Database, Row, Select, table_of
from messctl.state.place import Address
from messctl.state.postgres_connection import Connection, Cursor, Record
from messctl.state.postgres_errors import ANOTHER_STATE, remedy_of_text
from messctl.state.postgres_session import Session
from messctl.state.sqlite import SqliteDatabase
from messctl.state.sqlite_file import MEMORY
from messctl.state.sums import COST_OF_OUTCOME

FETCHED = 500
"""How many rows of a scan are fetched at a time."""
DIFFERENT = {
    COST_OF_OUTCOME: r"CAST(CAST(replace(outcome, '\u0000', '\u0001') AS json) ->> 'cost' AS DOUBLE PRECISION)",
}
"""What PostgreSQL says in place of SQLite's own words. Its JSON has no character of code 0."""
ANOTHER_SCHEMA = f"name another schema with ?schema=NAME in the address, or {ANOTHER_STATE}"
COUNTED = ("requests", "feedback", "attempts")
"""The tables whose rows are numbered as they come."""


class PostgresDatabase(Database):
    """The schema at an address. If it is for `looking` only, nothing can be written."""

    def __init__(self, path: Address, *, looking: bool = False) -> None:
        super().__init__()
        self.path: Address = path
        self._looking = looking
        self._cursors = count()
        self._session = Session(path, self.latest)
        self._opened = self._session.opened
        self._ahead: dict[Select, Callable[[], Sequence[Record]]] = {}
        self._gathered: dict[str, list[Sequence[Any]]] = {}
        self._outdated = False

    @property
    def inside(self) -> bool:
        """See `Database`."""
        return self._session.inside

    def close(self) -> None:
        """See `Database`."""
        self._session.close()

    def execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        """See `Database`. Outside of a transaction it is one of its own."""
        with self._within(writing=True) as connection, self._session.mapped():
            self._writes(statement)
            self._send_gathered()
            connection.execute(_translated(statement), values)

    def execute_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """See `Database`."""
        listed = list(rows)
        if not listed:
            return
        with self._within(writing=True) as connection, self._session.mapped():
            self._writes(statement)
            self._send_gathered()
            if len(listed) == 1:
                connection.execute(_translated(statement), listed[0])
            else:
                connection.cursor().executemany(_translated(statement), listed)

    def gather(self, statement: str, values: Sequence[Any]) -> None:
        """See `Database`."""
        with self._within(writing=True):
            self._writes(statement)
            self._gathered.setdefault(statement, []).append(values)

    def row(self, statement: str, values: Sequence[Any] = ()) -> Row | None:
        """See `Database`."""
        return next(iter(self._selected(statement, values)), None)

    def rows(self, statement: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """See `Database`."""
        yield from self._selected(statement, values)

    def scan(self, statement: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """See `Database`. The server keeps the rows; some are fetched at a time, unless statements are being sent."""
        if not self._session.inside or self._session.sending:
            yield from self._selected(statement, values)
            return
        with self._session.mapped():
            self._send_gathered()
            cursor = self._session.present.cursor(f"messctl_{next(self._cursors)}", binary=True)
            cursor.execute(_translated(statement), values)
        with cursor:
            while True:
                with self._session.mapped():
                    part = cursor.fetchmany(FETCHED)
                if not part:
                    return
                yield from part

    def ahead(self, names: Iterable[str], statement: str = "", keys: Sequence[str] = ()) -> None:
        """See `Database`. All statements are sent, and the answers to all come when the first one is read."""
        expected = [self._expected[name] for name in names if name in self._expected] if self._outdated else []
        with self._session.mapped():
            for select in expected:
                self._ahead[select] = self._sent(*select).fetchall
            if keys:
                of_key = _by(statement.split()[-3], self._sent(f"{statement.removesuffix('?')}ANY(?)", [list(keys)]))
                self._ahead |= {(statement, (key,)): partial(of_key, key) for key in keys}

    def forget_kept(self) -> None:
        """See `Database`."""
        super().forget_kept()
        self._ahead.clear()

    @contextmanager
    def transaction(self, *, synced: bool = False) -> Iterator[None]:
        """See `Store.transaction`."""
        if self._looking:
            raise self.failure("it is open to be read only", FAULT)
        with self._session.alone:  # nobody else begins before all is forgotten
            if self._session.inside:
                raise self.failure("a transaction is begun within another", FAULT)
            committed = False
            try:
                with self._session.writing(synced=synced):
                    self._has_begun()
                    yield
                    self.finish()
                committed = True
            finally:
                self._ahead.clear()
                self._gathered.clear()
                if not committed:
                    self._is_undone()

    def finish(self) -> None:
        """See `Database`."""
        self.settle()
        with self._session.mapped():
            self._send_gathered()
        if self._joined:  # what joined it is committed first
            self._session.settle()
        super().finish()

    @contextmanager
    def unchanging(self) -> Iterator[None]:
        """See `Store.unchanging`."""
        with self._session.reading():
            self._has_begun()
            yield

    def check_usable(self) -> None:
        """See `Database`."""
        self._session.check_writable()

    @contextmanager
    def migrating(self) -> Iterator[None]:
        """See `Database`. The schema is made if it does not exist."""
        digest = hashlib.sha256(f"messctl {self.path.schema}".encode()).digest()
        with self._session.migrating(int.from_bytes(digest[:8], signed=True)):
            self.turn()
            self.forget_kept()
            if self.row("SELECT 1 FROM pg_namespace WHERE nspname = ?", (self.path.schema,)) is None:
                self.execute(f"CREATE SCHEMA {self._session.schema}")
            yield

    @property
    def latest(self) -> int:
        """See `Database`."""
        return len(migrations.MIGRATIONS)

    def version(self) -> int:
        """See `Database`. Raises StoreError if the tables are another program's."""
        names = {row["relname"] for row in self._plainly(postgres_tables.IN_SCHEMA, (self.path.schema,))}
        if not names:
            return 0
        if not {"state", *COLUMNS} & names:
            raise self.failure(f"the schema {self.path.schema!r} holds tables of another program", ANOTHER_SCHEMA)
        if "state" not in names:
            raise self.damage("there is no table 'state'")
        found = self._plainly(f"SELECT version FROM {self._session.schema}.state WHERE id = 1")
        if not found:
            raise self.damage("the table 'state' is empty")
        if not isinstance(found[0][0], int):
            raise self.damage(f"its version is {found[0][0]!r}")
        return found[0][0]

    def may_begin(self) -> bool:
        """Return whether this user can make the schema, or tables in it."""
        return bool(self._plainly(postgres_tables.MAY_BEGIN, (self.path.schema,))[0][0])

    def migrate(self) -> bool:
        """See `Database`."""
        before = self.version()
        if not before:
            for statement in postgres_tables.OWN.split(";"):
                self.execute(statement)
        for statement in postgres_tables.statements(before):
            self.execute(statement)
        self.execute("UPDATE state SET version = ?, writes = writes + 1 WHERE id = 1", (self.latest,))
        return before < migrations.KEPT <= self.latest

    def erase(self) -> None:
        """Delete everything. The space is given back as soon as nobody reads what was there.

        Tables that are not as they should be are made anew. The server's log, and what it archives, is out of reach.
        """
        with closing(SqliteDatabase(MEMORY)) as new, self.transaction(synced=True):
            new.migrate()
            self.turn()
            self.forget_kept()
            if all(self.form(table) == new.form(table) for table in COLUMNS):
                for table in reversed(list(COLUMNS)):  # rows that refer to others go first
                    self.execute(f"DELETE FROM {table}")
                self.continue_ids(dict.fromkeys(COUNTED, 0))
            else:
                for table in COLUMNS:
                    self.execute(f"DROP TABLE IF EXISTS {table} CASCADE")
                for statement in postgres_tables.statements(0):
                    self.execute(statement)
        self.pack()

    def overwrite_deleted(self) -> None:
        """See `Database`. PostgreSQL cannot; what was deleted is gone once `pack` or the server itself cleans up."""

    def pack(self) -> None:
        """See `Database`. The server's log, and what it archives, is out of reach."""
        for table in COLUMNS:
            self._session.alone_with(f"VACUUM {self._session.schema}.{table}")

    def in_memory(self) -> Database:
        """See `Database`. Tables of another version are not copied. Raises StoreError."""
        version = self.version()
        if version > self.latest:
            raise self.failure(f"made by a newer messctl (version {version})", "upgrade messctl")
        raise self.failure(f"made by an older messctl (version {version})", "upgrade it with `messctl state upgrade`")

    def integrity(self) -> Iterator[str]:
        """See `Database`. A server checks its own files."""
        return iter(())

    def form(self, table: str) -> dict[str, tuple[str, bool, int]]:
        """See `Database`."""
        return {
            row["name"]: (postgres_tables.TYPES.get(row["type"], row["type"]), bool(row["needed"]), row["place"])
            for row in self.rows(postgres_tables.FORM, (self.path.schema, table))
        }

    def last_ids(self) -> dict[str, int]:
        """See `Database`."""
        sequence = "CAST(pg_get_serial_sequence(?, 'id') AS regclass)"
        found = {
            table: self.row(f"SELECT coalesce(pg_sequence_last_value({sequence}), 0)", (table,)) for table in COUNTED
        }
        return {table: int(row[0]) if row else 0 for table, row in found.items()}

    def continue_ids(self, last: Mapping[str, int]) -> None:
        """See `Database`."""
        for table, number in last.items():
            given = "true" if number else "false"  # whether that very number was given
            self.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {max(1, number)}, {given})")

    def remedy(self, what: str) -> str:
        """See `Database`."""
        return remedy_of_text(what)

    def _has_begun(self) -> None:
        earlier = self._seen
        super()._has_begun()
        self._outdated = self._seen != earlier
        if self._opened != self._session.opened:
            self._opened = self._session.opened
            self.turn()

    def _written(self) -> int:
        if not self._session.inside:
            with self.unchanging():
                pass
        return self._session.others

    def _selected(self, statement: str, values: Sequence[Any] = ()) -> Sequence[Record]:
        with self._within(writing=False), self._session.mapped():
            sent = self._ahead.pop((statement, tuple(values)), None) if self._ahead else None
            return sent() if sent else self._sent(statement, values).fetchall()

    def _sent(self, statement: str, values: Sequence[Any]) -> Cursor:
        self._send_gathered()
        return self._session.present.cursor(binary=True).execute(_translated(statement), values)

    def _send_gathered(self) -> None:
        gathered, self._gathered = self._gathered, {}
        for statement, rows in gathered.items():
            self._session.present.cursor().executemany(_translated(statement), rows)

    def _writes(self, statement: str) -> None:
        super()._writes(statement)
        if self._ahead:
            self._ahead.pop(self._expected.get(table_of(statement) or "", ("", ())), None)

    def _plainly(self, statement: str, values: Sequence[Any] = ()) -> Sequence[Record]:
        """Select rows of tables that may not be ours."""
        if self._session.inside:
            return self._selected(statement, values)
        with self._session.looking():
            return self._selected(statement, values)

    @contextmanager
    def _within(self, *, writing: bool) -> Iterator[Connection]:
        """Yield the connection, in the transaction that was begun, or else in one of its own."""
        with self._session.alone:
            if self._session.inside:
                yield self._session.present
                return
            with self.transaction() if writing else self.unchanging():
                yield self._session.present


def _by(column: str, cursor: Cursor) -> Callable[[str], Sequence[Record]]:
    """Return what gives the rows whose column has a value; they are fetched when the first of them are wanted."""

    @cache
    def rows() -> dict[str, list[Record]]:
        found: dict[str, list[Record]] = {}
        for row in cursor.fetchall():
            found.setdefault(row[column], []).append(row)
        return found

    return lambda value: rows().get(value, [])


@lru_cache(maxsize=1024)
def _translated(statement: str) -> bytes:
    """Return a statement in PostgreSQL's words, whose values are numbered."""
    for theirs, ours in DIFFERENT.items():
        statement = statement.replace(theirs, ours)
    first, *others = statement.split("?")
    return "".join((first, *(f"${place}{other}" for place, other in enumerate(others, 1)))).encode()
