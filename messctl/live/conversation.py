"""A conversation: turn after turn goes through the router, each with the turns before it."""

from __future__ import annotations

import secrets
from dataclasses import replace

from messctl.backends.answer_stream import AnswerStream
from messctl.backends.base import OnText
from messctl.errors import UsageError
from messctl.live.router import Answered, Router
from messctl.records import Question
from messctl.state.request_log import LoggedRequest


class Conversation:
    """Turns that are answered by `router`, each with the wishes that `like` states beside its prompt.

    What the router sees of a turn, and learns from, is the turn's own text; the model that answers reads the turns
    before it as well. `model` answers where it is not None, and may be changed between two turns.
    """

    def __init__(self, router: Router, like: Question, model: str | None = None) -> None:
        self.model = model
        self._router = router
        self._like = like
        self._latest: str | None = None

    @property
    def history(self) -> tuple[tuple[str, str], ...]:
        """The turns so far, oldest first, as (what was asked, what was answered)."""
        return self._like.history

    def ask(self, prompt: str, on_text: OnText | None = None) -> Answered:
        """Have one turn answered. Raises BackendError, StoreError, UsageError; then the turn has not been.

        An answer that Ctrl-C ends stays in the history as far as `on_text` heard it, since whoever ended it has read
        that; it cannot be judged, and nothing is learned from it. Where nobody listens, nothing was read, and another
        model may answer in place of one that breaks off.
        """
        stream = AnswerStream(on_text)
        self._latest = secrets.token_hex(6)
        question = replace(self._like, prompt=prompt)
        try:
            asked = self._router.ask(question, model=self.model, on_text=stream.listener, request_id=self._latest)
        except KeyboardInterrupt:
            if stream.started:
                self._remember(prompt, stream.text)
            raise
        self._remember(prompt, asked.completion.answer)
        return asked

    def judge(self, satisfied: float) -> LoggedRequest:
        """Take a judgement, 0..1, of the latest turn's answer; a second one corrects the first.

        Raises UsageError where there is no such answer, StoreError.
        """
        if self._latest is None:
            raise UsageError("nothing was answered yet; there is nothing to judge")
        return self._router.feedback(self._latest, satisfied)[0]

    def _remember(self, prompt: str, answer: str) -> None:
        self._like = replace(self._like, history=(*self.history, (prompt, answer)))
