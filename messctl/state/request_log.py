"""The log of requests: each decision, the answers, what they cost, and the feedback on them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from messctl.errors import UsageError
from messctl.learning.virtual_queue import advance
from messctl.records import Decision, Outcome, Request
from messctl.state.database import Database, Row

TOKENS_PER_CHARACTER = 0.25
"""The ratio of a model that has not answered yet; in English text it is about that for most vocabularies."""
RECENT = 50
"""How many of a model's latest answers its ratio is taken from; reading them takes some 0.05 ms."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the store keeps of a request beside the decision: the α that was aimed at, and how costs were measured.

    `characters` is the length of the whole question, None if it is unknown or earlier turns came with it.
    """

    policy: str
    alpha: float
    cost_unit: str
    meter: str
    forced: bool = False
    characters: int | None = None


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One request as it is stored. `answers` is empty if no model answered: all failed, or the user stopped it.

    `satisfied` is the feedback on the served answer, None while it is pending. `judged` is its place in the order of
    all feedback, from 1. `propensity` is None if the user chose the model. `lost` says, by name, why models failed.
    `empty` are the empty answers among these, which were paid for.
    """

    decision: Decision
    asked_at: datetime
    circumstances: Circumstances
    propensity: float | None
    answers: Mapping[str, Outcome] = field(default_factory=dict)
    satisfied: float | None = None
    judged: int | None = None
    lost: Mapping[str, str] = field(default_factory=dict)
    empty: Mapping[str, Outcome] = field(default_factory=dict)

    @property
    def rerouted(self) -> bool:
        """Whether another model answered than the one decided on first."""
        return bool(self.answers) and bool(set(self.lost) - set(self.answers)) and not self.decision.explored


@dataclass(frozen=True, slots=True)
class FeedbackSums:
    """The number of answers with feedback, and the sums of their satisfaction and of the α aimed at."""

    count: int
    satisfied: float
    alpha: float


