"""How many tokens a model's questions have per character: two sums per model, in which old answers fade.

The sums are kept in the transaction that stores the answer, so nothing has to look at the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from messctl.records import Outcome
from messctl.state.database import Database

TOKENS_PER_CHARACTER = 0.25
"""The ratio of a model that has not answered yet; in English text it is about that for most vocabularies."""
RECENT = 50
"""After this many answers, an answer counts 1/e as much as the newest."""
TABLE = "lengths"
PUT = (
    f"INSERT INTO {TABLE} VALUES (?, ?, ?) "
    "ON CONFLICT (model) DO UPDATE SET tokens = excluded.tokens, characters = excluded.characters"
)


class Lengths:
    """The tokens and the characters of questions, by model. Write inside a transaction of the store.

    Every method raises StoreError.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def tokens_per_character(self, models: Iterable[str]) -> dict[str, float]:
        """Return, by model, how many tokens its recent questions had per character; > 0.

        What a chat template and the model's own system message add to every question is included.
        """
        known = {row["model"]: row["tokens"] / row["characters"] for row in self._database.kept(TABLE)}
        return {name: known.get(name, TOKENS_PER_CHARACTER) for name in models}

    def add(self, characters: int | None, answers: Mapping[str, Outcome]) -> None:
        """Take in answers to a question, by model; `characters` is its length, None if that is not known."""
        for model, outcome in answers.items():
            if outcome.tokens_in and characters:
                self._add(model, outcome.tokens_in, characters)

    def _add(self, model: str, tokens: int, characters: int) -> None:
        rows: list[Any] = [dict(row) for row in self._database.kept(TABLE)]
        own = next((row for row in rows if row["model"] == model), None)
        if own is None:
            own = {"model": model, "tokens": 0.0, "characters": 0.0}
            rows.append(own)
        for name, more in (("tokens", tokens), ("characters", characters)):
            own[name] = own[name] * (1.0 - 1.0 / RECENT) + more
        self._database.execute(PUT, list(own.values()))
        self._database.keep(TABLE, rows)
