"""What a server's response to a question holds: the answer's text, why it ended, and the counts of tokens.

Whether it is a stream of events or one JSON document is decided by its first characters, and not by its header.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from messctl.backends.answer_parts import (
    TEXT_KEYS,
    Piece,
    UnknownShapeError,
    pieces_of,
    unknown_key,
    unknown_key_of_choice,
)
from messctl.backends.answer_text import AnswerText
from messctl.backends.complaint import Complaint, complaint_in, complaint_of, is_error
from messctl.backends.content import body_pieces, read_document
from messctl.backends.event_stream import DONE, ERROR, LONGEST_EVENT, MESSAGE, Event, EventTooLongError, read_events
from messctl.backends.key import Key
from messctl.backends.logprobs import LOGPROBS, LogprobMean
from messctl.backends.openai_errors import (
    NOT_OPENAI,
    SEE_LOG,
    AttemptFailedError,
    permanent,
    quote,
    refused,
    server_error,
    silent,
    temporary,
)
from messctl.backends.tool_calls import add_calls, numbered
from messctl.inputs import valid_json, valid_unicode
from messctl.zoo import ModelSpec
from messctl.zoo.models import MOST_TOKENS

if TYPE_CHECKING:
    from messctl.backends.connection import Response

OnPart = Callable[[Mapping[str, Any]], None]
"""Takes what an answer holds beside its text, as a choice of a streamed answer."""
BESIDE = (LOGPROBS,)
"""What is beside the delta of a choice, and is handed on."""
LONGEST_TEXT = 2**24
"""The most characters of an answer for which no limit of tokens was sent."""
_BLANK = b"\xef\xbb\xbf \t\r\n"
"""A byte order mark and white space, which may stand before either form."""
_EVENTS = re.compile(rb"(data|event|id|retry|error)?:|(data|event)[\r\n]")
_ALIVE = re.compile(r":.*|\W*+(ping|pong|null|keep-?alive|heartbeat|processing)?\W*+", re.IGNORECASE | re.DOTALL)
"""Data that only say that the server is alive: a comment, nothing, or a usual word."""
_ENOUGH = 8
"""The bytes that are needed to recognise a stream of events."""
_FAILED = ("error", "abort", "insufficient_system_resource")
"""Why an answer ends that is none."""


@dataclass(repr=False)  # a server can repeat the key, which must not appear in a traceback
class ServerReply:
    """The part of an answer that has arrived, to a request with the parameters `sent`.

    The answer and its thinking may have `most_text` characters together. `finish` is the server's word for why the
    answer ended, None while it has given none. `streams`: it comes as events, of which `pieces` held text. `usage` is
    what the server says about tokens, `logprobs` the mean of its log-probabilities. `on_part` takes what is no text:
    calls of tools, other answers, and usage.
    """

    text: AnswerText
    sent: Collection[str] = ()
    most_text: int = LONGEST_TEXT
    finish: str | None = None
    streams: bool = False
    pieces: int = 0
    usage: Mapping[str, Any] = field(default_factory=dict)
    on_part: OnPart | None = None
    logprobs: LogprobMean = field(default_factory=LogprobMean)
    _calls: list[dict[str, Any]] = field(default_factory=list)
    _done: bool = False
    _choices: int = 0
    _held: bool = False
    _part: str | None = None
    _size: int = 0
    _noise: str = ""
    _other: str = ""
    _unknown: str | None = None

    @property
    def calls(self) -> str:
        """The tools that the answer calls, as JSON; empty if it calls none."""
        return json.dumps(self._calls, ensure_ascii=False) if self._calls else ""

    @property
    def whole(self) -> bool:
        """Whether an answer has arrived of which nothing is missing but the counts of tokens."""
        return self.finish is not None and self.pieces > 0

    def receive(self, model: ModelSpec, response: Response) -> None:
        """Read a response to its end, streamed or whole. Raises AttemptFailedError if it is not a complete answer."""
        start, body = _opened(model, response)
        says_events = "text/event-stream" in response.headers.get("content-type", "")
        if start[:1] not in (b"{", b"[") and (says_events or _EVENTS.match(start)):
            self.streams = True
            self._receive_events(model, body)
        else:
            content = read_document(model, body)
            if not content.strip(_BLANK):
                raise temporary(model, f"sends an empty answer: {NOT_OPENAI}")
            self._add(model, parse_json(model, content.decode("utf-8-sig", "replace")), "message")
            self._done = True
        self._check_end(model)
        if self.on_part is not None and self.usage:
            self.on_part({"usage": self.usage})

    def tokens(self) -> tuple[int, int] | None:
        """Return the tokens read and written, 0..MOST_TOKENS; None if the server gives no counts that can be true."""
        counts = [self.usage.get("prompt_tokens"), self.usage.get("completion_tokens")]
        possible = [count for count in counts if type(count) is int and 0 <= count <= MOST_TOKENS]
        return (possible[0], possible[1]) if len(possible) == 2 and sum(possible) > 0 else None

    def _receive_events(self, model: ModelSpec, body: Iterator[bytes]) -> None:
        """Receive a stream. A server that sends nothing but signs of life for `timeout_s` counts as silent."""
        silent_since = time.monotonic()
        try:
            for event in read_events(body):
                if event is not None and self._take(model, event):
                    silent_since = time.monotonic()
                elif time.monotonic() - silent_since > model.timeout_s:
                    raise silent(model)
        except EventTooLongError:
            what = f"sends more than {LONGEST_EVENT >> 20} MiB in one event: {NOT_OPENAI}"
            raise temporary(model, what) from None

    def _take(self, model: ModelSpec, event: Event) -> bool:
        """Add an event; return whether it held a part of the answer, and not only a sign of life."""
        data = event.data.strip()
        if event.type == ERROR:
            raise self._refused(model, complaint_in(data.encode()))
        if data == DONE:
            self._done = True
        elif event.type != MESSAGE:
            self._other = self._other or f"only events of the type {event.type!r}"
        elif data.startswith(("{", "[")):
            return self._add(model, parse_json(model, data), "delta")
        elif not _ALIVE.fullmatch(data):
            self._noise = data
        return False

    def _add(self, model: ModelSpec, document: Mapping[str, Any], form: Literal["delta", "message"]) -> bool:
        """Add one piece of an answer, or the whole of it; return whether there was one."""
        if is_error(document):
            raise self._refused(model, complaint_of(document))
        self._count(document)
        choices = document.get("choices") or []
        if not isinstance(choices, list) or not (choices or form == "delta"):
            raise temporary(model, f"sends JSON that is not an answer: {NOT_OPENAI}")
        others = [choice for choice in choices if self.on_part is not None and _index(choice) > 0]
        for choice in others:
            self._hand_on(choice, form, whole=True)
        for choice in [each for each in choices if each not in others][:1]:
            try:
                self._add_choice(model, choice, form)
            except UnknownShapeError as unknown:
                raise self._unknown_shape(model, str(unknown)) from None
        self._choices += len(choices)
        self._other = self._other or "JSON that is not an answer"
        return bool(choices)

    def _add_choice(self, model: ModelSpec, choice: Any, form: Literal["delta", "message"]) -> None:
        if not isinstance(choice, dict):
            raise UnknownShapeError("an element of `choices` without keys")
        if is_error(choice):
            raise self._refused(model, complaint_of(choice))
        self._count(choice)
        for piece in self._pieces_of(choice, form):
            self._size += len(piece.text)
            if self._size > self.most_text:
                what = f"sends more than {self.most_text:,} characters for one answer: check its limit of tokens"
                raise permanent(model, what)
            if piece.thinking:
                self.text.add_thinking(valid_unicode(piece.text))
            else:
                self.text.add(valid_unicode(piece.text).encode())
        self.logprobs.add(choice.get(LOGPROBS))
        self._hand_on(choice, form)
        finish = choice.get("finish_reason")
        if finish in _FAILED:
            raise temporary(model, f"fails during its answer (finish_reason: {finish}): {SEE_LOG}")
        if isinstance(finish, str) and finish.strip():
            self.finish = finish.strip()

    def _hand_on(self, choice: Mapping[str, Any], form: str, *, whole: bool = False) -> None:
        """Give `on_part` what a choice holds beside text; or the `whole` of a choice that is not the first."""
        held = choice.get(form)
        if self.on_part is None or not isinstance(held, dict):
            return
        delta = {key: value for key, value in held.items() if whole or (key not in TEXT_KEYS and value)}
        if form == "message" and isinstance(delta.get("tool_calls"), list):
            delta["tool_calls"] = numbered(delta["tool_calls"])
        if not whole and isinstance(delta.get("tool_calls"), list):
            add_calls(self._calls, delta["tool_calls"])
        if not whole and isinstance(delta.get("function_call"), dict):
            add_calls(self._calls, [{"index": 0, "function": delta["function_call"]}])
        self.pieces += not whole and bool(delta)
        beside = {key: choice[key] for key in (*BESIDE, *(["finish_reason"] if whole else [])) if choice.get(key)}
        if delta or beside:
            self.on_part({"index": _index(choice), "delta": delta, **beside})

    def _pieces_of(self, choice: Mapping[str, Any], form: Literal["delta", "message"]) -> list[Piece]:
        """Return the text of a choice: of its `delta`, its `message`, or its `text`, as long ago.

        The first of these that holds text in a stream counts, so that a whole message at its end is not added again.
        """
        other = "message" if form == "delta" else "delta"
        for part in (form, other, "text"):
            held = choice.get(part)
            if held is None or self._part not in (None, part):
                continue
            held = {"content": held} if part == "text" else held
            if not isinstance(held, dict):
                raise UnknownShapeError(f"`{part}` without keys")
            self._held = True
            pieces = list(pieces_of(held))
            if pieces:
                self._part = part
                self.pieces += 1
                return pieces
            self._unknown = self._unknown or unknown_key(held)
        self._unknown = self._unknown or unknown_key_of_choice(choice)
        return []

    def _count(self, document: Mapping[str, Any]) -> None:
        """Store the counts of tokens in a document; the last ones in a stream are those of the whole answer."""
        usage = document.get("usage")
        if isinstance(usage, dict) and usage:
            self.usage = usage

    def _check_end(self, model: ModelSpec) -> None:
        """Raise AttemptFailedError if the response has ended and the answer has not, or is in an unknown shape."""
        if not self.pieces and self._unknown:
            raise self._unknown_shape(model, f"`{self._unknown}`")
        if self._choices and not self._held:
            raise self._unknown_shape(model, "choices without a message")
        if self.finish is not None or (self._done and self.pieces > 0 and not self._noise):
            return
        if self._noise:
            raise temporary(model, f"sends invalid JSON ({quote(Key.of(model).hide(self._noise))}): {NOT_OPENAI}")
        if self._other and not self._choices:
            raise temporary(model, f"sends {quote(Key.of(model).hide(self._other))}: {NOT_OPENAI}")
        raise temporary(model, f"stops in the middle of its answer: {SEE_LOG}")

    def _refused(self, model: ModelSpec, complaint: Complaint) -> AttemptFailedError:
        """Return the failure that a complaint in place of an answer means."""
        complaint = complaint.with_message(Key.of(model).hide(complaint.message))
        return refused(model, complaint.status, complaint, self.sent)

    def _unknown_shape(self, model: ModelSpec, shape: str) -> AttemptFailedError:
        """Return the failure of an answer in an unknown shape; one that does not stream may have another."""
        shape = quote(Key.of(model).hide(shape))
        what = f"sends its answer in a shape that is not known ({shape}): {NOT_OPENAI}"
        return AttemptFailedError(server_error(model, what), retry=self.streams)


def _index(choice: Any) -> int:
    """Return which of several answers a choice belongs to, from 0."""
    index = choice.get("index") if isinstance(choice, dict) else 0
    return index if type(index) is int else 0


def _opened(model: ModelSpec, response: Response) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes of a body, without blanks before them, and the whole body, also without them."""
    pieces, start, started = body_pieces(model, response), b"", time.monotonic()
    for piece in pieces:
        start = (start + piece).lstrip(_BLANK)
        if len(start) >= _ENOUGH:
            break
        if time.monotonic() - started > model.timeout_s:
            raise silent(model)
    return start, chain([start], pieces)


def parse_json(model: ModelSpec, text: str) -> Mapping[str, Any]:
    """Return the JSON object in a text, also in a list of one. Raises AttemptFailedError for anything else.

    What JSON cannot hold is not carried on: a number that is not finite is None, half a surrogate pair U+FFFD.
    """
    try:
        document = json.loads(text, parse_constant=_finite, parse_float=_finite)
        document = valid_json(document) if "\\u" in text else document
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, list) and len(document) == 1:
        document = document[0]
    if not isinstance(document, dict):
        raise temporary(model, f"sends invalid JSON: {NOT_OPENAI}")
    return document


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None
