"""The judge: a model of the zoo that grades answers by references."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence

from messctl.backends.base import Backend
from messctl.errors import PromptError, RefusedError
from messctl.records import LIMIT, Completion, Question, cut_by, is_blank
from messctl.zoo import ModelSpec

PROMPT = """\
You grade answers. Does the answer say the same as the reference, in whatever words?

Question:
{prompt}

Reference:
{reference}

Answer:
{answer}

Reply with one word, yes or no."""
_MOST_TOKENS = 8
_VERDICT = re.compile(r"\b(yes|no)\b", re.IGNORECASE)


class Judge:
    """Asks a model whether an answer says the same as the reference.

    The judge samples at temperature 0. Its own cost is not counted. It has a few tokens for its reply. If it needs
    more, as a model that thinks does, it is asked again without that limit. An empty answer, and a reply without yes or
    no, count as not satisfied. After an empty reply the answer is not graded. Thread-safe if the
    backend is.
    undecided: the number of replies without yes or no. silent: the number of empty replies.
    unread: the number of answers that are too long for the judge, or that its server refused.
    """

    def __init__(self, model: ModelSpec, backend: Backend) -> None:
        self._model = model
        self._backend = backend
        self._lock = threading.Lock()
        self.undecided = 0
        self.silent = 0
        self.unread = 0

    def grade(self, prompt: str, references: Sequence[str], answer: str) -> float | None:
        """Return the satisfaction, 0 or 1; None if the judge cannot read it. Raises BackendError if the judge fails."""
        if is_blank(answer):
            return 0.0
        question = PROMPT.format(prompt=prompt, reference="\nor\n".join(references), answer=answer)
        try:
            reply = self._reply(question, _MOST_TOKENS)
            if cut_by(reply.finish) == LIMIT and not _VERDICT.search(reply.answer):
                reply = self._reply(question, None)
        except (PromptError, RefusedError):
            with self._lock:
                self.unread += 1
            return None
        if is_blank(reply.answer):
            with self._lock:
                self.silent += 1
            return None
        verdict = _VERDICT.search(reply.answer)
        if verdict is None:
            with self._lock:
                self.undecided += 1
            return 0.0
        return float(verdict[1].lower() == "yes")

    def _reply(self, question: str, most_tokens: int | None) -> Completion:
        return self._backend.complete(self._model, Question(question, max_tokens=most_tokens, temperature=0.0))
