"""Text for a terminal: data is shown, never interpreted."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: 1 request, 2,000 requests."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def plain(text: str) -> str:
    """Return `text` with its control characters as visible escapes, so that data cannot move the cursor."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
