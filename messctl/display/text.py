"""Text for a terminal: data is shown, never interpreted, and long lines break at spaces."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

LONGEST = 2000
"""The most characters of an error: one that quotes a name of megabytes must not fill a terminal, or a log."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: 1 request, 2,000 requests."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def or_dash(value: float | None, form: str) -> str:
    """Return a number in a form such as `.3g`; a dash if it is unknown: None or NaN."""
    return "–" if value is None or math.isnan(value) else format(value, form)


def moment(at: float) -> str:
    """Return a time in seconds since 1970 as it is shown, in the zone of this machine: 2026-11-30 14:05."""
    return f"{datetime.fromtimestamp(at, UTC).astimezone():%Y-%m-%d %H:%M}"


def plain(text: str) -> str:
    """Return `text` with its control characters as visible escapes, so that data cannot move the cursor."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def clipped(text: str, most: int) -> str:
    """Return a text of at most `most` characters: a longer one ends with … in place of the rest."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def shortened(text: str) -> str:
    """Return a text of at most LONGEST characters: of a longer one, its begin and its end with … between them."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST * 3 // 4 - 3]} … {text[-(LONGEST // 4) :]}"


def wrapped(text: str, width: int, indent: str = "") -> str:
    """Return one line as lines of at most `width` characters, which break at spaces; `indent` begins all but the first.

    A word that is longer than a line stays whole, and begins a line of its own. A wide character counts as two. An
    indent of more than a third of the width becomes two spaces.
    """
    from rich.cells import cell_len  # noqa: PLC0415  # a pipe needs no width

    indent = indent if 3 * len(indent) <= width else indent[:2]
    lines, line = [], ""
    for gap, word in re.findall(r"( *)([^ ]+)", text.rstrip(" ")):
        longer = f"{line}{gap}{word}"
        if line.strip() and cell_len(longer) > width:
            lines.append(line)
            longer = f"{indent}{word}"
        line = longer
    return "\n".join([*lines, line])
