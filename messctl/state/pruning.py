"""Pruning: old requests go, with their prompts and answers, and what they add up to stays.

A request goes with its answers, feedback, failed attempts and remarks. What depends on it is kept, see
`messctl.state.pruned`: every sum, the debt, and what a correction of later feedback needs. So status, decisions and
lessons are those of a state that was not pruned.
"""

from __future__ import annotations

import time
from dataclasses import astuple, fields

from messctl.state import pruned
from messctl.state.columns import MOST
from messctl.state.database import Database
from messctl.state.outages import Outages
from messctl.state.pruned import Base, Pruned
from messctl.state.request_log import RequestLog

AT_ONCE = 200
"""How many requests one transaction prunes; it takes some milliseconds, for which other processes wait."""
_COLUMNS = ("looked_at", "until", "decided", *(field.name for field in fields(Base)))
SAVE = (
    f"INSERT INTO pruned (id, {', '.join(_COLUMNS)}) VALUES (1, {', '.join('?' * len(_COLUMNS))}) "
    f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS)}"
)


class Pruning:
    """Deletes old requests. Write inside a transaction of the store. Every method raises StoreError."""

    def __init__(self, database: Database, requests: RequestLog, outages: Outages) -> None:
        self._database = database
        self._requests = requests
        self._outages = outages

    def looked_at(self) -> float:
        """Return when the state was last rid of all that was too old, in seconds since 1970; 0.0: never."""
        return pruned.looked_at(self._database)

    def pruned(self) -> Pruned | None:
        """Return what was pruned; None if nothing was."""
        return pruned.pruned(self._database)

    def left(self) -> int:
        """Return the number of requests that are still in the log."""
        gone = self.pruned()
        return self._requests.count() - (gone.requests if gone else 0)

    def count(self, before: float) -> int:
        """Return how many requests `prune` would delete, all in all."""
        found = self._database.row("SELECT count(*) FROM requests WHERE id <= ?", (self._last(before, MOST),))
        return int(found[0]) if found else 0

    def prune(self, before: float, at_once: int = AT_ONCE) -> int:
        """Delete the oldest requests that were asked before a time, in seconds since 1970, and return their number.

        It is at most `at_once`. A request that a clock dated into the future is as old as its neighbours.
        """
        last = self._last(before, at_once)
        known = self._database.row("SELECT until, decided FROM pruned")
        until, decided = known or (0.0, 0)
        if not last:
            self._save(time.time(), until, decided, pruned.base(self._database))
            return 0
        numbers = self._database.row(
            "SELECT count(*), coalesce(max(CASE WHEN forced = 0 THEN request_number ELSE 0 END), 0) FROM requests "
            "WHERE id <= ?",
            (last,),
        )
        requests, number = numbers or (0, 0)
        self._requests.sums.prune(last)
        self._outages.prune(last)
        self._database.execute(
            "INSERT INTO pruned_feedback SELECT feedback.id, alpha, satisfied, given_at FROM feedback "
            "JOIN requests ON requests.id = request WHERE request <= ?",
            (last,),
        )
        self._database.execute("DELETE FROM requests WHERE id <= ?", (last,))
        left = self._database.row("SELECT min(id) FROM feedback")
        first = MOST if left is None or left[0] is None else int(left[0])
        self._save(
            pruned.looked_at(self._database),
            max(until, before),
            max(decided, number),
            self._requests.judgements.fold(first),
        )
        return int(requests)

    def _save(self, looked_at: float, until: float, decided: int, base: Base) -> None:
        self._database.execute(SAVE, (looked_at, until, decided, *astuple(base)))

    def _last(self, before: float, at_once: int) -> int:
        """Return the key of the last of the oldest requests that are too old; 0 if there is none."""
        now, last, most = time.time(), 0, 0
        for at, row in enumerate(self._database.scan("SELECT id, asked_at FROM requests ORDER BY id"), 1):
            if before <= row["asked_at"] <= now:
                break
            if at == at_once:
                most = row["id"]
            if row["asked_at"] < before:
                last = row["id"]
            if last and at >= at_once:
                break
        return min(last, most) if most else last
