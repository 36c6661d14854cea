"""Sums over the log, kept up to date in the transaction that changes them. So no figure has to walk the log.

Each table of sums is defined by a query over the log, which fills a new table, and tells whether an old one is right.
What a new decision, a first answer and feedback add is known without a query: it is added in memory, and written once
per transaction, whatever number of requests share it. For the rest, the query says what to add for one request.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from messctl.records import Outcome
from messctl.state.columns import COLUMNS, JUDGED, check
from messctl.state.database import Database, Row
from messctl.state.pruned import twin

TOLERANCE = 1e-9
"""Sums of floats that differ by less, relative to the number of addends, differ by rounding alone."""

COST_OF_OUTCOME = "json_extract(outcome, '$.cost')"
"""The cost in the outcome of an attempt, as SQLite says it; `postgres` says how PostgreSQL does."""

Key = tuple[str | int, ...]
Values = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Sums:
    """A table of sums: its keys and its values, each with the SQL that computes it, and the rows that are added up.

    `source` and `where` say which rows, and `request` is the column that says of which request a row is.
    """

    keys: Mapping[str, str]
    values: Mapping[str, str]
    source: str
    request: str
    where: str = "TRUE"

    def select(self, bound: str = "", sign: str = "") -> str:
        """Return the query for the sums over all requests, or over those whose key meets a condition, such as `= ?`.

        If the `sign` is "-", it gives what to take away.
        """
        values = {name: f"{sign}{sql}" for name, sql in self.values.items()}
        columns = ", ".join(f"{sql} AS {name}" for name, sql in {**self.keys, **values}.items())
        keys = ", ".join(self.keys.values())
        some = f"AND {self.request} {bound}" if bound else ""
        return f"SELECT {columns} FROM {self.source} WHERE {self.where} {some} GROUP BY {keys}"

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [*self.keys, *self.values]

    def key(self, row: Row) -> Key:
        """Return the key of a row."""
        return tuple([row[name] for name in self.keys])

    def add(self, table: str, rows: str) -> str:
        """Return the statement that adds what a query selects to rows of the table, or makes them."""
        sums = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in self.values)
        return self._upsert(table, rows, sums)

    def put(self, table: str, count: int) -> str:
        """Return the statement that puts so many rows into the table, in place of those with the same keys."""
        row = f"({', '.join('?' * len(self.names))})"
        values = ", ".join(f"{name} = excluded.{name}" for name in self.values)
        return self._upsert(table, f"VALUES {', '.join([row] * count)}", values)

    def _upsert(self, table: str, rows: str, update: str) -> str:
        conflict = f"ON CONFLICT ({', '.join(self.keys)}) DO UPDATE SET {update}"
        return f"INSERT INTO {table} ({', '.join(self.names)}) {rows} {conflict}"


REQUESTS, FEEDBACK, SERVED = "request_sums", "feedback_sums", "served_sums"
ANSWERS, EMPTY = "answer_sums", "empty_sums"
"""What is summed: the requests; those with feedback; the served answers; all answers; the empty answers."""

MEASURED = ("measured", "shared")
"""The qualities of a cost that a price can only predict."""
_PAID = {"model": "model", "cost_unit": "cost_unit", "meter": "meter"}

DEFINED: Mapping[str, Sums] = {
    REQUESTS: Sums(
        {"policy": "policy", "forced": "forced"}, {"requests": "count(*)"}, source="requests", request="requests.id"
    ),
    FEEDBACK: Sums(
        {"policy": "policy"},
        {"judged": "count(*)", "satisfied": "coalesce(sum(satisfied), 0.0)", "alpha": "coalesce(sum(alpha), 0.0)"},
        source="feedback JOIN requests ON requests.id = request",
        request="request",
    ),
    SERVED: Sums(
        _PAID | {"model": "served"},
        {
            "requests": "count(*)",
            "pending": "sum(CASE WHEN feedback.id IS NULL THEN 1 ELSE 0 END)",
            "explored": "CAST(sum(explored) AS BIGINT)",
            "forced": "CAST(sum(forced) AS BIGINT)",
            "tokens_in": "CAST(coalesce(sum(tokens_in), 0) AS BIGINT)",
            "tokens_out": "CAST(coalesce(sum(tokens_out), 0) AS BIGINT)",
        },
        source="requests LEFT JOIN answers ON answers.request = requests.id AND model = served "
        "LEFT JOIN feedback ON feedback.request = requests.id",
        where="EXISTS (SELECT 1 FROM answers AS any_answer WHERE any_answer.request = requests.id)",
        request="requests.id",
    ),
    ANSWERS: Sums(
        _PAID,
        {
            "answers": "count(*)",
            "tokens_in": "CAST(coalesce(sum(tokens_in), 0) AS BIGINT)",
            "tokens_out": "CAST(coalesce(sum(tokens_out), 0) AS BIGINT)",
            "measured": f"sum(CASE WHEN cost_quality IN {MEASURED} THEN 1 ELSE 0 END)",
            "cost": "coalesce(sum(cost), 0.0)",
        },
        source="answers JOIN requests ON requests.id = request",
        request="request",
    ),
    EMPTY: Sums(
        _PAID,
        {"answers": "count(*)", "cost": f"coalesce(sum({COST_OF_OUTCOME}), 0.0)"},
        source="attempts JOIN requests ON requests.id = request",
        where="outcome IS NOT NULL",
        request="request",
    ),
}
"""The tables by name."""


@dataclass(frozen=True, slots=True)
class Summed:
    """What the sums hold of a logged request. `id` is its key in the tables.

    `answered` says whether a model has answered. `judged` is the place of its feedback, None while that is pending, and
    `satisfied` is the feedback.
    """

    id: int
    request_id: str
    policy: str
    alpha: float
    served: str
    explored: int
    forced: int
    cost_unit: str
    meter: str
    characters: int | None
    answered: int
    judged: int | None
    satisfied: float | None

    def paid(self, model: str) -> Key:
        """Return the key of what a model's answers to it add up to."""
        return model, self.cost_unit, self.meter


