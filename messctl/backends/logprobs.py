"""The log-probabilities of a server's answer: asked for, added up, and not asked for again if a server refuses.

Source: OpenAI's API reference, "Chat completions", `logprobs`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from messctl.records import Question
from messctl.zoo import ModelSpec

LOGPROBS = "logprobs"
LARGEST = 1e6
"""Numbers from here on are none that a model computes."""
_NAMED = re.compile(r"log[ _-]?prob", re.IGNORECASE)


def are_wanted(model: ModelSpec, question: Question) -> bool:
    """Return whether to ask a server for them: the request itself does not, and zoo.yaml does not say it lacks them."""
    given = question.chat is not None and LOGPROBS in question.chat.parameters
    return question.logprob and not given and LOGPROBS not in model.lacks


def are_named(message: str) -> bool:
    """Return whether a complaint is about them."""
    return _NAMED.search(message) is not None


@dataclass
class LogprobMean:
    """The mean over the tokens that have arrived so far."""

    _total: float = 0.0
    _tokens: int = 0

    @property
    def value(self) -> float | None:
        """The mean, ≤ 0; None if no token had one."""
        return self._total / self._tokens if self._tokens else None

    def add(self, logprobs: Any) -> None:
        """Add the tokens of a choice's `logprobs`; whatever is no number is skipped."""
        content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
        for token in content if isinstance(content, list) else ():
            value = token.get("logprob") if isinstance(token, Mapping) else None
            if isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST < value < LARGEST:
                self._total += min(0.0, value)
                self._tokens += 1


def without(take: Callable[[Mapping[str, Any]], None]) -> Callable[[Mapping[str, Any]], None]:
    """Return what takes the parts of an answer without log-probabilities, for somebody who did not ask for them."""

    def take_others(part: Mapping[str, Any]) -> None:
        others = {key: value for key, value in part.items() if key != LOGPROBS}
        if others.get("delta") or others.keys() - {"index", "delta"}:
            take(others)

    return take_others
