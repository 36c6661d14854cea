"""Pieces that several commands share: consoles and machine-readable output."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from messctl.errors import UsageError

if TYPE_CHECKING:
    from messctl.zoo import Settings

PROMISE, POLICY, REQUESTS, OUTPUT = "Promise", "Policy", "Requests", "Output"
"""The panels in which every command's help groups its options."""

VERSION = {"version": 1}
"""What every JSON document begins with; docs/json.md describes the keys of this version."""

PIPED_WIDTH = 160  # a table that is piped into a file is not squeezed into 80 columns


def finite(value: float | None) -> float | None:
    """Let an option's number pass; no lower or upper bound of Typer's keeps `inf` or `nan` out."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value:g} is not a finite number")
    return value


def console() -> Console:
    """Return the console for people, on stdout; it honours NO_COLOR and the terminal's width."""
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if known else PIPED_WIDTH, highlight=False, markup=False, emoji=False)


def progress_console() -> Console:
    """Return the console for progress bars, on stderr."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


@contextmanager
def heard_or_not() -> Iterator[None]:
    """Write to stdout; where nobody reads it any more, as behind `head`, it is dropped, and the command goes on."""
    try:
        yield
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # Rich turns the one into the other
        discard_output()


def discard_output() -> None:
    """Have all that is still to be written to stdout go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def print_json(document: dict[str, Any] | list[dict[str, Any]], indent: int | None = 2) -> None:
    """Print one JSON document on stdout, and nothing else; it is ASCII only, so that any terminal and pipe takes it.

    Its first key is the version of its keys. If the document is a list, each of its entries has that key. With `indent`
    None the document is one line, and is flushed at once.
    """
    versioned = [VERSION | each for each in document] if isinstance(document, list) else VERSION | document
    print(json.dumps(versioned, allow_nan=False, indent=indent), flush=indent is None)


def settings_of(
    zoo: Path | None,
    *,
    v: str | None = None,
    cost_scale: str | None = None,
    trial_budget: str | None = None,
    **options: float | str | None,
) -> Settings:
    """Return the zoo file's settings, with the options that were given in their place."""
    from messctl.zoo import load_settings

    settings, _ = load_settings(zoo)
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    worded = (("v", v, "auto"), ("cost_scale", cost_scale, "auto"), ("trial_budget", trial_budget, "none"))
    for name, text, absent in worded:
        if text is not None:
            given[name] = _number_or(absent, name, text)
    return replace(settings, **given)


def _number_or(absent: str, name: str, text: str) -> float | None:
    if text == absent:
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--{name.replace('_', '-')} is {text!r}; it must be {absent!r} or a number") from None
