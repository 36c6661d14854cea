"""States with many requests, written straight to the store."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from messctl.errors import BackendError
from messctl.learning.virtual_queue import advance
from messctl.records import Decision, Outcome, Request
from messctl.state.ledger import Ledger
from messctl.state.migrations import MIGRATIONS, SUMS
from messctl.state.place import Place
from messctl.state.request_log import Circumstances
from messctl.state.sqlite_file import MEMORY
from messctl.state.store import Store


def new_store(path: Place = MEMORY) -> Store:
    """Open a new state, by default in memory."""
    return Store(path)


def judged(store: Store, feedback: Iterable[tuple[float, float]], policy: str = "messplus", first: int = 0) -> None:
    """Log a request for each α and satisfaction, answered by the model a; their ids are r and a number."""
    with store.transaction():
        for number, (alpha, satisfied) in enumerate(feedback, first):
            request_id = f"r{number}"
            decision = Decision(Request(request_id, f"prompt {number}"), number + 1, "a", ("a",), 0.5)
            store.requests.add(decision, Circumstances(policy, alpha, "J", "a test"))
            store.requests.add_answers(request_id, {"a": Outcome(cost=1.5, tokens_in=3, tokens_out=1, answer="yes")})
            store.requests.set_feedback(request_id, {"a": satisfied}, "a")


def counting(store: Store) -> Callable[[], int]:
    """Count from now on how many instructions SQLite carries out; call what is returned to get the number."""
    calls = [0]

    def called() -> None:
        calls[0] += 1

    connection = store.database._connection
    connection.set_progress_handler(called, 1)

    def end() -> int:
        connection.set_progress_handler(None, 0)
        return calls[0]

    return end


def work(store: Store) -> Callable[[], tuple[int, int]]:
    """Count from now on the statements that the store executes, and the rows that they return, on either database.

    Call what is returned to get both numbers.
    """
    database, counted = store.database, Counter[str]()

    def counting_rows(rows: Callable[..., Iterable[Any]]) -> Callable[..., Iterator[Any]]:
        def wrapped(*arguments: Any) -> Iterator[Any]:
            counted["statements"] += 1
            for row in rows(*arguments):
                counted["rows"] += 1
                yield row

        return wrapped

    def counting_calls(execute: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            counted["statements"] += 1
            return execute(*arguments)

        return wrapped

    wrappers = {"rows": counting_rows} | dict.fromkeys(("row", "execute", "execute_many"), counting_calls)
    for name, wrapper in wrappers.items():
        setattr(database, name, wrapper(getattr(database, name)))

    def end() -> tuple[int, int]:
        for name in wrappers:
            delattr(database, name)
        return counted["statements"], counted["rows"]

    return end


WITHOUT_SUMS = SUMS - 1
"""The last version whose states keep no sums."""


def older_state(path: Path, requests: int) -> dict[str, float]:
    """Write a state as a messctl wrote it that kept no sums; all requests have feedback, which is returned by id."""
    feedback = [float(number % 4 > 0) for number in range(requests)]
    ids = [f"old{number}" for number in range(requests)]
    queue = 0.0
    for satisfied in feedback:
        queue = advance.plain(queue, 0.75, satisfied)
    path.touch(mode=0o600)
    with closing(sqlite3.connect(path)) as old:
        old.execute("PRAGMA journal_mode = WAL")
        old.create_function("packed", 1, lambda number: b"")
        for script in MIGRATIONS[:WITHOUT_SUMS]:
            old.executescript(script)
        old.executemany(
            "INSERT INTO requests VALUES "
            "(?, ?, 1.0, ?, 'messplus', ?, 'dear', 0, 0, 1, 0.75, 0, 1, 0, 'USD', 'a test', 9)",
            [(number + 1, each, f"prompt {number}", number + 1) for number, each in enumerate(ids)],
        )
        old.executemany(
            "INSERT INTO answers VALUES (?, 'dear', 'yes', 1.5, 0.1, 3, 1, ?, 'stated', 'stop', '')",
            [(number + 1, satisfied) for number, satisfied in enumerate(feedback)],
        )
        old.executemany(
            "INSERT INTO feedback VALUES (?, ?, ?, 1.0, NULL)",
            [(number + 1, number + 1, satisfied) for number, satisfied in enumerate(feedback)],
        )
        old.execute("INSERT INTO router VALUES (1, ?, ?, ?)", (requests, queue, sum(feedback) - 0.75 * requests))
        old.execute(f"PRAGMA user_version = {WITHOUT_SUMS}")
        old.commit()
    return dict(zip(ids, feedback, strict=True))


HOUR = 3600.0


def logged(store: Store, number: int, each: Mapping[str, Any]) -> None:
    """Log a request as its fields say."""
    request_id, model = f"r{number}", each["model"]
    decision = Decision(Request(request_id, f"secret {number}"), number + 1, model, (model,), 0.5)
    outcome = Outcome(cost=each["cost"], tokens_in=3 + number, tokens_out=1, answer="yes", cost_quality="measured")
    with store.transaction():
        store.requests.add(
            decision, Circumstances(each["policy"], each["alpha"], "J", "m", each["forced"], 12 + number)
        )
        if each["fate"] == "answered":
            store.requests.add_answers(request_id, {model: outcome})
        elif each["fate"] != "nothing":
            paid = outcome if each["fate"] == "empty" else None
            store.outages.fail(request_id, model, "a place", BackendError(f"failed at {number}"), None, paid)
        aged = (1e9 + HOUR * (100 * number + 40 * each["hour"]), request_id)
        store._database.execute("UPDATE requests SET asked_at = ? WHERE request_id = ?", aged)


def judge(store: Store, number: int, satisfied: float) -> None:
    """Judge a request that was logged."""
    with store.transaction():
        store.requests.set_feedback(f"r{number}", {"a": satisfied, "b": satisfied}, "a")
        settle(store)


def settle(store: Store) -> None:
    """Save what the router's state has of the log."""
    newest = store._database.row("SELECT coalesce(max(request_number), 0) FROM requests WHERE forced = 0")[0]
    known = store.policy.snapshot()
    decided = max(known.decided, newest)
    store.policy.save(replace(known, decided=decided, queue=store.requests.queue(), balance=store.requests.balance()))


def the_whole(store: Store) -> tuple[Any, ...]:
    """Return all that is said of the whole."""
    ledger = replace(Ledger.of(store), pruned=None)
    sums = store.requests.feedback_sums()
    tokens = store.requests.lengths.tokens_per_character(["a", "b"])
    return ledger, store.policy.snapshot(), store.requests.queue(), sums, tokens, store.requests.count()


def pruned(store: Store, before: float, at_once: int = 3) -> int:
    """Prune all requests from before a time, some at a time, and return their number."""
    gone = 0
    while done := store.prune(before, at_once):
        assert done <= at_once
        gone += done
    return gone
