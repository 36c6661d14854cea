"""Pieces that several commands share: consoles and machine-readable output."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from messctl.errors import UsageError

if TYPE_CHECKING:
    from messctl.zoo import Settings

PIPED_WIDTH = 160  # a table that is piped into a file is not squeezed into 80 columns


def console() -> Console:
    """Return the console for people, on stdout; it honours NO_COLOR and the terminal's width."""
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if known else PIPED_WIDTH, highlight=False, markup=False, emoji=False)


def progress_console() -> Console:
    """Return the console for progress bars, on stderr."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def print_json(document: Any) -> None:
    """Print one JSON document, and nothing else, on stdout; ASCII only, so that any terminal and pipe takes it."""
    print(json.dumps(document, allow_nan=False, indent=2))


def settings_of(
    zoo: Path | None, *, v: str | None = None, cost_scale: str | None = None, **options: float | str | None
) -> Settings:
    """Return the zoo file's settings, with the options that were given in their place."""
    from messctl.zoo import load_settings

    settings, _ = load_settings(zoo)
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    for name, text in (("v", v), ("cost_scale", cost_scale)):
        if text is not None:
            given[name] = _number_or_auto(name, text)
    return replace(settings, **given)


def _number_or_auto(name: str, text: str) -> float | None:
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--{name.replace('_', '-')} is {text!r}; it must be 'auto' or a number") from None
