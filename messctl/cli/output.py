"""What commands print: consoles for people, JSON for programs, warnings and errors, and a question on the terminal."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from rich.console import Console

from messctl.display.text import plain, shortened, wrapped
from messctl.errors import UsageError

VERSION = {"version": 1}
"""The first key of every JSON document. A change to the keys raises it."""
PIPED_WIDTH = 160
"""The width of a table that goes to a pipe or a file, in characters; only a terminal has one of its own."""

CHARTS_WIDTH = 100
"""The least width of a terminal on which there are small charts, in characters."""


def console() -> Console:
    """Return the console for people, on stdout. It honours NO_COLOR, COLUMNS and the terminal's width."""
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    width, height = dumb_size(sys.stdout) if known else (PIPED_WIDTH, None)
    return Console(width=width, height=height, highlight=False, markup=False, emoji=False)


def shows_charts(screen: Console) -> bool:
    """Return whether stdout is a terminal with room for small charts, and one that can show them."""
    from messctl.display.sparkline import BARS

    if not sys.stdout.isatty() or screen.width < CHARTS_WIDTH or screen.is_dumb_terminal:
        return False
    try:
        BARS.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def progress_console() -> Console:
    """Return the console for progress bars, on stderr."""
    width, height = dumb_size(sys.stderr)
    return Console(width=width, height=height, stderr=True, highlight=False, markup=False, emoji=False)


def dumb_size(stream: TextIO) -> tuple[int | None, int | None]:
    """Return the width and height of a terminal with TERM=dumb, which Rich takes for 80 × 25; else None twice."""
    if os.environ.get("TERM", "").lower() not in ("dumb", "unknown"):
        return None, None
    return width_of(stream), 25


@contextmanager
def fitted_help() -> Iterator[None]:
    """Let the help, which Typer prints with a console of its own, know the width of a terminal with TERM=dumb."""
    size = dict(zip(("COLUMNS", "LINES"), dumb_size(sys.stdout), strict=True))
    before = {name: os.environ.get(name) for name in size}
    os.environ.update({name: str(value) for name, value in size.items() if value is not None})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def width_of(stream: TextIO) -> int:
    """Return the width for text on a stream, in characters: that of COLUMNS, of the terminal, or 80."""
    stated = os.environ.get("COLUMNS", "")
    if stated.isdecimal() and int(stated) > 0:
        return int(stated)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def print_line(text: str, indent: str = "  ", *, to: TextIO | None = None) -> None:
    """Print one line for people, by default on stdout; control characters are shown.

    At a terminal, or with COLUMNS, a long line breaks at spaces, and its further lines are indented.
    """
    stream = to or sys.stdout
    _print(text, indent, stream, wraps=stream.isatty() or "COLUMNS" in os.environ)


def _print(text: str, indent: str, stream: TextIO, *, wraps: bool) -> None:
    print(wrapped(plain(text), width_of(stream), indent) if wraps else plain(text), file=stream)


def write_lines(text: str, *, to: TextIO | None = None) -> None:
    """Write text of several lines, by default to stdout.

    A pipe gets names in it as they are. A terminal must not obey control characters in them.
    """
    stream = to or sys.stdout
    stream.write("\n".join(map(plain, text.split("\n"))) if stream.isatty() else text)


def print_json(document: dict[str, Any] | list[dict[str, Any]], indent: int | None = 2) -> None:
    """Print one JSON document on stdout, and nothing else; it is ASCII only, so that every terminal and pipe takes it.

    The document's first key is the version of its keys; in a list, every entry has it. With `indent` None the document
    is one line, and is flushed at once.
    """
    versioned = [VERSION | each for each in document] if isinstance(document, list) else VERSION | document
    print(json.dumps(versioned, allow_nan=False, indent=indent), flush=indent is None)


def finite(value: float) -> float | None:
    """Return a number as JSON can hold it: None if it is infinite or NaN."""
    return float(value) if math.isfinite(value) else None


@contextmanager
def ignore_closed_output() -> Iterator[None]:
    """Write to stdout in the block. If its reader is gone, as behind `head`, drop the output and go on."""
    try:
        yield
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # Rich turns the first into the second
        discard_output()


def discard_output() -> None:
    """Drop everything that is still to be written to stdout."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def discard_unwritable_output() -> None:
    """Write what is still to be written to stdout; if that fails, as on a full disk, drop it."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            discard_output()


def complain(message: str, trace: str = "") -> None:
    """Print an error on stderr: one line, which breaks at spaces at a terminal. A `trace` of it comes before."""
    for line in trace.splitlines():
        _print(line, "", sys.stderr, wraps=False)
    _print(f"messctl: {' '.join(shortened(message).split())}", "  ", sys.stderr, wraps=sys.stderr.isatty())


def warn(message: str) -> None:
    """Print a warning on stderr: one line, which breaks at spaces at a terminal."""
    _print(f"messctl: warning: {shortened(message)}", "  ", sys.stderr, wraps=sys.stderr.isatty())


def confirmed(question: str, otherwise: str) -> bool:
    """Ask the user a question, and return whether the reply is yes. Raises UsageError without a terminal.

    `otherwise` is the error's message.
    """
    if not sys.stdin.isatty():
        raise UsageError(otherwise)
    return prompt_user(f"{question} [y/N]") in ("y", "yes")


def prompt_user(question: str) -> str:
    """Print a question on stderr, and return the reply from stdin in lower case; it is empty at the end of input.

    A space comes behind the question.
    """
    sys.stderr.write(wrapped(plain(question), width_of(sys.stderr)) + " ")
    sys.stderr.flush()
    reply = sys.stdin.readline()
    if not reply.endswith("\n"):
        sys.stderr.write("\n")  # the cursor is still behind the question
    return reply.strip().lower()
