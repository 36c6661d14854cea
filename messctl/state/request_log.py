"""The log of requests, in the store's tables: each decision, what was answered, what that cost, and how it was judged.

What is written here is written in the store's transactions.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from messctl.errors import UsageError
from messctl.records import Decision, Outcome, Request
from messctl.state import outages

TOKENS_PER_CHARACTER = 0.25
"""Before a model has answered; for English text, it is about that with most vocabularies."""
RECENT = 50
"""So many of a model's latest answers are looked at, which takes some 0.05 ms."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the store keeps of a request beside the decision: what α was aimed at, and how it was priced.

    `characters` is the length of the whole question; None where that is not known, or turns came before it.
    """

    policy: str
    alpha: float
    cost_unit: str
    meter: str
    forced: bool = False
    characters: int | None = None


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One request as it is stored. `answers` is empty where the model never answered (it failed, or was stopped).

    `satisfied` is the feedback on the served answer, None while it is pending; `judged` is its place in the order in
    which feedback came, from 1. `propensity` is None where the user chose the model. `lost` says why models failed that
    were asked, by name.
    """

    decision: Decision
    asked_at: datetime
    circumstances: Circumstances
    propensity: float | None
    answers: Mapping[str, Outcome] = field(default_factory=dict)
    satisfied: float | None = None
    judged: int | None = None
    lost: Mapping[str, str] = field(default_factory=dict)

    @property
    def rerouted(self) -> bool:
        """Whether it was answered by another model than the one decided on at first."""
        return bool(self.answers) and bool(set(self.lost) - set(self.answers)) and not self.decision.explored


def add(database: sqlite3.Connection, decision: Decision, circumstances: Circumstances, now: float) -> None:
    """Log a decision before it is carried out; `now` is in seconds since 1970."""
    database.execute(
        "INSERT INTO requests (request_id, asked_at, prompt, policy, request_number, served, explored, forced, "
        "gradable, alpha, p_explore, propensity, queue, cost_unit, meter, characters) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            decision.request.request_id,
            now,
            decision.request.prompt,
            circumstances.policy,
            decision.request_number,
            decision.served,
            decision.explored,
            circumstances.forced,
            decision.request.gradable,
            circumstances.alpha,
            decision.p_explore,
            None if circumstances.forced else decision.propensity,
            decision.queue,
            circumstances.cost_unit,
            circumstances.meter,
            circumstances.characters,
        ),
    )


def decided_by_others_since(database: sqlite3.Connection, request_id: str, policy: str) -> int:
    """Return how many requests after this one were decided by another policy; the user's choices are nobody's."""
    (count,) = database.execute(
        "SELECT count(*) FROM requests WHERE id > ? AND policy != ? AND NOT forced", (key(database, request_id), policy)
    ).fetchone()
    return int(count)


def revise(database: sqlite3.Connection, decision: Decision) -> None:
    """Log what was decided instead, since the model decided on before cannot answer."""
    database.execute(
        "UPDATE requests SET served = ?, explored = ?, p_explore = ?, propensity = ?, queue = ? WHERE request_id = ?",
        (
            decision.served,
            decision.explored,
            decision.p_explore,
            decision.propensity,
            decision.queue,
            decision.request.request_id,
        ),
    )


def has(database: sqlite3.Connection, request_id: str) -> bool:
    """Tell whether a request is logged."""
    return bool(database.execute("SELECT 1 FROM requests WHERE request_id = ?", (request_id,)).fetchone())


def key(database: sqlite3.Connection, request_id: str) -> int:
    """Return a request's key in the tables. Raises UsageError for one that is not known."""
    row = database.execute("SELECT id FROM requests WHERE request_id = ?", (request_id,)).fetchone()
    if row is None:
        raise UsageError(f"unknown request id {request_id!r}; `messctl log` lists them")
    return int(row["id"])


def add_answers(database: sqlite3.Connection, request_id: str, answers: Mapping[str, Outcome]) -> None:
    """Log what models answered, by name, and what that cost. Raises UsageError for a request that is not known."""
    request = key(database, request_id)
    database.executemany(
        "INSERT OR REPLACE INTO answers "
        "(request, model, answer, cost, latency_s, tokens_in, tokens_out, satisfied, cost_quality) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                request,
                model,
                got.answer,
                got.cost,
                got.latency_s,
                got.tokens_in,
                got.tokens_out,
                got.satisfied,
                got.cost_quality,
            )
            for model, got in answers.items()
        ],
    )


