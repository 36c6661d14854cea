"""Pieces that several commands share: consoles and machine-readable output."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from rich.console import Console

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
