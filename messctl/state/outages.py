"""Outages: which models the router leaves alone for a while, because they failed.

A circuit breaker. A model that failed is left out of decisions for five seconds, and for twice as long after every
further failure: five minutes at most, or as long as its server asks for. Then one request may try it again, and the
others go on without it. That request has the model to itself until the model answers or fails. If the request is
killed, it has the model for as long as an answer may take. An answer ends the outage. Of failures that overlap, one
counts.

Some failures are forgiven. If the process of a model crashed during an answer, the next request starts it again; the
model is left alone only if it fails then, too. If a server refuses a request, the prompt may be to blame: the model is
left alone only after three refusals in a row. So it is with empty answers. A model that cannot answer one prompt,
because it is too long for its context, is not out: it can answer others.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from messctl.errors import BackendError, PromptError
from messctl.records import Outcome
from messctl.state.columns import MOST
from messctl.state.database import Database, Row
from messctl.state.pruned import twin
from messctl.state.sums import EMPTY, KeptSums

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
_LONGEST_REASON = 500
SUMS = "attempt_sums"
ADD_ATTEMPTS = """
    INSERT INTO {table} (model, reason, failed_at, refused, attempts) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (model, refused) DO UPDATE SET attempts = {table}.attempts + excluded.attempts,
        reason = CASE WHEN excluded.failed_at >= {table}.failed_at THEN excluded.reason ELSE {table}.reason END,
        failed_at = CASE WHEN excluded.failed_at >= {table}.failed_at THEN excluded.failed_at ELSE {table}.failed_at END
"""
"""Adds attempts to a table of sums, with the reason of the last one."""
BEGIN_OUTAGE = """
    INSERT INTO outages (model, place, failures, since, until) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (model) DO UPDATE SET place = excluded.place, failures = excluded.failures, since = excluded.since,
        until = excluded.until
