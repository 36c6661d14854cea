"""Whether a state is sound: the file, its tables, every row and array, and all that can be computed again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import islice

from messctl.errors import StoreError
from messctl.state import pruned
from messctl.state.asked import Asked
from messctl.state.columns import COLUMNS, check
from messctl.state.database import ROW_ERRORS, Database
from messctl.state.outages import Outages
from messctl.state.policy_arrays import PolicyArrays
from messctl.state.pruned import twin
from messctl.state.request_log import RequestLog, empty_answer
from messctl.state.sqlite import SqliteDatabase
from messctl.state.sqlite_file import MEMORY
from messctl.state.sums import FEEDBACK, TOLERANCE

MOST_PROBLEMS = 20
"""How many problems of one kind are listed."""


def problems(database: Database, requests: RequestLog, outages: Outages, policy: PolicyArrays) -> list[str]:
    """Return what is wrong with a state, one line each. The caller sees to it that the state does not change.

    If tables cannot be read, what is computed from them is not looked at.
    """
    found = _few(database.integrity(), "problems of the file")
    found += _few(_tables(database), "columns")
    if not found:
        for table in COLUMNS:
            found += _few(_rows(database, table), f"rows of {table!r}")
        found += _few(policy.check(), "arrays")
    if not found:
        found += _few(_recomputed(database, requests, policy), "figures")
        for check_kept in (requests.check, outages.check):
            found += _few(_told(check_kept), "sums")
    return found


def _few(problems: Iterable[str], what: str) -> list[str]:
    """Return the first few problems, and a line that counts the others."""
    listed = iter(problems)
    found = []
    try:
        found += list(islice(listed, MOST_PROBLEMS))
        more = sum(1 for _ in listed)
    except StoreError as error:
        return [*found, str(error)]
    return [*found, f"{more} more {what} are wrong"] if more else found


def _told(check_kept: Callable[[], list[str]]) -> Iterator[str]:
    yield from check_kept()


def _tables(database: Database) -> Iterator[str]:
    """Yield the tables and columns that a new state has and this one lacks, or has in another form."""
    with closing(SqliteDatabase(MEMORY)) as new:
        new.migrate()
        for table in COLUMNS:
            there, needed = database.form(table), new.form(table)
            if not there:
                yield f"there is no table {table!r}"
                continue
            for name, form in needed.items():
                if name not in there:
                    yield f"the table {table!r} has no column {name!r}"
                elif there[name] != form:
                    yield f"the column {name!r} of the table {table!r} is another than in a new state"


def _rows(database: Database, table: str) -> Iterator[str]:
    """Yield the rows that hold what they may not hold."""
    for number, row in enumerate(database.scan(f"SELECT * FROM {table}"), 1):
        what = f"row {number} of {table!r}"
        try:
            check(what, dict(row), COLUMNS[table])
            if table == "attempts" and row["outcome"] is not None:
                what = f"{what} has an outcome that cannot be read"
                empty_answer(row["outcome"])
            if table == "requests":
                what = f"{what} has 'asked' that cannot be read"
                Asked.of(row["asked"])
        except ROW_ERRORS as error:
            text = " ".join(str(error).split())
            yield text if text.startswith(what) else f"{what} ({text})"


def _recomputed(database: Database, requests: RequestLog, policy: PolicyArrays) -> Iterator[str]:
    """Yield what is stored beside the log and does not follow from it."""
    saved = policy.snapshot()
    yield from requests.judgements.check(saved.queue)
    gone = database.table(twin(FEEDBACK))
    balance = sum(row["satisfied"] - row["alpha"] for row in gone)
    judged = sum(row["judged"] for row in gone)
    for row in database.scan("SELECT satisfied, alpha FROM feedback JOIN requests ON requests.id = request"):
        balance += row["satisfied"] - row["alpha"]
        judged += 1
    if abs(saved.balance - balance) > TOLERANCE * (1 + judged):
        yield f"the balance is {saved.balance:g}, but the stored feedback gives {balance:g}"
    newest = database.row("SELECT coalesce(max(request_number), 0) FROM requests WHERE forced = 0")
    last = max(pruned.decided(database), newest[0] if newest else 0)
    if saved.decided != last:
        yield f"{saved.decided} decisions are counted, but the last one in the log is number {last}"
    unserved = database.row(
        "SELECT count(*) FROM requests WHERE EXISTS (SELECT 1 FROM answers WHERE request = requests.id) "
        "AND NOT EXISTS (SELECT 1 FROM answers WHERE request = requests.id AND model = served)"
    )
    if unserved is not None and unserved[0]:
        yield f"{unserved[0]} requests have answers, but none of the model that served them"
    differ = database.row(
        "SELECT count(*) FROM feedback JOIN requests ON requests.id = feedback.request "
        "JOIN answers ON answers.request = feedback.request AND model = served "
        "WHERE answers.satisfied IS NULL OR answers.satisfied <> feedback.satisfied"
    )
    if differ is not None and differ[0]:
        yield f"{differ[0]} answers have another grade than their feedback"
