"""What the name of a column says about it: that it has scores, costs, tokens, times, or whatever is no model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from messctl.importers.base import Place


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


COST = _set("""cost costs price prices usd eur gbp dollar dollars euro euros cent cents fee fees spend energy joule
    joules kwh wh watt watts credits""")
TOKENS = _set("token tokens toks")
TIME = _set("latency time seconds secs ms duration elapsed runtime ttft millis milliseconds")
SCORE = _set("""score scores acc accuracy correct satisfied satisfaction pass passed success reward rewards quality
    rating ratings grade grades label labels judge judged verdict em f1 match win ok right solved result results rouge
    bleu""")
ANSWER = _set("answer answers response responses output completion prediction generation reply generated")
PROMPT = _set("prompt prompts question input query instruction problem messages conversation")
IDENTITY = _set("id ids uid uuid qid index idx key")
MODEL = _set("model models llm engine arm arms deployment provider system outputs")
ADVERSE = _set("""error errors err wrong incorrect fail fails failed failure failures loss losses rank ranks ranking
    regret mistake mistakes miss missed hallucination hallucinations hallucinated toxicity toxic refusal refused wer cer
    perplexity ppl penalty""")
"""Words of measures that are good if they are low."""
OTHER = _set("""std stderr stdev var variance ci mean avg average median total sum min max count n num elo oracle
    best date timestamp year seed temperature category subject domain task dataset benchmark source split difficulty
    language notes note comment comments name per request the of is was in s sec params size length weight level""")
WORDS = SCORE | COST | TOKENS | TIME | ANSWER | PROMPT | IDENTITY | MODEL | ADVERSE | OTHER
_MEASURES = COST | TOKENS | TIME | ADVERSE
_OCCASIONS = _set("request query question prompt answer response call sample item task row")
_PIECES = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[$€£]|[0-9]+")
_MARKS = {"$": "usd", "€": "eur", "£": "gbp"}


def words(name: str) -> list[str]:
    """Return the words of a column's name, in lower case.

    >>> words("promptTokens_GPT-4 ($)")
    ['prompt', 'tokens', 'gpt', '4', 'usd']
    """
    return [_MARKS.get(each, each.lower()) for each in _PIECES.findall(name)]


def is_price(name: str) -> bool:
    """Return whether a column's name is that of a price, as `cost_per_1k` is, and not of what a request cost."""
    found = words(name)
    return any(word == "per" and not _OCCASIONS.intersection(found[at + 1 :]) for at, word in enumerate(found))


def no_models(names: Iterable[str]) -> dict[str, str]:
    """Return those of `names` that are none of a model, each with the reason, as `its name says 'cost'`.

    Such a name is nothing but words for measures, as `total_cost` is; or it begins or ends with one, as `cost_small`
    does; or it is another of the names with such a word, as `small-score` is beside `small`.
    """
    of_words = {name: words(name) for name in names}
    first: dict[tuple[str, ...], str] = {}
    for name, found in of_words.items():
        first.setdefault(tuple(found), name)
    return {name: why for name, found in of_words.items() if (why := _why_no_model(name, found, first))}


def _why_no_model(name: str, found: Sequence[str], names: Mapping[tuple[str, ...], str]) -> str:
    """Return why a name of the words `found` is none of a model; empty if it may be one. `names` are by their words."""
    said = [word for word in found if word in WORDS]
    if found and len(said) == len(found):
        return f"its name says {said[0]!r}"
    edges = [each for each in _parts(name) if each in _MEASURES]
    if edges:
        return f"its name says {edges[0]!r}"
    twin = names.get(tuple(word for word in found if word not in WORDS)) if said else None
    return f"it is {twin!r} with {said[0]!r}" if twin else ""


def check_models(at: Place, columns: Mapping[str, str]) -> None:
    """Raise SourceError for a model, by its name and its column, whose name says that it is none."""
    for name, why in no_models(columns).items():
        advice = "name the columns with `messctl import table`, or rename or remove it"
        raise at.error(f"is no model: {why}", columns[name], advice)


def _parts(name: str) -> list[str]:
    """Return the first and the last part of a name that has several, with no hyphen between them, in lower case."""
    parts = [part for part in re.split(r"[_\s./|:()\[\]]+", name) if part]
    return [_MARKS.get(part, part.lower()) for part in (parts[0], parts[-1])] if len(parts) > 1 else []
