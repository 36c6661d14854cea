"""What a server says is wrong: the message in its error document, and whom it blames, the prompt or a parameter.

Servers write errors in many shapes: OpenAI's `error`, FastAPI's `detail`, plain text, one document inside another.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

_INNER = ("error", "errors", "message", "msg", "detail", "details", "metadata", "raw", "error_msg", "error_message")
"""The keys that hold a message, or a document with one."""
_CODES = ("code", "type", "error_code", "error_type", "status", "name")
_PLACES = ("param", "parameter", "field", "loc")
_NOWHERE = ("", "body", "None", "null")
"""The text if nothing is blamed."""
_DEEPEST = 8
_LONGEST = 4000
"""The most characters of a message that are looked at."""

_OVERFLOW_CODE = re.compile(
    r"(context|prompt|input|request|tokens?)_?(length|window|size|limit)?_?(is_)?(too_)?(long|large|exceeded|overflow"
    r"|limit_reached)|exceeds?_context(_size)?"
)
_CONTEXT = r"(context[ _-]?(length|window|size|limit|overflow)|n_ctx|max_model_len|max_seq_len|(model|sequence) length)"
_BEYOND = (
    r"(exceed|too (long|large|many|big|small)|(long|larg|great)er|more than|max|over|only|reduce|short|enough|full|fit)"
)
_GAP = r"(?:[^.;]|\.(?=\S)){0,80}?"
"""Within one sentence."""
_INPUT = r"\b(prompts?|inputs?|messages?|conversation|question|requests?|query|text)\b"
_OVERFLOW = (
    rf"{_CONTEXT}.*{_BEYOND}|{_BEYOND}.*{_CONTEXT}|\bcontext (is|of) (only )?\d",
    rf"{_INPUT}{_GAP}\b(too (long|large|big)|longer than|larger than|should have at most \d+)\b",
    rf"{_INPUT}{_GAP}\bexceed\w*{_GAP}(length|tokens?|size|\blimit (of )?\d|\bmax)",
    rf"\btoo many (\w+ )?tokens\b|\btokens?\b{_GAP}(exceed|too (long|large)|must be (<|less)|greater than)",
    r"\b(fewer|less|more) than (\d+|(the )?allowed number of) (input )?tokens\b|\btoken limit\b.{0,40}exceed",
    r"\A(?!.*\b(name|tool|stop|user)\b).*\bmax(imum)? (allowed |permitted )?(input |prompt |token )?length\b",
    r"\bfits? (in|into|within)( the)?( model's)? context\b",
    r"\binput length should be\b|\breduce (the |your )?(length of|size of|number of tokens|prompt|input|message)",
)
"""How servers say that a prompt is longer than a model's context."""
_SAYS_OVERFLOW = re.compile("|".join(_OVERFLOW), re.IGNORECASE | re.DOTALL)
_OTHER_LIMIT = re.compile(
    r"rate.?limit|throttl|please wait|\bper[ _-]?(minute|min|second|sec|hour|day|month)\b|\b[rt]p[mds]\b|quota"
    r"|daily|monthly|out of memory|credits?\b|balance|time.?(limit|out)|deadline|concurren|queue",
    re.IGNORECASE,
)
"""What is too much is not the prompt."""

