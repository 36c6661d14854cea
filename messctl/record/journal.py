"""The journal of a recording: an SQLite file beside the future trace that stores every answer at once.

A recording that was killed, at any instant, resumes from its journal. The journal also stores the terms of the
recording (models, prompts, grader, seed, meter), so that it cannot resume under other ones. Only one process writes.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from messctl.errors import OutputError, UsageError
from messctl.outputs import make_private_file
from messctl.records import Outcome

_TABLES = """
CREATE TABLE IF NOT EXISTS terms (id INTEGER PRIMARY KEY CHECK (id = 1), text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
    prompt INTEGER NOT NULL, model TEXT NOT NULL, outcome TEXT, failure TEXT,
    PRIMARY KEY (prompt, model)) WITHOUT ROWID;
"""

Terms = Mapping[str, Any]
"""What the answers of a recording depend on, as JSON values. Equal terms give equal answers."""


def journal_path(output: Path) -> Path:
    """Return the path of a trace's journal."""
    return output.with_name(f".{output.name}.recording")


class Journal:
    """An open journal; a context manager. The file is created if it does not exist.

    Raises UsageError, which names the first difference, if the journal has other terms. The terms of a model without
    stored answers may change. Raises OutputError if the file cannot be written or another process uses it.
    """

    def __init__(self, path: Path, terms: Terms) -> None:
        self.path = path
        with self._mapped():
            make_private_file(path)
            self._database = sqlite3.connect(path, isolation_level=None, timeout=0.5)
            try:
                # The lock lasts until this process ends, even if it is killed.
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
        stored = {model for (model,) in self._database.execute("SELECT DISTINCT model FROM answers")}
        for model in begun.get("models", {}).keys() & now.get("models", {}).keys() - stored:
            begun["models"][model] = now["models"][model]
        if begun == now:
            self._database.execute("INSERT OR REPLACE INTO terms VALUES (1, ?)", (text,))
        else:
            raise UsageError(
                f"{self.path}: was started with another {difference(begun, now)}; use the same again, or --overwrite"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def add(self, prompt: int, model: str, outcome: Outcome | None, failure: str | None) -> None:
        """Store a model's outcome for the prompt with this number, or the reason why there is none.

        An empty answer that is not graded has both.
        """
        stored = None if outcome is None else json.dumps(asdict(outcome))
        with self._mapped():
            self._database.execute("INSERT INTO answers VALUES (?, ?, ?, ?)", (prompt, model, stored, failure))

    def done(self, model: str, prompts: range) -> set[int]:
        """Return the numbers of those `prompts` for which a model has an outcome or a failure."""
        query = "SELECT prompt FROM answers WHERE model = ? AND prompt >= ? AND prompt < ?"
        with self._mapped():
            return {int(row[0]) for row in self._database.execute(query, (model, prompts.start, prompts.stop))}

    def has_answers(self, model: str) -> bool:
        """Return whether a model has answered any prompt."""
        query = "SELECT 1 FROM answers WHERE model = ? AND outcome IS NOT NULL LIMIT 1"
        with self._mapped():
            return self._database.execute(query, (model,)).fetchone() is not None

    def any_satisfied(self) -> bool:
        """Return whether any answer has a satisfaction > 0, or is not judged."""
        query = (
            "SELECT 1 FROM answers WHERE outcome IS NOT NULL AND failure IS NULL AND "
            "coalesce(json_extract(outcome, '$.satisfied'), 1) > 0 LIMIT 1"
        )
        with self._mapped():
            return self._database.execute(query).fetchone() is not None

    def count(self) -> int:
        """Return the number of stored answers and failures."""
        with self._mapped():
            return int(self._database.execute("SELECT count(*) FROM answers").fetchone()[0])

    def outcomes(self) -> Iterator[tuple[int, str, Outcome | None, str | None]]:
        """Yield (prompt number, model, outcome, failure), in the order of the prompts."""
        with self._mapped():
            rows = self._database.execute("SELECT prompt, model, outcome, failure FROM answers ORDER BY prompt, model")
            for prompt, model, outcome, failure in rows:
                yield prompt, model, None if outcome is None else Outcome(**json.loads(outcome)), failure

    def remove(self) -> None:
        """Close and delete the journal."""
        self._database.close()
        remove_journal(self.path)

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written ({error.strerror or error}); choose another place"
            ) from error
        except sqlite3.Error as error:
            if "locked" in str(error):
                raise OutputError(
                    f"{self.path}: another recording uses this journal; wait until it ends, or stop it"
                ) from None
            raise OutputError(f"{self.path}: {error}; free some disk space, or start again with --overwrite") from error


def remove_journal(path: Path) -> None:
    """Delete a journal if it exists."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def difference(one: Terms, other: Terms) -> str:
    """Return the first difference between two terms, with its path: `seed (0, not 1)`; or `nothing`."""
    for key in sorted({*one, *other}):
        mine, others = one.get(key), other.get(key)
        if mine == others:
            continue
        if isinstance(mine, dict) and isinstance(others, dict):
            return f"{key}.{difference(mine, others)}"
        return f"{key} ({_short(mine)}, not {_short(others)})"
    return "nothing"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"
