"""Sums over the log, kept up to date in the transaction that changes them. So no figure has to walk the log.

Each table of sums is defined once, by a query over the log. For one request the query says what to add. For all
requests it fills a new table, and tells whether an old one is right.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

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

    def upsert(self, table: str, rows: str = "") -> str:
        """Return the statement that adds to rows of the table, or makes them: one, or those that a query selects."""
        names = [*self.keys, *self.values]
        added = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in self.values)
        rows = rows or f"VALUES ({', '.join('?' * len(names))})"
        conflict = f"ON CONFLICT ({', '.join(self.keys)}) DO UPDATE SET {added}"
        return f"INSERT INTO {table} ({', '.join(names)}) {rows} {conflict}"


REQUESTS, FEEDBACK, SERVED = "request_sums", "feedback_sums", "served_sums"
ANSWERS, EMPTY = "answer_sums", "empty_sums"
"""What is summed: the requests; those with feedback; the served answers; all answers; the empty answers."""

OTHERS = f"SELECT CAST(coalesce(sum(requests), 0) AS BIGINT) FROM {REQUESTS} WHERE policy <> ? AND forced = 0"
"""Selects how many requests another policy than one decided."""
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
            "measured": "sum(CASE WHEN cost_quality IN ('measured', 'shared') THEN 1 ELSE 0 END)",
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
"""The tables by name. A cost that is `measured` or `shared` is one that a price can only predict."""


class KeptSums:
    """The tables of sums over the log. Write inside a transaction of the store. Every method raises StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def rows(self, table: str) -> list[Row]:
        """Return the rows of a table, checked."""
        return self._database.kept(table)

    def left(self, table: str) -> list[tuple[str, ...]]:
        """Return the keys for which the log has rows that were not pruned."""
        sums = DEFINED[table]
        gone = _by_key(sums, self.rows(twin(table)))
        counted = _by_key(sums, self.rows(table))
        return [tuple(map(str, key)) for key, values in counted.items() if key not in gone or values[0] != gone[key][0]]

    def add(self, table: str, key: Key, values: Values) -> None:
        """Add values to the sums of a key."""
        self._database.execute(DEFINED[table].upsert(table), (*key, *values))

    @contextmanager
    def following(self, request: int, *tables: str, new: bool = False) -> Iterator[None]:
        """Let the sums of the tables follow what the block changes about a request, by its key.

        If it is `new` to the tables, nothing is taken away first.
        """
        if not new:
            self._add(request, tables, "-")
        yield
        self._add(request, tables)

    def fill(self) -> None:
        """Compute all sums from the log, and from what was pruned."""
        for table, sums in DEFINED.items():
            self._database.execute(f"DELETE FROM {table}")
            self._database.execute(sums.upsert(table, sums.select()))
            names = ", ".join([*sums.keys, *sums.values])
            self._database.execute(sums.upsert(table, f"SELECT {names} FROM {twin(table)} WHERE TRUE"))

    def prune(self, last: int) -> None:
        """Keep the sums over all requests up to a key, which are to be pruned."""
        for table, sums in DEFINED.items():
            self._database.execute(sums.upsert(twin(table), sums.select("<= ?")), (last,))

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

    def _add(self, request: int, tables: Iterable[str], sign: str = "") -> None:
        """Add what a request brings to the tables, or take it away."""
        for table in tables:
            sums = DEFINED[table]
            self._database.execute(sums.upsert(table, sums.select("= ?", sign)), (request,))


def close(one: float, other: float) -> bool:
    """Return whether two sums of floats are the same but for rounding."""
    return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _by_key(sums: Sums, rows: Sequence[Row]) -> dict[Key, Values]:
    return {tuple(row[name] for name in sums.keys): tuple(row[name] for name in sums.values) for row in rows}
