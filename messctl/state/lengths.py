"""How many tokens a model's questions have per character, from its latest answers, also from those that were pruned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from messctl.records import Outcome
from messctl.state.columns import COLUMNS, check, shown
from messctl.state.database import Database, Row

TOKENS_PER_CHARACTER = 0.25
"""The ratio of a model that has not answered yet; in English text it is about that for most vocabularies."""
RECENT = 50
"""How many of a model's latest answers its ratio is taken from."""
ANSWERED = "SELECT model, request, tokens_in, characters FROM answers JOIN requests ON requests.id = request"
AT_ONCE = 50
"""How many models a query asks for; SQLite takes some hundred parts."""
_PARTS = " UNION ALL ".join(
    f"SELECT * FROM ({query} WHERE model = ? ORDER BY request DESC LIMIT ?) AS latest"
    for query in (ANSWERED, "SELECT model, request, tokens_in, characters FROM pruned_lengths")
)
LATEST = (
    "SELECT {} AS place, request, tokens_in, characters FROM ("
    f"SELECT * FROM ({_PARTS}) AS latest ORDER BY request DESC LIMIT ?) AS latest"
)
"""The tokens and the characters of a model's latest questions; {} stands for the place of the model."""

_COLUMNS = {name: COLUMNS["pruned_lengths"][name] for name in ("request", "tokens_in", "characters")}

Length = tuple[int, int, int]
"""The key of a request, the tokens of its question, and its characters; 0 if they are not known."""


@dataclass(frozen=True, slots=True)
class _Latest:
    """The lengths of a model's latest questions, oldest first, and the tokens that they have per character."""

    lengths: list[Length]
    ratio: float

    @classmethod
    def of(cls, lengths: Iterable[Length]) -> _Latest:
        latest = sorted(lengths)[-RECENT:]
        known = [(tokens, length) for _, tokens, length in latest if tokens > 0 and length > 0]
        characters = sum(length for _, length in known)
        return cls(latest, sum(tokens for tokens, _ in known) / characters if known else TOKENS_PER_CHARACTER)


class Lengths:
    """The tokens and the characters of the latest questions. Write inside a transaction of the store.

    Every method raises StoreError.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def tokens_per_character(self, models: Iterable[str]) -> dict[str, float]:
        """Return, by model, how many tokens its recent questions had per character; > 0.

        What a chat template and the model's own system message add to every question is included.
        """
        names = list(models)
        latest = self._latest()
        unread = [name for name in names if name not in latest]
        for start in range(0, len(unread), AT_ONCE):
            latest |= self._read(unread[start : start + AT_ONCE])
        return {name: latest[name].ratio for name in names}

    def add(self, request: int, characters: int | None, answers: Mapping[str, Outcome]) -> None:
        """Take in answers to a request, by model; they are in the log already."""
        latest = self._latest()
        for model in answers.keys() & latest.keys():
            others = [each for each in latest[model].lengths if each[0] != request]
            length = (request, answers[model].tokens_in or 0, characters or 0)
            latest[model] = _Latest.of([*others, length])

    def _latest(self) -> dict[str, _Latest]:
        """Return what is in memory of the latest questions, by model."""
        return self._database.remembered("latest lengths", dict)

    def _read(self, models: list[str]) -> dict[str, _Latest]:
        query = " UNION ALL ".join(LATEST.format(place) for place in range(len(models)))
        values = [value for model in models for value in (model, RECENT, model, RECENT, RECENT)]
        found: list[list[Length]] = [[] for _ in models]
        self._database.expect("answers", query, values)
        for place, length in self._database.read(_length, query, values):
            found[place].append(length)
        return {model: _Latest.of(lengths) for model, lengths in zip(models, found, strict=True)}

    def prune(self, last: int) -> None:
        """Keep the lengths of each model's latest answers among the requests up to a key, which are to be pruned."""
        self._database.execute(f"INSERT INTO pruned_lengths {ANSWERED} WHERE request <= ?", (last,))
        for row in list(self._database.rows("SELECT DISTINCT model FROM pruned_lengths")):
            self._database.execute(
                "DELETE FROM pruned_lengths WHERE model = ? AND request <= ("
                "SELECT request FROM pruned_lengths WHERE model = ? ORDER BY request DESC LIMIT 1 OFFSET ?)",
                (row["model"], row["model"], RECENT),
            )


def _length(row: Row) -> tuple[int, Length]:
    """Return the place of the model among those asked for, and a length."""
    place, request, tokens, characters = row
    values = {"request": request, "tokens_in": tokens, "characters": characters}
    check(f"the length of request {shown(request)}", values, _COLUMNS)
    return place, (request, tokens or 0, characters or 0)
