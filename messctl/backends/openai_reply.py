"""What a server's response to a question holds: the answer's text, why it ended, and the counts of tokens."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from messctl.backends.answer_text import AnswerText
from messctl.backends.event_stream import NotEventsError, read_events
from messctl.backends.http import Key, read_body
from messctl.backends.openai_errors import NOT_OPENAI, SEE_LOG, message_of, quote, silent, temporary
from messctl.zoo import ModelSpec
from messctl.zoo.models import MOST_TOKENS

if TYPE_CHECKING:
    import httpx


@dataclass
class ServerReply:
    """The part of an answer that has arrived.

    `finish` is the server's word for why the answer ended, None while it has not. `streams`: it comes as events, of
    which `pieces` held text. `usage` is what the server says about tokens.
    """

    text: AnswerText
    finish: str | None = None
    streams: bool = False
    pieces: int = 0
    usage: Mapping[str, Any] = field(default_factory=dict)

    def receive(self, model: ModelSpec, response: httpx.Response) -> None:
        """Read a response to its end, streamed or whole. Raises AttemptFailedError if it is not a complete answer."""
        if "text/event-stream" in response.headers.get("content-type", ""):
            self.streams = True
            self._receive_events(model, response)
        else:
            content = read_body(model, response)
            if not content.strip():
                raise temporary(model, f"sends an empty answer: {NOT_OPENAI}")
            self._add(model, parse_json(model, content), "message")
        if self.finish is None:
            raise temporary(model, f"stops in the middle of its answer: {SEE_LOG}")

    def tokens(self) -> tuple[int, int] | None:
        """Return the tokens read and written, 0..MOST_TOKENS; None if the server gives no counts that can be true."""
        counts = [self.usage.get("prompt_tokens"), self.usage.get("completion_tokens")]
        possible = [count for count in counts if type(count) is int and 0 <= count <= MOST_TOKENS]
        return (possible[0], possible[1]) if len(possible) == 2 and sum(possible) > 0 else None

    def _receive_events(self, model: ModelSpec, response: httpx.Response) -> None:
        """Receive a stream. A server that sends only comments for `timeout_s` counts as silent."""
        silent_since = time.monotonic()
        try:
            for document in read_events(response.iter_bytes()):
                if document is not None:
                    silent_since = time.monotonic()
                    self._add(model, document, "delta")
                elif time.monotonic() - silent_since > model.timeout_s:
                    raise silent(model)
        except NotEventsError:
            raise temporary(model, f"sends invalid JSON: {NOT_OPENAI}") from None

    def _add(self, model: ModelSpec, document: Mapping[str, Any], part: Literal["delta", "message"]) -> None:
        """Add one piece of an answer, or the whole of it."""
        if document.get("error"):
            reason = quote(Key.of(model).hide(message_of(document)))
            raise temporary(model, f"fails during its answer ({reason}): {SEE_LOG}")
        if isinstance(document.get("usage"), dict):
            self.usage = document["usage"]
        choices = document.get("choices")
        if not isinstance(choices, list):
            raise temporary(model, f"sends JSON that is not an answer: {NOT_OPENAI}")
        for choice in choices[:1]:
            message = choice.get(part) if isinstance(choice, dict) else None
            content = message.get("content") if isinstance(message, dict) else None
            if isinstance(content, str) and content:
                self.pieces += 1
                self.text.add(valid_unicode(content).encode())
            finish = choice.get("finish_reason") if isinstance(choice, dict) else None
            self.finish = finish if isinstance(finish, str) else self.finish


def parse_json(model: ModelSpec, content: bytes) -> Mapping[str, Any]:
    """Return the JSON object in a response's body. Raises AttemptFailedError for anything else."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise temporary(model, f"sends invalid JSON: {NOT_OPENAI}")
    return document


def valid_unicode(text: str) -> str:
    """Return the text with U+FFFD for each half of a surrogate pair, which JSON can hold and UTF-8 cannot."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
