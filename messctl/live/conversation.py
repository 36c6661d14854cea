"""A conversation: turn after turn goes through the router, each with the earlier turns."""

from __future__ import annotations

import secrets
from dataclasses import replace

from messctl.backends.answer_stream import AnswerStream
from messctl.backends.base import OnText
from messctl.backends.thinking import split_unopened
from messctl.errors import GradeError, UsageError
from messctl.live.router import Answered, Router
from messctl.live.serving import OnDecision
from messctl.records import Question, is_blank
from messctl.state.request_log import LoggedRequest


class Conversation:
    """Turns that the `router` answers, each with the settings of `like`, such as its system message.

    The router decides on the text of the turn alone, and learns from it; the model that answers also reads the earlier
    turns. If `model` is not None, that model answers; it may be changed between two turns.
    """

    def __init__(self, router: Router, like: Question, model: str | None = None) -> None:
        self.model = model
        self._router = router
        self._like = like
        self._latest: str | None = None

    @property
    def history(self) -> tuple[tuple[str, str], ...]:
        """The turns so far, oldest first, as (prompt, answer)."""
        return self._like.history

    def ask(
        self,
        prompt: str,
        on_text: OnText | None = None,
        on_thinking: OnText | None = None,
        on_decision: OnDecision | None = None,
    ) -> Answered:
        """Answer one turn. Raises BackendError, StoreError, UsageError; then the turn is not part of the history.

        Raises GradeError if the answer cannot be graded. The user has read it, so it stays in the history.

        The history holds no thinking, and no turn whose answer is empty.

        If Ctrl-C ends an answer, what `on_text` received of it stays in the history, since the user has read it.
        Nothing is learned from it, and it takes no feedback. If `on_text` is None, the user has read nothing, and
        another model may answer in place of one that breaks off.
        """
        stream = AnswerStream(on_text)
        self._latest = secrets.token_hex(6)
        question = replace(self._like, prompt=prompt)
        try:
            answered = self._router.ask(
                question,
                model=self.model,
                on_text=stream.listener,
                on_thinking=on_thinking,
                on_decision=on_decision,
                request_id=self._latest,
            )
        except (KeyboardInterrupt, GradeError):
            if stream.started:
                self._remember(prompt, split_unopened(stream.text)[1])
            raise
        self._remember(prompt, answered.completion.answer)
        return answered

    def give_feedback(self, satisfied: float) -> LoggedRequest:
        """Take feedback, 0..1, on the answer of the latest turn; a second one corrects the first.

        Raises UsageError if there is no such answer, StoreError.
        """
        if self._latest is None:
            raise UsageError("nothing was answered yet, so there is nothing to give feedback on; ask first")
        return self._router.feedback(self._latest, satisfied)[0]

    def _remember(self, prompt: str, answer: str) -> None:
        if not is_blank(answer):  # some servers refuse an empty turn
            self._like = replace(self._like, history=(*self.history, (prompt, answer)))
