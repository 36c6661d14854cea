"""Forecasts: what reading a question will cost each model, before any of them runs.

Its tokens are estimated from its characters, by what each model made of its recent questions that had no turns before
them (of those, a model may not read all), and priced by the meter, as calibrated: fixed + prompt price × tokens. Once
they are counted, the policy learns by what reading did cost.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

from messctl.errors import BackendError
from messctl.meters import Meter
from messctl.records import Question
from messctl.zoo import ModelSpec
from messctl.zoo.models import MOST_TOKENS

TOKENS_PER_CHARACTER = 0.25
"""Before a model has answered; for English text, it is about that with most vocabularies."""
RECENT = 50
"""So many of a model's latest answers are looked at, which takes some 0.05 ms."""


def characters(question: Question) -> int:
    """Return how long a question is, the system message and the turns before it included."""
    turns = sum(len(asked) + len(answered) for asked, answered in question.history)
    return len(question.system or "") + turns + len(question.prompt)


def tokens_per_character(database: sqlite3.Connection, models: Iterable[str]) -> dict[str, float]:
    """Return how many tokens each model's recent questions had per character, of a store's tables; > 0.

    What stands around every question, as a chat template and the model's own system message, is in it.
    """
    ratios = {}
    for model in models:
        tokens, length = database.execute(
            "SELECT total(tokens_in), total(characters) FROM ("
            "SELECT tokens_in, characters FROM answers JOIN requests ON requests.id = request "
            "WHERE model = ? ORDER BY request DESC LIMIT ?) WHERE tokens_in > 0 AND characters > 0",
            (model, RECENT),
        ).fetchone()
        ratios[model] = tokens / length if length else TOKENS_PER_CHARACTER
    return ratios


def estimated_tokens(models: Iterable[ModelSpec], ratios: Mapping[str, float], length: int) -> dict[str, float]:
    """Return how many tokens a question of so many characters is for each model, at most what its context holds.

    Of a context, no more is known than zoo.yaml says. `ratios` are tokens per character.
    """
    return {model.name: min(length * ratios[model.name], model.context(MOST_TOKENS)) for model in models}


def prompt_costs(models: Iterable[ModelSpec], meter: Meter, tokens: Mapping[str, float]) -> dict[str, float]:
    """Return what reading costs each model, of so many `tokens`, by its name.

    Models whose costs cannot be known beforehand are left out.
    """
    costs = {}
    for model in models:
        try:
            price = meter.per_token(model)
        except BackendError:  # whether it can answer shows when it is asked
            continue
        costs[model.name] = price.of(tokens[model.name], 0)
    return costs
