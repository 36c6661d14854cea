"""Where a state is: a file, or a schema of a PostgreSQL database."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

from messctl.errors import StoreError, UsageError
from messctl.inputs import LIKE_AN_ADDRESS, SCHEMES
from messctl.trust import foreign_link, owner

SCHEMA = "messctl"
"""The schema that holds the state, unless the address names another one."""
LONGEST_NAME = 63
"""The longest name that PostgreSQL tells apart, in bytes."""
SECRETS = ("password", "sslpassword", "passfile")
"""The parameters of an address that are not shown."""

_ODD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
_HOSTS = re.compile(r"(([^:,\[\]]*|\[[0-9A-Fa-f:.%]+\])(:[0-9]*)?)(,([^:,\[\]]*|\[[0-9A-Fa-f:.%]+\])(:[0-9]*)?)*")
"""Hosts with their ports, separated by commas; an address of IPv6 stands in brackets."""
_PASSWORD = re.compile(r"(^|\s)(ssl)?password\s*=")
"""What stands in libpq's other form of an address."""


@dataclass(frozen=True, slots=True)
class Address:
    """A schema of a PostgreSQL database. `url` is the database's, for libpq, maybe with a password.

    As a text it has no password, so it can be shown.
    """

    url: str = field(repr=False)
    schema: str = SCHEMA

    @classmethod
    def of(cls, text: str) -> Address:
        """Read an address: a URL of libpq, and `schema` may be among its parameters. Raises UsageError."""
        rest = text.partition("://")[2]
        base, _, query = rest.partition("?")
        at, later = base.partition("/")[0].count("@"), "@" in base.partition("/")[2] + query
        if at > 1 or later or "#" in rest or " " in rest or not rest.isprintable():
            raise UsageError(
                "the address of the state is no URL: in a user or a password, write @ as %40, : as %3A, / as %2F, "
                "# as %23, ? as %3F and a space as %20"
            )
        if _ODD_PERCENT.search(rest):
            raise UsageError("the address of the state is no URL: after % stand two digits of 0 to F; write % as %25")
        if not _HOSTS.fullmatch(base.partition("/")[0].rpartition("@")[2]):
            raise UsageError("the address of the state is no URL: write postgresql://USER@HOST:PORT/DATABASE")
        schema, kept = SCHEMA, []
        for each in query.split("&") if query else []:
            name, _, value = each.partition("=")
            if name == "schema":
                schema = unquote(value)
            else:
                kept.append(each)
        if not schema or len(schema.encode()) > LONGEST_NAME or not schema.isprintable() or schema.startswith("pg_"):
            wanted = f"1 to {LONGEST_NAME} characters that do not begin with pg_"
            raise UsageError(f"the schema in the address of the state is {schema!r}; it must have {wanted}")
        return cls(f"{SCHEMES[0]}{base}{'?' if kept else ''}{'&'.join(kept)}", schema)

    def __str__(self) -> str:
        base, _, query = self.url.partition("://")[2].partition("?")
        who, at, where = base.rpartition("@")
        shown = [each for each in query.split("&") if each and unquote(each.partition("=")[0]).lower() not in SECRETS]
        if self.schema != SCHEMA:
            shown.append(f"schema={quote(self.schema)}")
        return f"{SCHEMES[0]}{who.partition(':')[0]}{at}{where}{'?' if shown else ''}{'&'.join(shown)}"

    def of_tenant(self, name: str) -> Address:
        """Return the address of a tenant's state: a schema of its own beside this one."""
        schema = f"{self.schema}-{name}"
        if len(schema.encode()) > LONGEST_NAME:
            import hashlib  # noqa: PLC0415  # a few tenants have such names

            digest = hashlib.sha256(schema.encode()).hexdigest()[:16]
            schema = f"{schema.encode()[: LONGEST_NAME - 17].decode(errors='ignore')}-{digest}"
        return Address(self.url, schema)


Place = Path | Address
"""Where a state is."""


def exists(place: Place) -> bool:
    """Return whether something may be at a place; who opens it says what.

    A link to itself is something, and so is what lies in a folder that is closed.
    """
    if not isinstance(place, Path):
        return True
    try:
        place.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def place_of(text: str) -> Place:
    """Return where a state is that is named by a path, or by the address of a database. Raises UsageError."""
    if ("://" in text or LIKE_AN_ADDRESS.match(text)) and not text.startswith(SCHEMES):
        raise UsageError(f"the address of the state is of an unknown kind; that of a database begins with {SCHEMES[0]}")
    if text.startswith(SCHEMES):
        return Address.of(text)
    if _PASSWORD.search(text):
        raise UsageError("the state is named by a file, or by a URL such as postgresql://USER@HOST/DATABASE")
    return Path(text)


def refuse_foreign_link(place: Place) -> None:
    """Raise StoreError if a link of somebody else leads to a state."""
    planted = foreign_link(place) if isinstance(place, Path) else None
    if planted is not None:
        raise StoreError(f"{place}: {planted} is a link of {owner(planted.lstat())}; name another place with --state")