def judge(
    database: sqlite3.Connection, request_id: str, satisfied: Mapping[str, float], served: str, now: float
) -> float | None:
    """Log feedback by model; see `Store.set_feedback`."""
    request = key(database, request_id)
    database.executemany(
        "UPDATE answers SET satisfied = ? WHERE request = ? AND model = ?",
        [(value, request, model) for model, value in satisfied.items()],
    )
    row = database.execute("SELECT satisfied FROM feedback WHERE request = ?", (request,)).fetchone()
    if row is None:
        database.execute(
            "INSERT INTO feedback (request, satisfied, given_at) VALUES (?, ?, ?)", (request, satisfied[served], now)
        )
        return None
    database.execute(
        "UPDATE feedback SET satisfied = ?, corrected_at = ? WHERE request = ?", (satisfied[served], now, request)
    )
    return float(row["satisfied"])


def read(database: sqlite3.Connection, where: str = "", values: tuple[Any, ...] = ()) -> Iterator[LoggedRequest]:
    """Yield the logged requests, oldest first."""
    rows = database.execute(
        "SELECT requests.*, feedback.satisfied AS satisfied, feedback.id AS judged FROM requests "
        f"LEFT JOIN feedback ON feedback.request = requests.id {where} ORDER BY requests.id",
        values,
    )
    for row in rows:
        answers = database.execute("SELECT * FROM answers WHERE request = ?", (row["id"],))
        yield _logged(row, answers.fetchall(), outages.lost_by(database, row["id"]))


def newest(database: sqlite3.Connection, count: int) -> list[LoggedRequest]:
    """Return the newest `count` requests, oldest first."""
    return list(read(database, "WHERE requests.id IN (SELECT id FROM requests ORDER BY id DESC LIMIT ?)", (count,)))


def find(database: sqlite3.Connection, request_id: str) -> LoggedRequest:
    """Return one request; see `Store.find`."""
    if request_id == "last":
        found = list(read(database, "WHERE requests.id = (SELECT max(request) FROM answers)"))
    else:
        starts = (request_id, request_id + "\U0010ffff")
        found = list(read(database, "WHERE request_id >= ? AND request_id < ?", starts))
    exact = [each for each in found if each.decision.request.request_id == request_id]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if found:
        raise UsageError(f"request id {request_id!r} stands for {len(found)} requests; give more of it")
    none = "no request has been answered yet" if request_id == "last" else f"unknown request id {request_id!r}"
    raise UsageError(f"{none}; `messctl log` lists them")


def _logged(row: sqlite3.Row, answers: list[sqlite3.Row], lost: Mapping[str, str]) -> LoggedRequest:
    outcomes = {
        answer["model"]: Outcome(
            satisfied=answer["satisfied"],
            cost=answer["cost"],
            latency_s=answer["latency_s"],
            tokens_in=answer["tokens_in"],
            tokens_out=answer["tokens_out"],
            answer=answer["answer"],
            cost_quality=answer["cost_quality"],
        )
        for answer in answers
    }
    return LoggedRequest(
        decision=Decision(
            request=Request(row["request_id"], row["prompt"], bool(row["gradable"])),
            request_number=0 if row["forced"] else row["request_number"],
            served=row["served"],
            queried=tuple(sorted(outcomes)) or (row["served"],),
            propensity=row["propensity"] or 1.0,
            explored=bool(row["explored"]),
            p_explore=row["p_explore"],
            queue=row["queue"],
        ),
        asked_at=datetime.fromtimestamp(row["asked_at"], UTC),
        circumstances=Circumstances(
            row["policy"], row["alpha"], row["cost_unit"], row["meter"], bool(row["forced"]), row["characters"]
        ),
        propensity=row["propensity"],
        answers=outcomes,
        satisfied=row["satisfied"],
        judged=row["judged"],
        lost=lost,
    )


def tokens_per_character(database: sqlite3.Connection, models: Iterable[str]) -> dict[str, float]:
    """Return how many tokens each model's recent questions had per character, of a store's tables; > 0.

    What stands around every question, as a chat template and the model's own system message, is in it.
    """
    ratios = {}
    for model in models:
        tokens, length = database.execute(
            "SELECT total(tokens_in), total(characters) FROM ("
            "SELECT tokens_in, characters FROM answers JOIN requests ON requests.id = request "
            "WHERE model = ? ORDER BY request DESC LIMIT ?) WHERE tokens_in > 0 AND characters > 0",
            (model, RECENT),
        ).fetchone()
        ratios[model] = tokens / length if length else TOKENS_PER_CHARACTER
    return ratios
