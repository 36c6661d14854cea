"""What is kept of pruned requests: how they add up, and how the promise stood after them. No prompt, no answer, no id.

The sums of the log stay those of all requests that ever were. Each table of sums has a twin that holds the pruned part,
so that the sums can still be held against the log. The debt is a recursion over all feedback. It begins anew at a
`Base`, the last checkpoint before the first feedback that may still be corrected. What was pruned after that is kept as
a step: its place, α and the satisfaction.
"""

from __future__ import annotations

from dataclasses import dataclass

from messctl.state.database import Database, Row

STEPS = (
    "(SELECT feedback.id AS id, alpha, satisfied, given_at FROM feedback JOIN requests ON requests.id = request "
    "UNION ALL SELECT id, alpha, satisfied, given_at FROM pruned_feedback) AS given"
)
"""All feedback after the base, as a table: what is in the log, and what is kept of pruned requests."""


def twin(table: str) -> str:
    """Return the table that holds the pruned part of a table of sums."""
    return f"pruned_{table}"


@dataclass(frozen=True, slots=True)
class Base:
    """How the promise stood after the last feedback that is only kept as a sum; zeros if there is none.

    `place` is its place in the order of all feedback, `given_at` its time in seconds since 1970, and `judged` the
    number of answers with feedback up to it. `satisfied` and `alpha` are the sums of their satisfaction and of the α
    aimed at; `queue` ≥ 0 is the debt.
    """

    place: int = 0
    given_at: float = 0.0
    judged: int = 0
    satisfied: float = 0.0
    alpha: float = 0.0
    queue: float = 0.0


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was pruned: all `requests` from before the time `until`, in seconds since 1970.

    `pending` of them have an answer and no feedback, and can get none any more.
    """

    requests: int
    pending: int
    until: float


def base(database: Database) -> Base:
    """Return where the recursion over the stored feedback begins. Raises StoreError."""
    found = _row(database)
    if found is None:
        return Base()
    return Base(**{name: found[name] for name in Base.__dataclass_fields__})


def decided(database: Database) -> int:
    """Return the number of the last pruned decision of a policy; 0 if none was pruned. Raises StoreError."""
    found = _row(database)
    return int(found["decided"]) if found else 0


def looked_at(database: Database) -> float:
    """Return when the state was last rid of all that was too old, in seconds since 1970; 0.0: never."""
    found = _row(database)
    return float(found["looked_at"]) if found else 0.0


def pruned(database: Database) -> Pruned | None:
    """Return what was pruned; None if nothing was. Raises StoreError."""
    found = _row(database)
    requests = sum(row["requests"] for row in database.table(twin("request_sums")))
    if found is None or not requests:
        return None
    return Pruned(requests, sum(row["pending"] for row in database.table(twin("served_sums"))), found["until"])


def _row(database: Database) -> Row | None:
    return next(iter(database.kept("pruned")), None)
