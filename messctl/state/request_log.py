"""The log of requests: each decision, the answers, what they cost, and the feedback on them."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

from messctl.display.text import moment
from messctl.errors import UsageError
from messctl.records import Decision, Outcome, Request
from messctl.state.asked import Asked, asked_text, outcome_of
from messctl.state.columns import COLUMNS, JUDGED, MOST, OUTCOME, check
from messctl.state.database import ROW_ERRORS, Database, Row
from messctl.state.judgements import FeedbackSums, Judgements
from messctl.state.lengths import Lengths
from messctl.state.pruned import pruned, twin
from messctl.state.sums import ANSWERS, REQUESTS, SERVED, KeptSums, Summed

PAGE = 500
"""How many requests are read at a time."""
MOST_NAMED = 1000
"""How many requests whose ids begin alike are counted."""
OF_PAGE = "WHERE request >= ? AND request <= ? ORDER BY"
_ANSWER = ("answer", "cost", "latency_s", "tokens_in", "tokens_out", "satisfied", "cost_quality", "finish", "thinking")
ADD_ANSWER = (
    f"INSERT INTO answers (request, model, {', '.join(_ANSWER)}) VALUES (?, ?{', ?' * len(_ANSWER)}) "
    f"ON CONFLICT (request, model) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _ANSWER)}"
)
"""Adds an answer, in place of an earlier one of the same model."""
SATISFY = "UPDATE answers SET satisfied = ? WHERE request = ? AND model = ?"


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
    def asked(self) -> tuple[str, ...]:
        """The models that answered, in the order in which they were asked; empty without an answer."""
        return self.decision.queried if self.answers else ()

    @property
    def rerouted(self) -> bool:
        """Whether another model answered than the one decided on first."""
        return bool(self.answers) and bool(set(self.lost) - set(self.answers)) and not self.decision.explored


class RequestLog:
    """The logged requests; iterate over them from the oldest on. Write inside a transaction of the store.

    Every method raises StoreError. Those that name a request raise UsageError if it is not logged.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.sums = KeptSums(database)
        self.judgements = Judgements(database, self.sums)
        self.lengths = Lengths(database)

    def __iter__(self) -> Iterator[LoggedRequest]:
        last = 0
        while page := self._page("WHERE requests.id > ? ORDER BY requests.id LIMIT ?", last, PAGE):
            last = page[-1][0]
            yield from (logged for _, logged in page)

    def count(self) -> int:
        """Return the number of requests."""
        return sum(row["requests"] for row in self.sums.rows(REQUESTS))

    def add(self, decision: Decision, circumstances: Circumstances) -> None:
        """Log a decision before it is carried out."""
        self._database.gather(
            "INSERT INTO requests (request_id, asked_at, prompt, policy, request_number, served, explored, forced, "
            "gradable, alpha, p_explore, propensity, queue, cost_unit, meter, characters, others) "
            f"VALUES (?{', ?' * 16})",
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
                self.sums.others(circumstances.policy),
            ),
        )
        self.sums.decided(circumstances.policy, forced=circumstances.forced)

    def revise(self, decision: Decision) -> None:
        """Log the decision that replaces an earlier one: its model could not answer, or another one was asked, too."""
        request = self._summed(decision.request.request_id).id
        with self.sums.following(request, SERVED):
            self._database.execute(
                "UPDATE requests SET served = ?, explored = ?, p_explore = ?, propensity = ?, queue = ?, asked = ? "
                "WHERE id = ?",
                (
                    decision.served,
                    decision.explored,
                    decision.p_explore,
                    decision.propensity,
                    decision.queue,
                    asked_text(decision),
                    request,
                ),
            )

    def add_answers(self, request_id: str, answers: Mapping[str, Outcome]) -> bool:
        """Log what models answered, by name, and what that cost. Return False if the request is not logged."""
        request = self.sums.request(request_id)
        if request is None:
            return False
        columns = attrgetter(*_ANSWER)
        rows = [(request.id, model, *columns(answer)) for model, answer in answers.items()]
        if request.answered:
            with self.sums.following(request.id, SERVED, ANSWERS):
                self._database.execute_many(ADD_ANSWER, rows)
        elif answers:
            for row in rows:
                self._database.gather(ADD_ANSWER, row)
            self.sums.answered(request, answers)
        self.lengths.add(request.characters, answers)
        return True

    def set_feedback(self, request_id: str, satisfied: Mapping[str, float], served: str) -> float | None:
        """Log feedback, 0..1, by model; the feedback on the `served` answer counts toward the promise.

        A second feedback on the same request corrects the first, which is returned. It keeps its place in the order.
        """
        request = self._summed(request_id)
        for model, value in satisfied.items():
            self._database.gather(SATISFY, (value, request.id, model))
        return self.judgements.set(request, satisfied[served])

    def remark(self, request_id: str, comment: str | None, source: str | None) -> None:
        """Log what was said with the feedback on a request, and by whom; None leaves what was said before."""
        self._database.execute(
            "INSERT INTO remarks VALUES (?, ?, ?) ON CONFLICT (request) DO UPDATE SET "
            "comment = coalesce(excluded.comment, remarks.comment), source = coalesce(excluded.source, remarks.source)",
            (self._summed(request_id).id, comment, source),
        )

    def has(self, request_id: str) -> bool:
        """Return whether a request is logged."""
        return self._database.row("SELECT 1 FROM requests WHERE request_id = ?", (request_id,)) is not None

    def find(self, request_id: str) -> LoggedRequest:
        """Return the request with an id, or the only one whose id starts with it; `last`: the last one answered.

        Raises UsageError if there is no such request, or more than one.
        """
        return self._page("WHERE requests.id = ?", self._found(request_id))[0][1]

    def _found(self, request_id: str) -> int:
        """Return the key of the request that `find` returns."""
        if request_id == "last":
            found = self._keys("WHERE id = (SELECT max(request) FROM answers)")
        else:
            found = self._keys("WHERE request_id = ?", request_id) or self._keys(
                "WHERE request_id >= ? AND request_id < ? LIMIT ?", request_id, request_id + "\U0010ffff", MOST_NAMED
            )
        if len(found) == 1:
            return found[0]
        if found:
            many = f"{len(found)} or more" if len(found) == MOST_NAMED else str(len(found))
            raise UsageError(f"{many} requests have an id that starts with {request_id!r}; give more of the id")
        raise self._unknown(request_id)

    def newest(self, count: int, before: str | None = None) -> list[LoggedRequest]:
        """Return the newest `count` requests, oldest first; or those `before` the request with an id, or its start."""
        most = MOST if before is None else self._found(before)
        newest = "SELECT id FROM requests WHERE id < ? ORDER BY id DESC LIMIT ?"
        page = self._page(f"WHERE requests.id IN ({newest}) ORDER BY requests.id", most, count)
        return [logged for _, logged in page]

    def decided_by_others_since(self, request_id: str, policy: str) -> int:
        """Return how many requests after this one of `policy` another decided; the user's choices do not count."""
        found = self._database.table("requests", "WHERE id = ?", (self._summed(request_id).id,))
        return self.sums.others(policy) - int(found[0]["others"])

    def feedback_sums(self) -> FeedbackSums:
        """Return the sums over all stored feedback."""
        return self.judgements.sums()

    def balance(self) -> float:
        """Return Σ(s − α) over all stored feedback."""
        sums = self.feedback_sums()
        return sums.satisfied - sums.alpha

    def queue(self) -> float:
        """Return the virtual queue: its recursion over all stored feedback, in the order in which it came."""
        return self.judgements.queue()

    def fill(self) -> None:
        """Compute from the log all that is kept up to date with it, for a log that was written without."""
        self.sums.fill()
        self.judgements.fill()
        self._database.execute_many(
            "UPDATE requests SET others = ? WHERE id = ?",
            [(others, request) for request, others, kept in self._others() if others != kept],
        )

    def check(self) -> list[str]:
        """Return what is kept and is not what the log gives, one line each."""
        wrong = sum(others != kept for _, others, kept in self._others())
        found = [f"{wrong} requests have another count of the decisions of other policies before them"] if wrong else []
        return found + self.sums.check()

    def _others(self) -> Iterator[tuple[int, int, int]]:
        """Yield the key of each request, how many requests another policy had decided before it, and what is stored."""
        decided: Counter[str] = Counter()
        for gone in self._database.table(twin(REQUESTS), "WHERE forced = 0"):
            decided[gone["policy"]] += gone["requests"]
        for row in self._database.rows("SELECT id, policy, forced, others FROM requests ORDER BY id"):
            yield row["id"], decided.total() - decided[row["policy"]], row["others"]
            decided[row["policy"]] += not row["forced"]

    def _keys(self, where: str, *values: Any) -> list[int]:
        return [row["id"] for row in self._database.rows(f"SELECT id FROM requests {where}", values)]

    def _summed(self, request_id: str) -> Summed:
        """Return what the sums hold of a request. Raises UsageError if it is not logged."""
        found = self.sums.request(request_id)
        if found is None:
            raise self._unknown(request_id)
        return found

    def _unknown(self, request_id: str) -> UsageError:
        """Return the error for a request that is not in the log."""
        gone = pruned(self._database)
        what = f"unknown request id {request_id!r}"
        if request_id == "last":
            what = "no answered request is in the log" if gone else "no request has been answered yet"
        if gone is None:
            return UsageError(f"{what}; `messctl log` lists them")
        others = f"requests from before {moment(gone.until)} were pruned, and `messctl log` lists the others"
        return UsageError(f"{what}; {others}")

    def _page(self, where: str, *values: Any) -> list[tuple[int, LoggedRequest]]:
        """Return the requests that a condition selects, each with its key, which must lie close together."""
        rows = list(
            self._database.rows(
                "SELECT requests.*, feedback.satisfied AS satisfied, feedback.id AS judged FROM requests "
                f"LEFT JOIN feedback ON feedback.request = requests.id {where}",
                values,
            )
        )
        bounds = (rows[0]["id"], rows[-1]["id"]) if rows else (0, 0)
        answers = _by_request(self._database.table("answers", f"{OF_PAGE} request, model", bounds))
        lost = _by_request(self._database.table("attempts", f"{OF_PAGE} id", bounds))
        try:
            return [(row["id"], _logged(row, answers.get(row["id"], []), lost.get(row["id"], []))) for row in rows]
        except ROW_ERRORS as error:
            raise self._database.damage(str(error)) from error


