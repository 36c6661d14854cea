"""A backend without models: its answers are written down beforehand."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from messctl.backends.base import OnText
from messctl.errors import BackendError
from messctl.records import Completion, Question
from messctl.zoo import ModelSpec

Answers = Mapping[str, str] | Callable[[ModelSpec, Question], str]
"""What is answered: a model's name → its one answer, or a function of both."""


def _nothing() -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Scripted:
    """Gives the answers it was told to give; the same question has the same completion, latency included.

    Tokens are words: what white space separates, of the prompt (system message and history too) and of the answer.
    Every answer takes `delay_s` ≥ 0 seconds, and that is its latency. `failures` holds, by model, the message of
    the BackendError that it raises; `logprob` is that of every answer. Thread-safe where `answers` is.
    """

    answers: Answers
    delay_s: float = 0.0
    failures: Mapping[str, str] = field(default_factory=_nothing)
    logprob: float | None = None

    def complete(self, model: ModelSpec, question: Question, on_text: OnText | None = None) -> Completion:
        """Return the scripted answer, cut at the token limit. Raises BackendError as told, or without an answer."""
        if model.name in self.failures:
            raise BackendError(self.failures[model.name])
        answer = self._answer(model, question)
        if self.delay_s:
            time.sleep(self.delay_s)
        limit = model.answer_limit(question.max_tokens)
        pieces = re.findall(r"\s*\S+(?:\s+$)?", answer) or [answer]
        said = pieces[:limit]
        if on_text is not None:
            for piece in filter(None, said):
                on_text(piece)
        text = "".join(said)
        finish = "stop" if len(said) == len(pieces) else "length"
        tokens_in, tokens_out = _words_asked(model, question), len(text.split())
        logprob = self.logprob if question.logprob else None
        return Completion(model.name, text, tokens_in, tokens_out, self.delay_s, 0.0, finish, logprob)

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, model: ModelSpec, question: Question) -> str:
        if callable(self.answers):
            return self.answers(model, question)
        if model.name not in self.answers:
            raise BackendError(f"model {model.name!r} has no scripted answer: give it one")
        return self.answers[model.name]


def _words_asked(model: ModelSpec, question: Question) -> int:
    system = model.system if question.system is None else question.system
    texts = [system or "", question.prompt, *(text for turn in question.history for text in turn)]
    return sum(len(text.split()) for text in texts)
