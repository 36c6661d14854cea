"""What commands print: consoles for people, JSON for programs, warnings and errors, and a question on the terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console

from messctl.display.text import plain

VERSION = {"version": 1}
"""The first key of every JSON document. A change to the keys raises it."""
PIPED_WIDTH = 160
"""The width of a table that goes to a pipe or a file, in characters; only a terminal has one of its own."""


def console() -> Console:
    """Return the console for people, on stdout. It honours NO_COLOR, COLUMNS and the terminal's width."""
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if known else PIPED_WIDTH, highlight=False, markup=False, emoji=False)


def progress_console() -> Console:
    """Return the console for progress bars, on stderr."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def print_line(text: str) -> None:
    """Print one line for people on stdout; control characters are shown, and a long line is not wrapped."""
    console().print(plain(text), soft_wrap=True)


def print_json(document: dict[str, Any] | list[dict[str, Any]], indent: int | None = 2) -> None:
    """Print one JSON document on stdout, and nothing else; it is ASCII only, so that every terminal and pipe takes it.

    The document's first key is the version of its keys; in a list, every entry has it. With `indent` None the document
    is one line, and is flushed at once.
    """
    versioned = [VERSION | each for each in document] if isinstance(document, list) else VERSION | document
    print(json.dumps(versioned, allow_nan=False, indent=indent), flush=indent is None)


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


def complain(message: str) -> None:
    """Print an error on stderr, in one line."""
    print(f"messctl: {plain(' '.join(message.split()))}", file=sys.stderr)


def warn(message: str) -> None:
    """Print a warning on stderr."""
    typer.echo(f"messctl: warning: {plain(message)}", err=True)


def prompt_user(question: str) -> str:
    """Print a question on stderr, and return the reply from stdin in lower case; it is empty at the end of input."""
    sys.stderr.write(plain(question))
    sys.stderr.flush()
    reply = sys.stdin.readline()
    if not reply.endswith("\n"):
        sys.stderr.write("\n")  # the cursor is still behind the question
    return reply.strip().lower()