_REFUSES = re.compile(
    r"unsupported|\b(not|no longer|no such|only|extra|cannot|must|should)\b|n't\b|unknown|unrecogni|unexpected|invalid"
    r"|deprecated|removed|forbidden|illegal|\brange\b|too (large|small|high|low)|at (most|least)|requires?\b|reject",
    re.IGNORECASE,
)
"""How servers say that they do not take a parameter, or its value."""
_REFUSES_SURELY = re.compile(
    r"unexpected keyword|extra (inputs|fields)|unsupported (param|value)|(unknown|unrecognized|unexpected)( request)? "
    r"(param|arg|field|key)",
    re.IGNORECASE,
)
_VALUE = re.compile(
    r"must (be|have)|should be|(less|greater) than|at (most|least)|too (large|small|high|low)|range|between|maximum"
    r"|minimum|[<>≤≥]",
    re.IGNORECASE,
)
_EXCLUDES = re.compile(r"\bboth\b|\bonly one\b|\beither\b|\btogether\b|\bnot .*\bwith\b", re.IGNORECASE)
_ALL_VALUES = re.compile(
    r"unsupported|n[o']t( \w+)? (support|permit|allow)|\bextra\b|unexpected|unknown|unrecogni|only the default"
    r"|deprecated|cannot",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Complaint:
    """What a server says is wrong.

    `message` is on one line, "" if there is none. `status` is the HTTP status that the document states, None without
    one. `codes` are its codes and types, in lower case, `places` the names of what it blames. `excess` is the share
    of the prompt that has to go, 0..1; 0 if that is unknown.
    """

    message: str
    status: int | None = None
    codes: frozenset[str] = frozenset()
    places: tuple[str, ...] = ()
    excess: float = 0.0

    def with_message(self, message: str) -> Complaint:
        """Return it with another message."""
        return replace(self, message=message)

    @property
    def has_overflow_code(self) -> bool:
        """Whether a code says that the prompt is longer than the model's context, whatever the message says."""
        return self.excess > 0 or any(_OVERFLOW_CODE.fullmatch(code) for code in self.codes)

    @property
    def says_overflow(self) -> bool:
        """Whether the message says that the prompt is longer than the model's context, and not that time is short."""
        return bool(_SAYS_OVERFLOW.search(self.message)) and not _OTHER_LIMIT.search(self.message)

    def parameter(self, sent: Collection[str]) -> str | None:
        """Return the parameter, of those `sent`, that the server refuses; None if it refuses none, or something else.

        Of two that exclude each other it is the one that matters less.
        """
        placed = [name for name in self.places if name in sent]
        if self.places:
            return placed[0] if placed else None
        if not _REFUSES.search(self.message):
            return None
        found = {name: re.search(_mention(name), self.message, re.IGNORECASE) for name in sent}
        mentioned = {name: match.start() for name, match in found.items() if match}
        if _EXCLUDES.search(self.message) and "top_p" in mentioned:
            return "top_p"
        return min(mentioned, key=lambda name: mentioned[name], default=None)

    @property
    def is_sure(self) -> bool:
        """Whether it surely blames a parameter, and is no error that only mentions one."""
        return bool(self.places or _REFUSES_SURELY.search(self.message))

    @property
    def blames_value(self) -> bool:
        """Whether another value of the parameter would do."""
        return bool(_VALUE.search(self.message)) and not _ALL_VALUES.search(self.message)


def complaint_in(content: bytes) -> Complaint:
    """Return what the body of an error response says; the body itself is the message if it is not JSON."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return Complaint(" ".join(content[:_LONGEST].decode("utf-8", "replace").split()))
    return complaint_of(document)


def complaint_of(document: Any) -> Complaint:
    """Return what an error document says."""
    parts = list(_documents(document))
    messages = [_text_of(part) for part in parts]
    numbers = {key: value for part in parts for key, value in part.items() if type(value) is int}
    message = "; ".join(dict.fromkeys(text for text in messages if text))
    if isinstance(document, str):
        message = " ".join(document.split())
    elif not message and document:
        message = json.dumps(document)
    tokens, context = numbers.get("n_prompt_tokens", 0), numbers.get("n_ctx", 0)
    return Complaint(
        message[:_LONGEST],
        next((status for status in map(_status, parts) if status), None),
        frozenset(_snake(part[key]) for part in parts for key in _CODES if isinstance(part.get(key), str)),
        tuple(place for part in parts for place in _places(part)),
        1 - context / tokens if 0 < context < tokens else 0.0,
    )


def is_error(document: Mapping[str, Any]) -> bool:
    """Return whether a document is an error, and not an answer or a part of one."""
    if document.get("error"):
        return True
    if isinstance(document.get("choices"), list):
        return False
    stated = any(document.get(key) in ("error", "fail", "failed") for key in ("object", "type", "status"))
    described = any(document.get(key) for key in ("detail", "errors", "error_msg", "error_message", "error_code"))
    return stated or described or (isinstance(document.get("message"), str) and bool(document.get("code")))


def _documents(value: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Yield a document and those inside it, also as text, outermost first."""
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return
    if depth > _DEEPEST:
        return
    if isinstance(value, list):
        for element in value:
            yield from _documents(element, depth + 1)
    elif isinstance(value, dict):
        yield value
        for key in _INNER:
            yield from _documents(value.get(key), depth + 1)


def _text_of(part: Mapping[str, Any]) -> str:
    """Return the message that is in a document itself, with the place in the request that it is about."""
    texts = [part[key] for key in _INNER if isinstance(part.get(key), str)]
    text = "; ".join(" ".join(text.split()) for text in texts if not text.lstrip().startswith(("{", "[")))
    place = part.get("loc")
    if text and isinstance(place, list | tuple):
        return f"{'.'.join(str(each) for each in place if each != 'body')}: {text}"
    return text


def _places(part: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of what a document blames, as in `param` and `loc`."""
    for key in _PLACES:
        place = part.get(key)
        names = place if isinstance(place, list | tuple) else [place]
        yield from (
            name.split(".")[0].strip("`'\" ") for name in names if isinstance(name, str) and name not in _NOWHERE
        )


def _status(part: Mapping[str, Any]) -> int | None:
    for key in ("code", "status", "status_code"):
        value = part.get(key)
        number = int(value) if isinstance(value, str) and re.fullmatch("[45][0-9][0-9]", value) else value
        if type(number) is int and 400 <= number < 600:
            return number
    return None


def _snake(code: str) -> str:
    """Return a code in lower case with underscores: ContextWindowExceededError is context_window_exceeded."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[^A-Za-z0-9]+", "_", code).lower().strip("_")
    return words.removesuffix("_error")


def _mention(name: str) -> str:
    """Return the pattern of a parameter's name in a message; one that is a plain word must look like a name."""
    if "_" in name:
        return rf"\b{name}\b"
    quoted = rf"[`'\"]{name}[`'\"]"
    if name == "stream":
        return rf"{quoted}|\bstreaming\b|\bparameter stream\b"
    after = r"(?= ?[:=]| (parameter|field|argument|value|option|is not|are not|must be|should be|cannot|and `?\w+_))"
    before = r"\b(parameters?|fields?|arguments?|property|option|key|supports?|allows?):? "
    return rf"{quoted}|\b{name}\b{after}|{before}{name}\b"
