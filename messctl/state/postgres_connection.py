"""A connection to PostgreSQL: how it is opened, and how values go there and come back.

Nothing is kept in the session but plans of statements, and these only if no PgBouncer may give each transaction another
session.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.string import StrDumperUnknown, TextLoader

from messctl.errors import StoreError
from messctl.state.place import Address

OLDEST = 13
"""The oldest version of PostgreSQL that is supported."""
DEFAULTS: Mapping[str, tuple[str, object]] = {
    "connect_timeout": ("PGCONNECT_TIMEOUT", 10),
    "application_name": ("PGAPPNAME", "messctl"),
    "keepalives_idle": ("", 20),
    "keepalives_interval": ("", 5),
    "keepalives_count": ("", 4),
    "tcp_user_timeout": ("", 30_000),
}
"""What a connection uses if neither the address nor the environment variable says anything else: s, s, ms."""
PREPARED_AFTER = 3
"""How often a statement is sent before the server keeps its plan, if nothing stands between."""
ESCAPE = "\x1a"
"""Begins what stands for a character of code 0, which PostgreSQL's texts cannot hold, or for itself."""


class Record:
    """A row: its values by column name, by place, and in their order."""

    __slots__ = ("_places", "_values")

    def __init__(self, places: Mapping[str, int], values: Sequence[Any]) -> None:
        self._places = places
        self._values = values

    def __getitem__(self, key: str | int) -> Any:
        return self._values[self._places[key] if isinstance(key, str) else key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def keys(self) -> Iterator[str]:
        """Return the names of the columns."""
        return iter(self._places)


Connection = psycopg.Connection[Record]
Cursor = psycopg.Cursor[Record]


def opened(address: Address) -> Connection:
    """Connect to the database at an address. Raises psycopg.Error, StoreError for a server that is not supported."""
    given = conninfo_to_dict(address.url)
    options = {
        name: value
        for name, (variable, value) in DEFAULTS.items()
        if name not in given and (not variable or variable not in os.environ)
    }
    _quiet()
    connection = psycopg.connect(
        address.url,
        autocommit=True,
        prepare_threshold=None,
        row_factory=_records,
        cursor_factory=psycopg.RawCursor,
        client_encoding="utf-8",
        **options,  # type: ignore[arg-type]
    )
    try:
        _check(address, connection)
        if _is_direct(connection):
            connection.prepare_threshold = PREPARED_AFTER
    except BaseException:
        connection.close()
        raise
    connection.server_cursor_factory = psycopg.RawServerCursor
    adapters = connection.adapters
    adapters.register_dumper(str, _TextDumper)
    adapters.register_dumper(bool, _FlagDumper)
    for loader in (_TextLoader, _BinaryTextLoader):
        adapters.register_loader("text", loader)
    return connection


def light_compression(connection: Connection) -> str:
    """Return the setting that compresses long values with a fifth of the work; "" if the server lacks LZ4."""
    query = "SELECT 1 FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)"
    return "SET LOCAL default_toast_compression = lz4; " if connection.execute(query).fetchone() else ""


def _quiet() -> None:
    """Keep psycopg from printing errors that it does not raise, unless the program logs: they quote what was sent."""
    logger = logging.getLogger("psycopg")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def _check(address: Address, connection: Connection) -> None:
    version = connection.info.server_version // 10_000
    if version < OLDEST:
        raise StoreError(f"{address}: is PostgreSQL {version}; use PostgreSQL {OLDEST} or newer")
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in ("UTF8", None):
        remedy = "use a database that was created with ENCODING 'UTF8'"
        raise StoreError(f"{address}: its texts are in {encoding}, which has no room for all characters; {remedy}")


def _is_direct(connection: Connection) -> bool:
    """Return whether nothing stands between, such as PgBouncer, which has process numbers of its own."""
    found = connection.execute("SELECT pg_backend_pid()").fetchone()
    return found is not None and found[0] == connection.info.backend_pid


def _records(cursor: psycopg.Cursor[Any]) -> Callable[[Sequence[Any]], Record]:
    found = cursor.pgresult
    names = tuple(found.fname(place) for place in range(found.nfields)) if found else ()
    places = _places(names)
    return lambda values: Record(places, values)


@lru_cache(maxsize=1024)
def _places(names: tuple[bytes | None, ...]) -> dict[str, int]:
    """Return the place of each column by name."""
    return {name.decode(): place for place, name in enumerate(names) if name is not None}


class _FlagDumper(psycopg.adapt.Dumper):
    """Writes True and False as 1 and 0, as SQLite does."""

    oid = psycopg.adapters.types["int2"].oid

    def dump(self, obj: bool) -> bytes:
        return b"1" if obj else b"0"


class _TextDumper(StrDumperUnknown):
    def dump(self, obj: str) -> Any:
        if "\0" in obj or ESCAPE in obj:
            obj = obj.replace(ESCAPE, 2 * ESCAPE).replace("\0", f"{ESCAPE}0")
        return super().dump(obj)


class _TextLoader(TextLoader):
    def load(self, data: Any) -> str:
        text = bytes(data).decode()
        return _ESCAPED.sub(_unescaped, text) if ESCAPE in text else text


class _BinaryTextLoader(_TextLoader):
    format = psycopg.pq.Format.BINARY


_ESCAPED = re.compile(f"{ESCAPE}({ESCAPE}|0)")


def _unescaped(found: re.Match[str]) -> str:
    return ESCAPE if found[1] == ESCAPE else "\0"
