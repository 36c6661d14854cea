"""The second look: what the router sees of the answers to one request, before it shows one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from messctl.graders.equality import Form, groups
from messctl.records import Completion, Decision, Evidence, Question, Recipient

PLAIN = frozenset(
    ("max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop", "user", "metadata", "stream",
     "stream_options", "model", "presence_penalty", "frequency_penalty")
)  # fmt: skip
"""The parameters of a request by OpenAI's protocol that leave its answer one plain text."""


def may_look(question: Question) -> bool:
    """Return whether several models may be asked: if the answer is one plain text, without tools or choices."""
    return question.chat is None or set(question.chat.parameters) <= PLAIN


def may_go_on(decision: Decision) -> bool:
    """Return whether another model may be asked after the answer, so that it may never be shown."""
    return decision.course is not None and not decision.course.alone


def unseen(question: Question) -> Question:
    """Return the question for an answer that may never be shown: with its log-probability, and nothing passed on."""
    recipient = question.recipient and UnshownRecipient(question.recipient)
    return replace(question, logprob=True, recipient=recipient)


def evidence_of(completions: Mapping[str, Completion], form: Form) -> dict[str, Evidence]:
    """Return what is seen of each answer, by model, in the order in which they were asked."""
    same = groups([each.answer for each in completions.values()], form)
    return {
        model: Evidence(group, None if each.logprob is None else min(0.0, each.logprob))
        for (model, each), group in zip(completions.items(), same, strict=True)
    }


@dataclass(frozen=True, slots=True)
class UnshownRecipient:
    """A `Recipient` who waits, but sees nothing of this answer yet."""

    recipient: Recipient
    shown: bool = False

    def check(self) -> None:
        """See `Recipient`."""
        self.recipient.check()

    def cutting(self, cut: Callable[[], None]) -> AbstractContextManager[None]:
        """See `Recipient`."""
        return self.recipient.cutting(cut)

    def take(self, part: Mapping[str, Any]) -> None:
        """Drop what belongs to an answer that may not be shown."""
