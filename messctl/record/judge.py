"""A judge: a model of the zoo that grades answers against references."""

from __future__ import annotations

import re

from messctl.backends.base import Backend
from messctl.errors import PromptError, RefusedError
from messctl.records import Question
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
    """Asks a model whether an answer says what the reference does; `undecided` counts replies that say neither.

    The model always takes its likeliest token. What it costs to judge is nobody's cost. A reply that says neither yes
    nor no, or no answer to judge, counts as not satisfied. `unread` counts what was too long for it to judge, or
    what its server refused.
    """

    def __init__(self, model: ModelSpec, backend: Backend) -> None:
        self._model = model
        self._backend = backend
        self.undecided = 0
        self.unread = 0

    def grade(self, prompt: str, reference: str, answer: str) -> float | None:
        """Return the satisfaction, 0 or 1, None for what it cannot read. Raises BackendError for a judge that fails."""
        if not answer.strip():
            return 0.0
        asked = PROMPT.format(prompt=prompt, reference=reference, answer=answer)
        try:
            reply = self._backend.complete(
                self._model, Question(asked, max_tokens=_MOST_TOKENS, temperature=0.0)
            ).answer
        except (PromptError, RefusedError):
            self.unread += 1
            return None
        verdict = _VERDICT.search(reply)
        if verdict is None:
            self.undecided += 1
            return 0.0
        return float(verdict[1].lower() == "yes")
