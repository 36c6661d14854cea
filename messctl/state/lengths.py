"""How many tokens a model's questions have per character, from its latest answers, also from those that were pruned."""

from __future__ import annotations

from collections.abc import Iterable

from messctl.state.database import Database

TOKENS_PER_CHARACTER = 0.25
"""The ratio of a model that has not answered yet; in English text it is about that for most vocabularies."""
RECENT = 50
"""How many of a model's latest answers its ratio is taken from; reading them takes some 0.05 ms."""
ANSWERED = "SELECT model, request, tokens_in, characters FROM answers JOIN requests ON requests.id = request"
AT_ONCE = 50
"""How many models a query asks for; SQLite takes some hundred parts."""
_PARTS = " UNION ALL ".join(
    f"SELECT * FROM ({query} WHERE model = ? ORDER BY request DESC LIMIT ?) AS latest"
    for query in (ANSWERED, "SELECT model, request, tokens_in, characters FROM pruned_lengths")
)
LATEST = (
    "SELECT {} AS place, sum(tokens_in * 1.0) AS tokens, sum(characters * 1.0) AS length FROM ("
    f"SELECT * FROM ({_PARTS}) AS latest ORDER BY request DESC LIMIT ?) AS latest "
    "WHERE tokens_in > 0 AND characters > 0"
)
"""The tokens and the characters of a model's latest questions; {} stands for the place of the model."""


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
        ratios = dict.fromkeys(names, TOKENS_PER_CHARACTER)
        for start in range(0, len(names), AT_ONCE):
            some = names[start : start + AT_ONCE]
            query = " UNION ALL ".join(LATEST.format(place) for place in range(len(some)))
            values = [value for model in some for value in (model, RECENT, model, RECENT, RECENT)]
            for place, tokens, length in self._database.rows(query, values):
                if tokens and length:
                    ratios[some[place]] = float(tokens) / float(length)
        return ratios

    def prune(self, last: int) -> None:
        """Keep the lengths of each model's latest answers among the requests up to a key, which are to be pruned."""
        self._database.execute(f"INSERT INTO pruned_lengths {ANSWERED} WHERE request <= ?", (last,))
        for row in list(self._database.rows("SELECT DISTINCT model FROM pruned_lengths")):
            self._database.execute(
                "DELETE FROM pruned_lengths WHERE model = ? AND request <= ("
                "SELECT request FROM pruned_lengths WHERE model = ? ORDER BY request DESC LIMIT 1 OFFSET ?)",
                (row["model"], row["model"], RECENT),
            )