class RequestLog:
    """The logged requests; iterate over them from the oldest on. Write inside a transaction of the store.

    Every method raises StoreError. Those that name a request raise UsageError if it is not logged.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def __iter__(self) -> Iterator[LoggedRequest]:
        return self._read()

    def add(self, decision: Decision, circumstances: Circumstances) -> None:
        """Log a decision before it is carried out."""
        self._database.execute(
            "INSERT INTO requests (request_id, asked_at, prompt, policy, request_number, served, explored, forced, "
            "gradable, alpha, p_explore, propensity, queue, cost_unit, meter, characters) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                decision.request.request_id,
                time.time(),
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

    def revise(self, decision: Decision) -> None:
        """Log the decision that replaces an earlier one, whose model could not answer."""
        self._database.execute(
            "UPDATE requests SET served = ?, explored = ?, p_explore = ?, propensity = ?, queue = ? "
            "WHERE request_id = ?",
            (
                decision.served,
                decision.explored,
                decision.p_explore,
                decision.propensity,
                decision.queue,
                decision.request.request_id,
            ),
        )

    def add_answers(self, request_id: str, answers: Mapping[str, Outcome]) -> None:
        """Log what models answered, by name, and what that cost."""
        request = self._key(request_id)
        self._database.execute_many(
            "INSERT OR REPLACE INTO answers "
            "(request, model, answer, cost, latency_s, tokens_in, tokens_out, satisfied, cost_quality, finish, "
            "thinking) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    request,
                    model,
                    outcome.answer,
                    outcome.cost,
                    outcome.latency_s,
                    outcome.tokens_in,
                    outcome.tokens_out,
                    outcome.satisfied,
                    outcome.cost_quality,
                    outcome.finish,
                    outcome.thinking,
                )
                for model, outcome in answers.items()
            ],
        )

    def set_feedback(self, request_id: str, satisfied: Mapping[str, float], served: str) -> float | None:
        """Log feedback, 0..1, by model; the feedback on the `served` answer counts toward the promise.

        A second feedback on the same request corrects the first, which is returned. It keeps its place in the order.
        """
        request, now = self._key(request_id), time.time()
        self._database.execute_many(
            "UPDATE answers SET satisfied = ? WHERE request = ? AND model = ?",
            [(value, request, model) for model, value in satisfied.items()],
        )
        earlier = self._database.row("SELECT satisfied FROM feedback WHERE request = ?", (request,))
        if earlier is None:
            self._database.execute(
                "INSERT INTO feedback (request, satisfied, given_at) VALUES (?, ?, ?)",
                (request, satisfied[served], now),
            )
            return None
        self._database.execute(
            "UPDATE feedback SET satisfied = ?, corrected_at = ? WHERE request = ?", (satisfied[served], now, request)
        )
        return float(earlier["satisfied"])

    def has(self, request_id: str) -> bool:
        """Return whether a request is logged."""
        return self._database.row("SELECT 1 FROM requests WHERE request_id = ?", (request_id,)) is not None

    def find(self, request_id: str) -> LoggedRequest:
        """Return the request with an id, or the only one whose id starts with it; `last`: the last one answered.

        Raises UsageError if there is no such request, or more than one.
        """
        if request_id == "last":
            found = list(self._read("WHERE requests.id = (SELECT max(request) FROM answers)"))
        else:
            starts = (request_id, request_id + "\U0010ffff")
            found = list(self._read("WHERE request_id >= ? AND request_id < ?", starts))
        exact = [each for each in found if each.decision.request.request_id == request_id]
        if len(exact or found) == 1:
            return (exact or found)[0]
        if found:
            raise UsageError(f"{len(found)} requests have an id that starts with {request_id!r}; give more of the id")
        none = "no request has been answered yet" if request_id == "last" else f"unknown request id {request_id!r}"
        raise UsageError(f"{none}; `messctl log` lists them")

    def newest(self, count: int) -> list[LoggedRequest]:
        """Return the newest `count` requests, oldest first."""
        newest = "WHERE requests.id IN (SELECT id FROM requests ORDER BY id DESC LIMIT ?)"
        return list(self._read(newest, (count,)))

    def decided_by_others_since(self, request_id: str, policy: str) -> int:
        """Return how many requests after this one another policy decided; the user's own choices do not count."""
        found = self._database.row(
            "SELECT count(*) FROM requests WHERE id > ? AND policy != ? AND NOT forced",
            (self._key(request_id), policy),
        )
        return int(found[0]) if found else 0

    def feedback_sums(self) -> FeedbackSums:
        """Return the sums over all stored feedback."""
        found = self._database.row(
            "SELECT count(*), total(feedback.satisfied), total(alpha) "
            "FROM feedback JOIN requests ON requests.id = request"
        )
        return FeedbackSums(int(found[0]), float(found[1]), float(found[2])) if found else FeedbackSums(0, 0.0, 0.0)

    def balance(self) -> float:
        """Return Σ(s − α) over all stored feedback."""
        sums = self.feedback_sums()
        return sums.satisfied - sums.alpha

    def queue(self) -> float:
        """Return the virtual queue: its recursion over all stored feedback, in the order in which it came."""
        queue = 0.0
        for alpha, satisfied in self._database.rows(
            "SELECT alpha, satisfied FROM feedback JOIN requests ON requests.id = request ORDER BY feedback.id"
        ):
            queue = advance.plain(queue, alpha, satisfied)
        return queue

    def tokens_per_character(self, models: Iterable[str]) -> dict[str, float]:
        """Return, by model, how many tokens its recent questions had per character; > 0.

        What a chat template and the model's own system message add to every question is included.
        """
        ratios = {}
        for model in models:
            found = self._database.row(
                "SELECT total(tokens_in), total(characters) FROM ("
                "SELECT tokens_in, characters FROM answers JOIN requests ON requests.id = request "
                "WHERE model = ? ORDER BY request DESC LIMIT ?) WHERE tokens_in > 0 AND characters > 0",
                (model, RECENT),
            )
            tokens, length = found or (0.0, 0.0)
            ratios[model] = tokens / length if length else TOKENS_PER_CHARACTER
        return ratios

    def _key(self, request_id: str) -> int:
        """Return a request's key in the tables. Raises UsageError if it is not logged."""
        found = self._database.row("SELECT id FROM requests WHERE request_id = ?", (request_id,))
        if found is None:
            raise UsageError(f"unknown request id {request_id!r}; `messctl log` lists them")
        return int(found["id"])

    def _read(self, where: str = "", values: tuple[Any, ...] = ()) -> Iterator[LoggedRequest]:
        rows = self._database.rows(
            "SELECT requests.*, feedback.satisfied AS satisfied, feedback.id AS judged FROM requests "
            f"LEFT JOIN feedback ON feedback.request = requests.id {where} ORDER BY requests.id",
            values,
        )
        for row in rows:
            answers = self._database.rows("SELECT * FROM answers WHERE request = ?", (row["id"],))
            failures = "SELECT model, reason, outcome FROM attempts WHERE request = ? ORDER BY id"
            lost = list(self._database.rows(failures, (row["id"],)))
            yield _logged(row, {answer["model"]: _outcome(answer) for answer in answers}, lost)


def _outcome(answer: Row) -> Outcome:
    return Outcome(
        satisfied=answer["satisfied"],
        cost=answer["cost"],
        latency_s=answer["latency_s"],
        tokens_in=answer["tokens_in"],
        tokens_out=answer["tokens_out"],
        answer=answer["answer"],
        cost_quality=answer["cost_quality"],
        finish=answer["finish"],
        thinking=answer["thinking"],
    )


def _logged(row: Row, answers: Mapping[str, Outcome], lost: Sequence[Row]) -> LoggedRequest:
    return LoggedRequest(
        decision=Decision(
            request=Request(row["request_id"], row["prompt"], bool(row["gradable"])),
            request_number=0 if row["forced"] else row["request_number"],
            served=row["served"],
            queried=tuple(sorted(answers)) or (row["served"],),
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
        answers=answers,
        satisfied=row["satisfied"],
        judged=row["judged"],
        lost={each["model"]: each["reason"] for each in lost},
        empty={each["model"]: Outcome(**json.loads(each["outcome"])) for each in lost if each["outcome"]},
    )
