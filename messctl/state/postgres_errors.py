"""What goes wrong with PostgreSQL, in one line each: what it says, and what to do about it."""

from __future__ import annotations

import re

import psycopg

from messctl.state.database import RESTORE

ANOTHER_STATE = "choose another state with --state"
LONGEST = 500
"""The longest part of what a server says that is shown, in characters."""
REMEDIES = {
    "08": "see that the server runs and can be reached, then try again",
    "0A000": "use PostgreSQL 13 or newer, and its primary server",
    "22": "check it with `messctl doctor`",
    "23": "check it with `messctl doctor`",
    "25006": "it can only be read: name the primary server, or one with write access",
    "25P03": "raise idle_in_transaction_session_timeout for this user",
    "25P04": "raise transaction_timeout for this user",
    "28": "correct the user or the password: in the address, PGPASSWORD, ~/.pgpass or a service file",
    "3D000": "create it with `createdb`, or correct its name",
    "3F000": f"it is damaged; {RESTORE}",
    "40": "other processes were in the way; try again",
    "42501": "grant this user the right, or use a user who has it; see docs/postgresql.md",
    "42": f"it is damaged; {RESTORE}",
    "53100": "free some space on the server's disk, then try again",
    "53200": "the server's memory is used up; try again later",
    "53300": "the server has no connection left: try again, raise max_connections, or put PgBouncer before it",
    "53": "the server has no room for it; try again later",
    "55P03": "another process holds it; try again",
    "57014": "the server stopped it: try again, or raise statement_timeout for this user",
    "57P03": "the server starts or stops; try again in a moment",
    "57P04": "the database was dropped; name another one with --state",
    "57": "the server stops or restarts; try again in a moment",
    "58": "the server's disk may be full or broken; see its log",
    "XX": "the server's files may be damaged; see its log, and restore a copy",
}
"""What to do, by SQLSTATE or by its first characters; the longest one that fits counts."""
NO_SESSION = "query_wait_timeout"
"""What PgBouncer says if no session became free. It has the SQLSTATE of a protocol that is broken."""
SIGNS = (
    (NO_SESSION, "enlarge PgBouncer's default_pool_size, see docs/postgresql.md"),
    ("password", REMEDIES["28"]),
    ("authentication", REMEDIES["28"]),
    ("pg_hba.conf", "let this user connect from here, in the server's pg_hba.conf"),
    ("starting up", REMEDIES["57P03"]),
    ("shutting down", REMEDIES["57P03"]),
    ("recovery", REMEDIES["57P03"]),
    ("too many", REMEDIES["53300"]),
    ("remaining connection slots", REMEDIES["53300"]),
    ("translate host name", "correct the host's name in the address"),
    ("resolve host", "correct the host's name in the address"),
    ("definition of service", "correct the name of the service, or its file"),
    ("timeout", REMEDIES["08"]),
    ("SSL", "correct sslmode and the certificates in the address"),
    ("does not exist", "correct the name of the database or of the user, or create it"),
    ("read-only", REMEDIES["25006"]),
    ("invalid", "correct the address of the state"),
)
"""What to do about a connection that fails, by what libpq says: it gives no SQLSTATE then."""


def remedy_of(error: psycopg.Error) -> str:
    """Return what to do about an error."""
    state = error.sqlstate
    if isinstance(error, psycopg.DataError) and state is None:  # a value that Python has no room for
        return REMEDIES["42"]
    if state is None or NO_SESSION in str(error):
        return remedy_of_text(str(error))
    fitting = [code for code in REMEDIES if state.startswith(code)]
    return REMEDIES[max(fitting, key=len)] if fitting else "see the server's log"


def remedy_of_text(text: str) -> str:
    """Return what to do about an error of which only the text is known."""
    return next((remedy for sign, remedy in SIGNS if sign in text), REMEDIES["08"])


def text_of(error: psycopg.Error) -> str:
    """Return what an error says, as one clause."""
    said = error.diag.message_primary if error.sqlstate is not None else None
    text = clause_of(said or str(error)) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def clause_of(text: str) -> str:
    """Return a text of libpq or psycopg as one clause, without what they guess, and each failure once.

    What they guess is on lines that are indented. If there are several hosts, psycopg repeats the last failure, then
    lists all of them.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line[0].isspace()]
    listed = [line for line in lines if _ATTEMPT.match(line)]
    clauses = (" ".join(_SAID_BEFORE.sub("", _ATTEMPT.sub("", line)).split()).rstrip(".:") for line in listed or lines)
    return ", and ".join(dict.fromkeys(filter(None, clauses)))


_QUOTED = r"(?:None|'[^']*')"
_ATTEMPT = re.compile(rf"- host: {_QUOTED}, port: {_QUOTED}, hostaddr: {_QUOTED}: ")
"""How psycopg begins a line about one of several hosts."""
_SAID_BEFORE = re.compile(r"^(connection (failed|is bad)|consuming input failed): (?=.)|(^|(?<=: ))FATAL: +")
"""Words that say no more than what follows."""