SUMMED = (
    "SELECT requests.id AS id, request_id, policy, alpha, served, explored, forced, cost_unit, meter, characters, "
    "EXISTS (SELECT 1 FROM answers WHERE answers.request = requests.id) AS answered, "
    "(SELECT feedback.id FROM feedback WHERE feedback.request = requests.id) AS judged, "
    "(SELECT satisfied FROM feedback WHERE feedback.request = requests.id) AS satisfied "
    "FROM requests WHERE request_id = ?"
)
_HELD = {**{name: holds for name, holds in COLUMNS["requests"].items() if name in Summed.__slots__}, **JUDGED}


class KeptSums:
    """The tables of sums over the log. Write inside a transaction of the store. Every method raises StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def request(self, request_id: str) -> Summed | None:
        """Return what the sums hold of a request, None if it is not logged."""
        return next(self._database.read(_summed, SUMMED, (request_id,)), None)

    def rows(self, table: str) -> list[Row]:
        """Return the rows of a table, checked."""
        return self._database.kept(table)

    def left(self, table: str) -> list[tuple[str, ...]]:
        """Return the keys for which the log has rows that were not pruned."""
        sums = DEFINED[table]
        gone = _by_key(sums, self.rows(twin(table)))
        counted = _by_key(sums, self.rows(table))
        return [tuple(map(str, key)) for key, values in counted.items() if key not in gone or values[0] != gone[key][0]]

    def others(self, policy: str) -> int:
        """Return how many requests other policies than one have decided; the user's choices do not count."""
        return sum(row["requests"] for row in self.rows(REQUESTS) if row["policy"] != policy and not row["forced"])

    def decided(self, policy: str, *, forced: bool) -> None:
        """Count a new request."""
        self._add(REQUESTS, (policy, int(forced)), (1,))

    def answered(self, request: Summed, answers: Mapping[str, Outcome]) -> None:
        """Count the first answers to a request, by model."""
        served = answers.get(request.served)
        tokens = (served.tokens_in or 0, served.tokens_out or 0) if served else (0, 0)
        pending = int(request.judged is None)
        values = (1, pending, request.explored, request.forced, *tokens)
        self._add(SERVED, request.paid(request.served), values)
        for model, answer in answers.items():
            tokens, measured = (answer.tokens_in or 0, answer.tokens_out or 0), int(answer.cost_quality in MEASURED)
            self._add(ANSWERS, request.paid(model), (1, *tokens, measured, answer.cost or 0.0))

    def judged(self, request: Summed, satisfied: float) -> None:
        """Count feedback, 0..1, on a request, in place of an earlier one."""
        if request.judged is not None:
            self._add(FEEDBACK, (request.policy,), (0, satisfied - (request.satisfied or 0.0), 0.0))
            return
        self._add(FEEDBACK, (request.policy,), (1, satisfied, request.alpha))
        if request.answered:
            self._add(SERVED, request.paid(request.served), (0, -1, 0, 0, 0, 0))

    @contextmanager
    def following(self, request: int, *tables: str) -> Iterator[None]:
        """Let the sums of the tables follow what the block changes about a request, by its key."""
        self._add_of_log(request, tables, "-")
        yield
        self._add_of_log(request, tables)

    def fill(self) -> None:
        """Compute all sums from the log, and from what was pruned."""
        for table, sums in DEFINED.items():
            self._database.execute(f"DELETE FROM {table}")
            self._database.execute(sums.add(table, sums.select()))
            names = ", ".join(sums.names)
            self._database.execute(sums.add(table, f"SELECT {names} FROM {twin(table)} WHERE TRUE"))

    def prune(self, last: int) -> None:
        """Keep the sums over all requests up to a key, which are to be pruned."""
        for table, sums in DEFINED.items():
            self._database.execute(sums.add(twin(table), sums.select("<= ?")), (last,))

    def check(self) -> list[str]:
        """Return which sums are not those of the log and of what was pruned, one line each."""
        found = []
        for table, sums in DEFINED.items():
            kept = _by_key(sums, self._database.table(table))
            counted = _by_key(sums, list(self._database.rows(sums.select())))
            nothing = (0.0,) * len(sums.values)
            for key, gone in _by_key(sums, self._database.table(twin(table))).items():
                left = counted.get(key, nothing)
                counted[key] = tuple(one + other for one, other in zip(left, gone, strict=True))
            for key in sorted({**kept, **counted}, key=repr):
                pairs = zip(sums.values, kept.get(key, nothing), counted.get(key, nothing), strict=True)
                found += [
                    f"the sum {name!r} of {', '.join(map(repr, key))} in {table!r} is {one:g}, "
                    f"but the log gives {other:g}"
                    for name, one, other in pairs
                    if not close(one, other)
                ]
        return found

    def _add(self, table: str, key: Key, values: Values) -> None:
        """Add values to the sums of a key, to be written at the end of the transaction."""
        if not self._database.inside:
            with self._database.transaction():
                return self._add(table, key, values)
        changed = self._changed().setdefault(table, {})
        if key not in changed:
            changed[key] = self._own(table, key)
        row = changed[key]
        for name, value in zip(DEFINED[table].values, values, strict=True):
            row[name] += value
        self._database.later(self._write)

    def _own(self, table: str, key: Key) -> dict[str, Any]:
        """Return the row of a key as it is in memory, and may change there; a new one of zeros if there is none."""
        sums, rows = DEFINED[table], list(self.rows(table))
        at = next((at for at, row in enumerate(rows) if sums.key(row) == key), len(rows))
        own = (
            dict(rows[at]) if at < len(rows) else dict.fromkeys(sums.names, 0) | dict(zip(sums.keys, key, strict=True))
        )
        rows[at : at + 1] = [own]
        self._database.keep(table, rows)
        return own

    def _changed(self) -> dict[str, dict[Key, dict[str, Any]]]:
        """Return the rows that have changed in memory, by table and key; forgotten with these sums."""
        return self._database.remembered("changed sums", dict)

    def _write(self) -> None:
        """Write the sums that have changed in memory."""
        changed = self._changed()
        while changed:
            table, own = changed.popitem()
            sums, rows = DEFINED[table], self.rows(table)
            values = [row[name] for row in own.values() for name in sums.names]
            self._database.execute(sums.put(table, len(own)), values)
            self._database.keep(table, rows)

    def _add_of_log(self, request: int, tables: Iterable[str], sign: str = "") -> None:
        """Add what a request brings to the tables according to the log, or take it away."""
        for table in tables:
            self._write()
            sums = DEFINED[table]
            self._database.execute(sums.add(table, sums.select("= ?", sign)), (request,))


def close(one: float, other: float) -> bool:
    """Return whether two sums of floats are the same but for rounding."""
    return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _summed(row: Row) -> Summed:
    values = dict(row)
    check(f"request {row['id']}", values, _HELD)
    return Summed(**values)


def _by_key(sums: Sums, rows: Sequence[Row]) -> dict[Key, Values]:
    return {sums.key(row): tuple(row[name] for name in sums.values) for row in rows}