"""


@dataclass(frozen=True, slots=True)
class LostAttempts:
    """The attempts of a model that failed, refused prompts aside: their number, and why and when the last one failed.

    Times are in seconds since 1970. `again_at` is when the model may be tried again, None if it is in use.
    """

    attempts: int
    reason: str
    at: float
    again_at: float | None


@dataclass(frozen=True, slots=True)
class RefusedPrompts:
    """The prompts that a model could not answer, as too long for it: their number, and why and when it refused last."""

    prompts: int
    reason: str
    at: float


class Outages:
    """The failures of models, and the pauses that follow. Write inside a transaction of the store.

    Every method raises StoreError.
    """

    def __init__(self, database: Database, sums: KeptSums) -> None:
        self._database = database
        self._sums = sums

    def down(self, places: Mapping[str, str]) -> frozenset[str]:
        """Return the models to leave alone now; `places` says by name where each model is.

        A model that has moved counts as another model. An outage that begins later than now was written by another
        clock, and does not count.
        """
        now = time.time()
        return frozenset(
            row["model"]
            for row in self._database.kept("outages")
            if places.get(row["model"]) == row["place"] and row["since"] <= now < row["until"]
        )

    def claim(self, models: Iterable[str], within_s: float) -> None:
        """Let the present request alone try those of the models that are out.

        The claim ends when the model answers or fails, or after `within_s` seconds, if the request is killed first.
        """
        now = time.time()
        self._database.execute_many(
            "UPDATE outages SET since = ?, until = ? WHERE model = ? AND failures > 0",
            [(now, now + within_s, model) for model in self._known(models)],
        )

    def give_back(self, models: Iterable[str]) -> None:
        """Let others try models again after the first pause, since the request that had claimed them gave up."""
        until = time.time() + FIRST_PAUSE_S
        self._database.execute_many(
            "UPDATE outages SET until = ? WHERE model = ? AND until > ?", [(until, model, until) for model in models]
        )

    def end(self, models: Iterable[str]) -> None:
        """End the outages of models that answer."""
        ended = [(model,) for model in self._known(models)]
        self._database.execute_many("DELETE FROM outages WHERE model = ?", ended)

    def _known(self, models: Iterable[str]) -> list[str]:
        """Return those of the models that have failed lately."""
        known = {row["model"] for row in self._database.kept("outages")}
        return [model for model in models if model in known]

    def fail(
        self,
        request_id: str,
        model: str,
        place: str,
        error: BackendError,
        started_at: float | None = None,
        outcome: Outcome | None = None,
    ) -> None:
        """Log an attempt at a request that failed, and leave the model alone for a while.

        The attempt started at `started_at`, in seconds since 1970; None: now. If the prompt was to blame, an outage of
        the model ends. The attempt is not logged if the state was reset after the request came.
        `outcome` is the empty answer that was paid for, if that is what failed.
        """
        now, refused = time.time(), isinstance(error, PromptError)
        for row in list(self._database.rows("SELECT id FROM requests WHERE request_id = ?", (request_id,))):
            with self._sums.following(row["id"], *([] if outcome is None else [EMPTY])):
                attempt = (model, str(error)[:_LONGEST_REASON], now, refused)
                self._database.execute(
                    "INSERT INTO attempts (request, model, reason, failed_at, refused, outcome) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    (row["id"], *attempt, None if outcome is None else json.dumps(asdict(outcome))),
                )
                self._add(SUMS, [(*attempt, 1)])
        if refused:
            self.end([model])
        else:
            self._begin(model, place, error, now, now if started_at is None else started_at)

    def lost(self) -> dict[str, LostAttempts]:
        """Return, by name, the failed attempts of every model that has any."""
        until = {row["model"]: row["until"] for row in self._database.table("outages")}
        return {
            row["model"]: LostAttempts(row["attempts"], row["reason"], row["failed_at"], until.get(row["model"]))
            for row in self._database.table("attempt_sums", "WHERE refused = 0 ORDER BY model")
        }

    def refused(self) -> dict[str, RefusedPrompts]:
        """Return, by name, the refused prompts of every model that has any."""
        return {
            row["model"]: RefusedPrompts(row["attempts"], row["reason"], row["failed_at"])
            for row in self._database.table("attempt_sums", "WHERE refused = 1 ORDER BY model")
        }

    def fill(self) -> None:
        """Compute the sums of attempts from the log, and from what was pruned."""
        self._database.execute(f"DELETE FROM {SUMS}")
        gone = self._database.rows(f"SELECT model, reason, failed_at, refused, attempts FROM {twin(SUMS)}")
        self._add(SUMS, [tuple(row) for row in gone])
        self._add(SUMS, self._attempts())

    def prune(self, last: int) -> None:
        """Keep the sums over the attempts at all requests up to a key, which are to be pruned."""
        self._add(twin(SUMS), self._attempts(last))

    def check(self) -> list[str]:
        """Return which sums of attempts are not those of the log and of what was pruned, one line each."""

        def key(row: Row) -> tuple[str, int]:
            return row["model"], row["refused"]

        counted = {
            key(row): (row["attempts"], row["failed_at"])
            for row in self._database.rows(
                "SELECT model, refused, count(*) AS attempts, max(failed_at) AS failed_at FROM attempts "
                "GROUP BY model, refused"
            )
        }
        for row in self._database.table(twin(SUMS)):
            attempts, failed_at = counted.get(key(row), (0, 0.0))
            counted[key(row)] = (attempts + row["attempts"], max(failed_at, row["failed_at"]))
        kept = {key(row): (row["attempts"], row["failed_at"]) for row in self._database.table("attempt_sums")}
        return [
            f"the attempts of model {model!r} are counted as {kept.get((model, refused), (0,))[0]}, "
            f"but the log has {counted.get((model, refused), (0,))[0]}"
            for model, refused in sorted({**kept, **counted})
            if kept.get((model, refused)) != counted.get((model, refused))
        ]

    def _attempts(self, last: int = MOST) -> list[tuple[object, ...]]:
        """Return the attempts at requests up to a key, in their order, as they are added to the sums."""
        query = "SELECT model, reason, failed_at, refused, 1 FROM attempts WHERE request <= ? ORDER BY id"
        return [tuple(row) for row in self._database.rows(query, (last,))]

    def _add(self, table: str, attempts: list[tuple[object, ...]]) -> None:
        self._database.execute_many(ADD_ATTEMPTS.format(table=table), attempts)

    def _begin(self, model: str, place: str, error: BackendError, now: float, started_at: float) -> None:
        """Begin an outage, or prolong it.

        Nothing changes if the attempt started before the last failure, or before the model was claimed.
        """
        row = self._database.row("SELECT failures, since FROM outages WHERE model = ? AND place = ?", (model, place))
        if row is not None and started_at < row["since"] <= now:
            return
        first = 1 - error.forgiven
        failures = first if row is None else max(first, int(row["failures"]) + 1)
        self._database.execute(
            BEGIN_OUTAGE, (model, place, failures, now, now + pause_s(failures, error.again_after_s))
        )


def pause_s(failures: int, wanted_s: float = 0.0) -> float:
    """Return for how many seconds a model is left alone after a number of failures in a row.

    The model's server may want a longer pause, `wanted_s`. `failures` is 0 or less while they are forgiven.
    """
    if failures <= 0:
        return 0.0
    doubled = FIRST_PAUSE_S * 2.0 ** min(failures - 1, 30)
    return min(LONGEST_PAUSE_S, max(doubled, wanted_s))
