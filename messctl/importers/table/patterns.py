"""Patterns in the names of columns: `score_small` and `score_large` are `score_{model}`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from messctl.importers.names import WORDS, no_model, words
from messctl.importers.table.layout import MODEL, Pattern

_SEPARATOR = re.compile(r"([_\s./|:()\[\]-]+)")


def patterns_of(name: str) -> list[str]:
    """Return the patterns that a column's name may follow, if words that everybody knows surround a model's name.

    >>> patterns_of("models.gpt-4.score")
    ['models.{model}.score', 'models.{model}', '{model}.score']
    """
    pieces = _SEPARATOR.split(name)  # words at even places, separators at odd ones
    known = [all(word in WORDS for word in words(piece)) for piece in pieces]
    begin = 0
    while begin < len(pieces) and known[begin]:
        begin += 1
    end = len(pieces)
    while end > begin and known[end - 1]:
        end -= 1
    if begin >= end:
        return []
    before, after = "".join(pieces[:begin]), "".join(pieces[end:])
    found = (before + MODEL + after, before + MODEL, MODEL + after)
    return list(dict.fromkeys(pattern for pattern in found if pattern != MODEL))


def models_of(pattern: str, names: Iterable[str]) -> dict[str, str]:
    """Return the models whose columns follow a pattern, with these columns."""
    found = {model: name for name in names if (model := Pattern(pattern).model(name)) is not None}
    return {model: name for model, name in found.items() if not no_model(model, found)}


def best_pattern(
    names: Sequence[str],
    vocabulary: frozenset[str],
    models: Collection[str] | None = None,
    having: frozenset[str] = frozenset(),
) -> str | None:
    """Return the pattern with a word of the vocabulary that most names follow, of these models if they are known."""
    candidates = list(dict.fromkeys(pattern for name in names for pattern in patterns_of(name)))
    if models is not None:
        whole = {model: re.compile(rf"(?<![^\W_]){re.escape(model)}(?![^\W_])") for model in models}
        candidates += [whole[model].sub(MODEL, name, count=1) for name in names for model in models if model in name]
    best: tuple[int, int, int] = (0, 0, 0)
    chosen = None
    for pattern in dict.fromkeys(candidates):
        said = set(words(pattern.replace(MODEL, " ")))
        if pattern.count(MODEL) != 1 or not said & vocabulary or (having and not said & having):
            continue
        fitting = {model for name in names if (model := Pattern(pattern).model(name)) is not None}
        if models is None:
            fitting = {model for model in fitting if not no_model(model, fitting)}
        own = fitting if models is None else fitting & set(models)
        rank = (len(own), len(own) - len(fitting), len(pattern))
        if own and (chosen is None or rank > best):
            best, chosen = rank, pattern
    return chosen


def plain_models(names: Iterable[str]) -> list[str]:
    """Return the columns that may be named like models: their names say nothing else."""
    names = [name for name in names if re.search(r"\w", name) and not name.startswith("Unnamed:")]
    return [name for name in names if not no_model(name, names)]
