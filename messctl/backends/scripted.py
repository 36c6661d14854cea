"""A backend without models, whose answers are given in advance; for tests and examples."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

from messctl.backends.answer_text import AnswerText
from messctl.backends.base import OnText
from messctl.backends.chat import chat_messages
from messctl.errors import BackendError
from messctl.records import Completion, Question
from messctl.zoo import ModelSpec

Answers = Mapping[str, str] | Callable[[ModelSpec, Question], str]
"""The answers: one by the model's name, or a function of the model and the question."""


def _no_failures() -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Scripted:
    """Gives scripted answers; the same question has the same completion, latency included.

    Answers may begin with thinking in tags. A token is a word: text between white space, in the prompt (with system
    message and history) and in the answer, its thinking included.
    Every answer takes `delay_s` ≥ 0 seconds, which is its latency. `failures` holds, by model name, the message of
    the BackendError to raise; `logprob` is that of every answer. Thread-safe if `answers` is.
    """

    answers: Answers
    delay_s: float = 0.0
    failures: Mapping[str, str] = field(default_factory=_no_failures)
    logprob: float | None = None

    def complete(
        self,
        model: ModelSpec,
        question: Question,
        on_text: OnText | None = None,
        on_thinking: OnText | None = None,
    ) -> Completion:
        """Return the scripted answer, cut at the token limit.

        Raises BackendError for a model in `failures`, and for one without an answer.
        """
        if model.name in self.failures:
            raise BackendError(self.failures[model.name])
        answer = self._answer(model, question)
        if self.delay_s:
            time.sleep(self.delay_s)
        limit = model.answer_limit(question.max_tokens)
        pieces = re.findall(r"\s*\S+(?:\s+$)?", answer) or [answer]
        generated = pieces[:limit]
        text = AnswerText((), on_text, on_thinking)
        for piece in generated:
            if question.recipient is not None:
                question.recipient.check()
            text.add(piece.encode())
        finish = "stop" if len(generated) == len(pieces) else "length"
        tokens_in = sum(len(message["content"].split()) for message in chat_messages(model, question))
        logprob = self.logprob if question.logprob else None
        return Completion(
            model.name,
            text.finish(),
            tokens_in,
            len("".join(generated).split()),
            self.delay_s,
            load_s=0.0,
            finish=finish,
            logprob=logprob,
            thinking=text.thinking,
        )

    def close(self) -> None:
        """Do nothing: there are no models to free."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, model: ModelSpec, question: Question) -> str:
        if callable(self.answers):
            return self.answers(model, question)
        if model.name not in self.answers:
            raise BackendError(f"model {model.name!r} has no scripted answer: give it one")
        return self.answers[model.name]
