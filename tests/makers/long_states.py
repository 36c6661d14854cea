"""States with many requests, written straight to the store."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from messctl.records import Decision, Outcome, Request
from messctl.state.request_log import Circumstances
from messctl.state.sqlite_file import MEMORY
from messctl.state.store import Store


def new_store(path: Path = MEMORY) -> Store:
    """Open a new state, by default in memory."""
    return Store(path)


def judged(store: Store, feedback: Iterable[tuple[float, float]], policy: str = "messplus") -> None:
    """Log a request `r0`, `r1`, … for each α and satisfaction, answered by the model a."""
    with store.transaction():
        for number, (alpha, satisfied) in enumerate(feedback):
            request_id = f"r{number}"
            decision = Decision(Request(request_id, f"prompt {number}"), number + 1, "a", ("a",), 0.5)
            store.requests.add(decision, Circumstances(policy, alpha, "J", "a test"))
            store.requests.add_answers(request_id, {"a": Outcome(cost=1.5, tokens_in=3, tokens_out=1, answer="yes")})
            store.requests.set_feedback(request_id, {"a": satisfied}, "a")
