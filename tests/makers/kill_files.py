"""What a process of a kill campaign left behind: files that a kill may have cut, and a state, by plain SQL."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any


def lines(path: Path) -> list[str]:
    """Return the lines that were written to their end."""
    return text(path).split("\n")[:-1]


def text(path: Path) -> str:
    """Return the text of a file, or nothing."""
    return path.read_text(encoding="utf-8") if path.exists() else ""


def documents(said: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON documents of a text, up to one that a kill has cut."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(said):
        try:
            document, at = decoder.raw_decode(said, at)
        except ValueError:
            return
        at += len(said[at:]) - len(said[at:].lstrip())
        if isinstance(document, dict):
            yield document


def rows(state: Path, statement: str) -> list[tuple[Any, ...]]:
    """Return the rows of a statement; none if its table is not there yet."""
    if not state.exists():
        return []
    with closing(sqlite3.connect(state)) as database:
        try:
            return database.execute(statement).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):  # killed before it was made
                return []
            raise
