"""The journal of a recording: every answer as it comes, in an SQLite file beside the trace that is being made.

A recording that is killed, at any instant, goes on from it. What it was made under, its terms, is kept with it, so that
it cannot go on as another one. One process writes at a time.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from messctl.errors import OutputError, UsageError
from messctl.records import Outcome

_TABLES = """
CREATE TABLE IF NOT EXISTS terms (id INTEGER PRIMARY KEY CHECK (id = 1), text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
    prompt INTEGER NOT NULL, model TEXT NOT NULL, outcome TEXT, failure TEXT,
    PRIMARY KEY (prompt, model)) WITHOUT ROWID;
"""

Terms = Mapping[str, Any]
"""What a recording is made under, as JSON has it; equal terms give equal answers."""


def journal_path(output: Path) -> Path:
    """Return where the journal of a trace lies while it is being recorded."""
    return output.with_name(f".{output.name}.recording")


class Journal:
    """An open journal; a context manager. It is made where it does not exist.

    The terms of a model that it holds nothing of may change. Raises UsageError where it was begun under others, naming
    the first that differs, OutputError where the disk or another process that records refuses.
    """

    def __init__(self, path: Path, terms: Terms) -> None:
        self.path = path
        with self._mapped():
            self._database = sqlite3.connect(path, isolation_level=None, timeout=0.5)
            try:
                # Held until this process ends, however it does.
                self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
                self._database.execute("PRAGMA journal_mode = WAL")
                self._database.execute("PRAGMA synchronous = NORMAL")
                self._database.executescript(_TABLES)
                self._check(terms)
            except BaseException:
                self._database.close()
                raise

    def _check(self, terms: Terms) -> None:
        text = json.dumps(terms, sort_keys=True)
        row = self._database.execute("SELECT text FROM terms").fetchone()
        now, begun = json.loads(text), json.loads(row[0] if row else text)
        asked = {model for (model,) in self._database.execute("SELECT DISTINCT model FROM answers")}
        for model in begun.get("models", {}).keys() & now.get("models", {}).keys() - asked:
            begun["models"][model] = now["models"][model]
        if begun == now:
            self._database.execute("INSERT OR REPLACE INTO terms VALUES (1, ?)", (text,))
        else:
            differs = differing(begun, now)
            raise UsageError(f"{self.path}: was begun with another {differs}; give the same again, or --overwrite")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._database.close()

    def add(self, prompt: int, model: str, outcome: Outcome | None, failure: str | None) -> None:
        """Keep what a model made of the prompt with this number: its outcome, or why there is none."""
        told = None if outcome is None else json.dumps(asdict(outcome))
        with self._mapped():
            self._database.execute("INSERT INTO answers VALUES (?, ?, ?, ?)", (prompt, model, told, failure))

    def done(self, model: str, prompts: range) -> set[int]:
        """Return which of some prompts in a row a model is done with."""
        asked = "SELECT prompt FROM answers WHERE model = ? AND prompt >= ? AND prompt < ?"
        with self._mapped():
            return {int(row[0]) for row in self._database.execute(asked, (model, prompts.start, prompts.stop))}

    def answered(self, model: str) -> bool:
        """Tell whether a model has answered any prompt."""
        asked = "SELECT 1 FROM answers WHERE model = ? AND outcome IS NOT NULL LIMIT 1"
        with self._mapped():
            return self._database.execute(asked, (model,)).fetchone() is not None

    def satisfied(self) -> bool:
        """Tell whether any answer so far satisfied at all, or is not judged."""
        asked = (
            "SELECT 1 FROM answers WHERE outcome IS NOT NULL AND "
            "coalesce(json_extract(outcome, '$.satisfied'), 1) > 0 LIMIT 1"
        )
        with self._mapped():
            return self._database.execute(asked).fetchone() is not None

    def count(self) -> int:
        """Return how many answers, and failures, are kept."""
        with self._mapped():
            return int(self._database.execute("SELECT count(*) FROM answers").fetchone()[0])

    def outcomes(self) -> Iterator[tuple[int, str, Outcome | None, str | None]]:
        """Yield every prompt's number, a model, and its outcome or failure, prompt by prompt, in order."""
        with self._mapped():
            rows = self._database.execute("SELECT prompt, model, outcome, failure FROM answers ORDER BY prompt, model")
            for prompt, model, outcome, failure in rows:
                yield prompt, model, None if outcome is None else Outcome(**json.loads(outcome)), failure

    def remove(self) -> None:
        """Close and delete it."""
        self._database.close()
        remove_journal(self.path)

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if "locked" in str(error):
                raise OutputError(f"{self.path}: another process records into it; wait for it, or end it") from None
            raise OutputError(f"{self.path}: {error}; free some space, or remove it and begin anew") from error


def remove_journal(path: Path) -> None:
    """Delete a journal, where there is one."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def differing(one: Terms, other: Terms) -> str:
    """Return the first term, with its path, in which two differ: `seed (0, not 1)`."""
    for key in sorted({*one, *other}):
        mine, others = one.get(key), other.get(key)
        if mine == others:
            continue
        if isinstance(mine, dict) and isinstance(others, dict):
            return f"{key}.{differing(mine, others)}"
        return f"{key} ({_short(mine)}, not {_short(others)})"
    return "nothing"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"
