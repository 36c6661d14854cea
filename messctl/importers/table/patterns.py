"""Patterns in the names of columns: `score_small` and `score_large` are `score_{model}`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

from messctl.importers.names import WORDS, no_models, words
from messctl.importers.table.layout import MODEL, Pattern

MOST_PATTERNS = 30
"""The most patterns that are compared; each is tried on every name."""
MOST_WORDS = 100
"""The most words of a name in which a model is sought."""
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
    others = no_models(found)
    return {model: name for model, name in found.items() if model not in others}


def best_pattern(
    names: Sequence[str],
    vocabulary: frozenset[str],
    models: Collection[str] | None = None,
    having: frozenset[str] = frozenset(),
) -> str | None:
    """Return the pattern with a word of the vocabulary that most names follow, of these models if they are known."""
    candidates = Counter(pattern for name in names for pattern in patterns_of(name))
    known = frozenset(models or ())
    if known:
        candidates.update(pattern for name in names for pattern in _with_models(name, known))
    best: tuple[int, int, int] = (0, 0, 0)
    chosen = None
    for pattern in _likely(candidates, vocabulary, having):
        fitting = {model for name in names if (model := Pattern(pattern).model(name)) is not None}
        if models is None:
            fitting -= no_models(fitting).keys()
        own = fitting if models is None else fitting & known
        rank = (len(own), len(own) - len(fitting), len(pattern))
        if own and (chosen is None or rank > best):
            best, chosen = rank, pattern
    return chosen


def _likely(candidates: Counter[str], vocabulary: frozenset[str], having: frozenset[str]) -> list[str]:
    """Return the patterns that say what they should, in their order; of many, those that most names suggest."""
    found: Counter[str] = Counter()
    for pattern, count in candidates.items():
        said = set(words(pattern.replace(MODEL, " ")))
        if pattern.count(MODEL) == 1 and said & vocabulary and (not having or said & having):
            found[pattern] = count
    common = {pattern for pattern, _ in found.most_common(MOST_PATTERNS)}
    return [pattern for pattern in found if pattern in common]


def _with_models(name: str, models: frozenset[str]) -> Iterator[str]:
    """Yield a column's name with a pattern's mark for each model in it that is no part of a longer word.

    A name of many words is not looked into.
    """
    letters = [False, *(character.isalnum() for character in name), False]
    begins = [at for at in range(len(name)) if not letters[at]]
    ends = [at for at in range(1, len(name) + 1) if not letters[at + 1]]
    if max(len(begins), len(ends)) > MOST_WORDS:
        return
    places = ((begin, end) for begin in begins for end in ends if begin < end)
    found: dict[str, tuple[int, int]] = {}
    for begin, end in places:
        if name[begin:end] in models:
            found.setdefault(name[begin:end], (begin, end))
    for begin, end in found.values():
        yield name[:begin] + MODEL + name[end:]


def plain_models(names: Iterable[str]) -> list[str]:
    """Return the columns that may be named like models: their names say nothing else."""
    names = [name for name in names if re.search(r"\w", name) and not name.startswith("Unnamed:")]
    others = no_models(names)
    return [name for name in names if name not in others]