def _by_request(rows: Iterable[Row]) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row["request"], []).append(row)
    return found


_JOINED = {**COLUMNS["requests"], **JUDGED}


def _logged(row: Row, answered: Sequence[Row], lost: Sequence[Row]) -> LoggedRequest:
    check(f"request {row['id']}", dict(row), _JOINED)
    if answered and row["served"] not in {answer["model"] for answer in answered}:
        raise ValueError(f"request {row['id']} has answers, but none of {row['served']!r}, which served it")
    asked = Asked.of(row["asked"])
    answers = {answer["model"]: outcome_of(answer, asked) for answer in answered}
    return LoggedRequest(
        decision=Decision(
            request=Request(row["request_id"], row["prompt"], bool(row["gradable"])),
            request_number=0 if row["forced"] else row["request_number"],
            served=row["served"],
            queried=tuple(asked.answers) or tuple(sorted(answers)) or (row["served"],),
            propensity=row["propensity"] or 1.0,
            explored=bool(row["explored"]),
            p_explore=row["p_explore"],
            queue=row["queue"],
            course=asked.course,
            answers=asked.answers,
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
        empty={each["model"]: empty_answer(each["outcome"]) for each in lost if each["outcome"]},
    )


def empty_answer(outcome: str) -> Outcome:
    """Return the empty answer that a failed attempt stored as JSON. Raises ValueError if it is none."""
    values = json.loads(outcome)
    check("the outcome of an attempt", values, OUTCOME)
    return Outcome(**values)
