"""Feedback on answers: `POST /v1/feedback`, one judgement or a list of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from messctl.display.text import moment
from messctl.errors import UsageError
from messctl.live.router import Router
from messctl.server.accounts import Account, Accounts
from messctl.server.answer import PREFIX
from messctl.server.errors import ProtocolError, invalid
from messctl.server.latest import Latest

MOST_AT_ONCE = 1000
LONGEST_COMMENT = 10_000
MOST_REPEATED = 10_000
"""How many requests with an Idempotency-Key are remembered."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a client says of an answer: `value`, 0..1, perhaps a comment and who says it. `name` is the id it gave."""

    name: str
    request_id: str
    value: float
    comment: str | None = None
    source: str | None = None


def judgements_of(document: Any) -> list[Judgement]:
    """Return the judgements in a body. Raises ProtocolError if one of them is none."""
    listed = document if isinstance(document, list) else [document]
    if not listed or len(listed) > MOST_AT_ONCE:
        raise invalid(f"give one judgement, or a list of 1 to {MOST_AT_ONCE:,}")
    return [_judgement(each, f"[{at}]." if isinstance(document, list) else "") for at, each in enumerate(listed)]


def judge(accounts: Accounts, account: Account, judgements: list[Judgement]) -> list[dict[str, Any]]:
    """Take judgements, each as soon as it is checked, and return what became of them.

    Raises ProtocolError for an unknown id, for the id of another account, or for a request that has no answer. Then
    none is taken.
    """
    for judgement in judgements:
        _check_known(accounts, account, judgement)
    return [_take(account.router, judgement) for judgement in judgements]


class Repeated:
    """The replies to the latest requests with an Idempotency-Key: a request that is sent again gets the same reply."""

    def __init__(self) -> None:
        self._replies: Latest[tuple[bytes, Any]] = Latest(MOST_REPEATED)

    def reply(self, account: Account, key: str | None, body: bytes) -> Any:
        """Return the earlier reply, None without one. Raises ProtocolError if the body was another one then."""
        found = self._replies.get((account.name, key) if key is not None else None)
        if found is None:
            return None
        if found[0] != hashlib.sha256(body).digest():
            message = "this Idempotency-Key was sent with another body before; use a new one"
            raise ProtocolError(409, message, code="idempotency_key_reused")
        return found[1]

    def keep(self, account: Account, key: str | None, body: bytes, reply: Any) -> None:
        """Keep a reply."""
        if key is not None:
            self._replies.set((account.name, key), (hashlib.sha256(body).digest(), reply))


def _check_known(accounts: Accounts, account: Account, judgement: Judgement) -> None:
    if account.router.knows(judgement.request_id):
        return
    if any(other.router.knows(judgement.request_id) for other in accounts.others(account)):
        raise ProtocolError(403, "this answer was given to somebody else", param="id", code="not_your_answer")
    message = "no answer has this id; use the `id` of an answer, or its `messctl.request_id`"
    gone = account.router.pruned()
    if gone is not None:
        message += f"; answers from before {moment(gone.until)} are not kept"
    raise ProtocolError(404, message, param="id", code="answer_not_found")


def _take(router: Router, judgement: Judgement) -> dict[str, Any]:
    try:
        logged, corrected = router.feedback(judgement.request_id, judgement.value, judgement.comment, judgement.source)
    except UsageError as error:
        raise ProtocolError(409, str(error), param="id", code="no_answer_yet") from None
    standing = router.standing()
    return {
        "object": "feedback",
        "id": judgement.name,
        "model": logged.decision.served,
        "value": judgement.value,
        "corrected": corrected,
        "attained": standing.attained,
        "judged": standing.judged,
        "queue": standing.queue,
        "certificate": standing.certificate,
    }


def _judgement(document: Any, place: str) -> Judgement:
    if not isinstance(document, Mapping):
        raise invalid("a judgement is an object with `id` and `value`")
    identity, value = document.get("id"), document.get("value")
    if not isinstance(identity, str) or not identity:
        raise invalid(f"`{place}id` must be the id of an answer", f"{place}id")
    if not isinstance(value, bool | int | float) or not 0 <= value <= 1:
        raise invalid(f"`{place}value` must be true, false, or a number from 0 to 1", f"{place}value")
    for name in ("comment", "source"):
        text = document.get(name)
        if text is not None and not (isinstance(text, str) and len(text) <= LONGEST_COMMENT):
            raise invalid(f"`{place}{name}` must be a text of at most {LONGEST_COMMENT:,} characters", place + name)
    request_id = identity
    for prefix in PREFIX.values():
        request_id = request_id.removeprefix(prefix)
    return Judgement(identity, request_id, float(value), document.get("comment"), document.get("source"))
