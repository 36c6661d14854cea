"""Which models are left alone for a while, since they failed: what the store keeps of lost attempts and of outages.

A circuit breaker: a model that failed is left out of decisions for five seconds, and twice as long with every further
failure, five minutes at most, or as long as its server asks for. Then one request may try it again, while the others
go on without it: it has the model to itself until the model answers or fails, or for as long as that may take, should
the request be killed. An answer ends the outage. Of failures that overlap one counts.

Some failures are forgiven: one whose own process crashed within an answer is started again by the next request, and is
left alone only if it fails then, too; one whose server refuses a request is left alone once it has refused three in a
row, since it may be the prompt's fault, or refuse them all. One that refuses a prompt, as too long for its context, is
not out: it is there, and can answer others. What is written here is written in the store's transactions.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
_LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class Lost:
    """The attempts that a model has lost, other than by the prompt: how many, why the last, and when that was.

    Times are in seconds since 1970; `again_at` is when the model may be tried again, None where it is in use.
    """

    attempts: int
    reason: str
    at: float
    again_at: float | None


@dataclass(frozen=True, slots=True)
class Refused:
    """The prompts that a model could not answer, as those longer than its context: how many, why the last, and when."""

    prompts: int
    reason: str
    at: float


def pause_s(failures: int, asked_s: float = 0.0) -> float:
    """Return how long a model is left alone after so many failures in a row; its server may ask for longer.

    Those that are forgiven count as 0 or less.
    """
    if failures <= 0:
        return 0.0
    doubled = FIRST_PAUSE_S * 2.0 ** min(failures - 1, 30)
    return min(LONGEST_PAUSE_S, max(doubled, asked_s))


def down(database: sqlite3.Connection, places: Mapping[str, str], now: float) -> frozenset[str]:
    """Return those models, of `places` by name, that are left alone now.

    One that has moved is another model. What was written later than now is of another clock, and does not count.
    """
    rows = database.execute("SELECT model, place, since, until FROM outages").fetchall()
    return frozenset(
        row["model"] for row in rows if places.get(row["model"]) == row["place"] and row["since"] <= now < row["until"]
    )


def claim(database: sqlite3.Connection, models: tuple[str, ...], now: float, within_s: float) -> None:
    """Have the one that asks now be the only one that tries these models again; nothing where they are in use.

    It ends when the model answers or fails, and after `within_s`, should the one that asks come to its end before.
    """
    database.executemany(
        "UPDATE outages SET since = ?, until = ? WHERE model = ? AND failures > 0",
        [(now, now + within_s, model) for model in models],
    )


def give_back(database: sqlite3.Connection, models: Iterable[str], now: float) -> None:
    """Have others try these models again after the first pause, since the one that had them to itself gave up."""
    database.executemany(
        "UPDATE outages SET until = min(until, ?) WHERE model = ?", [(now + FIRST_PAUSE_S, model) for model in models]
    )


def lose(
    database: sqlite3.Connection, request: int, model: str, reason: str, now: float, *, refused: bool = False
) -> None:
    """Log an attempt of a model at a request, by its key, that failed, or that it `refused` for the prompt's sake."""
    database.execute(
        "INSERT INTO attempts (request, model, reason, failed_at, refused) VALUES (?, ?, ?, ?, ?)",
        (request, model, reason[:_LONGEST_REASON], now, refused),
    )


def begin(
    database: sqlite3.Connection,
    model: str,
    place: str,
    now: float,
    *,
    began: float,
    asked_s: float = 0.0,
    forgiven: int = 0,
) -> None:
    """Begin an outage, or prolong it, since an attempt that `began` then has failed now.

    So many in a row are `forgiven`; the server may have `asked_s` for a pause. An attempt that began before the last
    failure, or before the attempt that has the model to itself, changes nothing.
    """
    found = "SELECT failures, since FROM outages WHERE model = ? AND place = ?"
    row = database.execute(found, (model, place)).fetchone()
    if row is not None and began < row["since"] <= now:
        return
    failures = 1 - forgiven if row is None else max(1 - forgiven, int(row["failures"]) + 1)
    database.execute(
        "INSERT OR REPLACE INTO outages (model, place, failures, since, until) VALUES (?, ?, ?, ?, ?)",
        (model, place, failures, now, now + pause_s(failures, asked_s)),
    )


def end(database: sqlite3.Connection, model: str) -> None:
    """End an outage, where there is one."""
    database.execute("DELETE FROM outages WHERE model = ?", (model,))


def lost(database: sqlite3.Connection) -> dict[str, Lost]:
    """Return the lost attempts of every model that has any, by name."""
    rows = database.execute(
        "SELECT attempts.model, count(*) AS count, reason, max(failed_at) AS failed_at, until FROM attempts "
        "LEFT JOIN outages ON outages.model = attempts.model "
        "WHERE NOT refused GROUP BY attempts.model ORDER BY attempts.model"
    )
    # SQLite takes `reason` from the row that has the maximum.
    return {row["model"]: Lost(row["count"], row["reason"], row["failed_at"], row["until"]) for row in rows}


def refused(database: sqlite3.Connection) -> dict[str, Refused]:
    """Return what every model has refused that has refused any prompt, by name."""
    rows = database.execute(
        "SELECT model, count(*) AS count, reason, max(failed_at) AS failed_at FROM attempts "
        "WHERE refused GROUP BY model ORDER BY model"
    )
    return {row["model"]: Refused(row["count"], row["reason"], row["failed_at"]) for row in rows}


def lost_by(database: sqlite3.Connection, request: int) -> dict[str, str]:
    """Return why the models failed that failed at a request, by its key."""
    rows = database.execute("SELECT model, reason FROM attempts WHERE request = ? ORDER BY id", (request,))
    return {row["model"]: row["reason"] for row in rows}
