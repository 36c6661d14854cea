"""Bytes that come in as text: which encoding they have, and how they are decoded."""

from __future__ import annotations

import codecs

from messctl.errors import UsageError

# UTF-32's mark begins with that of UTF-16, so it comes first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE = 256
"""The bytes at the beginning of a text that show whether it is UTF-16 without a mark."""


def encoding_of(head: bytes) -> tuple[str, int]:
    """Return the encoding of a text by its first bytes, and the length of its byte order mark; UTF-8 without a mark."""
    return next(((encoding, len(mark)) for mark, encoding in _MARKS if head.startswith(mark)), ("utf-8", 0))


def begins_mark(head: bytes) -> bool:
    """Return whether the next byte may show another mark than `head` does."""
    return any(mark.startswith(head) and mark != head for mark, _ in _MARKS)


def decoded(data: bytes, name: str) -> str:
    """Return the text of `data`, without its byte order mark, with U+FFFD for what is not valid in its encoding.

    UTF-16 and UTF-32 are known by their marks. Raises UsageError, which names the source, for UTF-16 without one.
    """
    encoding, mark = encoding_of(data)
    if not mark:
        check_marked(data, name)
    return data[mark:].decode(encoding, "replace")


def check_marked(data: bytes, name: str) -> None:
    """Raise UsageError, which names the source, if bytes look like UTF-16: of each two, the same one is mostly 0."""
    sample = data[: min(_SAMPLE, len(data) // 2 * 2)]
    nulls = [half.count(0) for half in (sample[::2], sample[1::2])]
    if len(sample) > 2 and max(nulls) > 0.4 * len(sample) and min(nulls) == 0:
        raise UsageError(f"{name} is UTF-16 without a byte order mark; convert it to UTF-8")
