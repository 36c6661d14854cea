"""A proposal for a table of which nothing is stated: what its columns seem to be, tried out on all its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path

from messctl.errors import ProposalError, SourceError, UsageError
from messctl.importers.base import Columns, ImportOptions, Place
from messctl.importers.names import ADVERSE, ANSWER, COST, IDENTITY, MODEL, PROMPT, SCORE, TIME, TOKENS, is_price, words
from messctl.importers.table.cells import text_number
from messctl.importers.table.facts import Fact, facts_of
from messctl.importers.table.layout import PER_MODEL, Pattern, long_rows, option, wide_rows
from messctl.importers.table.notation import decimal_of, scale_for, unit_of
from messctl.importers.table.patterns import best_pattern, models_of, plain_models
from messctl.importers.table.sheet import records, unfolded

SAMPLED = 2000
"""The records by which the columns are judged; all are read when a proposal is tried out."""
HEADERS = ((0, 1), (1, 1), (2, 1), (0, 2), (1, 2))
"""How many lines to skip and how many the header has, in the order in which it is tried."""
SECONDS = frozenset(["s", "sec", "secs", "second", "seconds"])
IN, OUT = frozenset(["prompt", "input", "in"]), frozenset(["completion", "output", "out", "generated", "answer"])
Names = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Draft:
    """What the columns may be, and the names of the models of files."""

    columns: Columns
    names: Names = ()


def propose(files: Sequence[Path], options: ImportOptions) -> ProposalError:
    """Return the error that carries the options of the first reading that fits every row.

    Raises SourceError if none does; it says what is in the way.
    """
    base = _with_header(files[0], options.columns)
    trouble: SourceError | UsageError | None = None
    for draft in _drafts(files, base, options.name):
        try:
            found = _that_works(files, draft)
        except (SourceError, UsageError) as error:
            trouble = trouble or error
        else:
            if found:
                return ProposalError(f"{files[0]}: state what its columns are", _words(found))
    raise trouble or Place(files[0]).error("has no scores", advice="name their columns with --wide or --long")


def _with_header(path: Path, stated: Columns) -> Columns:
    """Return the columns with the lines above the header and those of it: the first that read as a header.

    The first line is one unless names are missing or double; a line with numbers in it is none. Raises SourceError.
    """
    if (stated.skip, stated.header_rows) != HEADERS[0]:
        return stated
    trouble: SourceError | None = None
    for skip, header_rows in HEADERS:
        columns = replace(stated, skip=skip, header_rows=header_rows)
        try:
            _, record = next(records(path, columns), (None, {}))
        except SourceError as error:
            trouble = trouble or error
            continue
        plain = record and not any(text_number(word, None) is not None for name in record for word in name.split())
        if (skip, header_rows) == HEADERS[0] or plain:
            return columns
    raise trouble or Place(path).error("has no header", advice="add a first line with column names")


def _that_works(files: Sequence[Path], draft: _Draft) -> _Draft | None:
    """Return the draft, with duplicates averaged if it needs that. Raises the error of a draft that does not work."""
    variants = [draft]
    if draft.columns.long and not draft.columns.duplicates:
        variants.append(replace(draft, columns=replace(draft.columns, duplicates="mean")))
    first: SourceError | UsageError | None = None
    for variant in variants:
        try:
            columns = variant.columns
            rows = long_rows(files, columns, variant.names) if columns.long else wide_rows(files, columns)
            if sum(any(each.satisfied is not None for each in row.outcomes.values()) for row in rows):
                return variant  # every row was read
        except (SourceError, UsageError) as error:
            first = first or error
    if first:
        raise first
    return None


def _drafts(files: Sequence[Path], stated: Columns, names: Names) -> Iterator[_Draft]:
    """Yield what the columns may be, the likeliest first. Raises SourceError for what is no table of answers."""
    at, facts = Place(files[0]), facts_of(_sample(files[0], stated))
    if not facts:
        raise at.error("has no rows", advice="check the source")
    model = _first(facts, MODEL, text=True)
    wide = _wide(at, facts, stated, plain=model is None)
    if model and not wide:
        yield _long(at, facts, stated, model, names)
        return
    if wide:
        yield wide
    score = _score(facts)
    if score and (len(files) > 1 or names):
        taken = names or tuple((str(path), path.stem) for path in files)
        yield _Draft(_common(at, facts, replace(stated, long=True, satisfied=score.name)), taken)
        return
    if not wide:
        found = ", ".join(repr(fact.name) for fact in facts.values())
        raise at.error(f"cannot tell which columns have scores; it has {found[:300]}", advice=_advice(facts))


def _advice(facts: Mapping[str, Fact]) -> str:
    """Return what to do if no column seems to have scores: a column such as `error_gpt` is good if it is low."""
    low = next((fact.name for fact in facts.values() if fact.is_score and ADVERSE.intersection(words(fact.name))), None)
    if low:
        return f"{low!r} seems to be better if it is low; name such columns, with --wide or --long, and add --scale 1:0"
    return "name them, with --wide or --long; scores are numbers, or true and false"


def _sample(path: Path, stated: Columns) -> list[Mapping[str, object]]:
    """Return the first records of a file; if one column has lists of objects, these objects."""
    found: list[Mapping[str, object]] = []
    for at, record in islice(records(path, stated), SAMPLED):
        lists = [name for name, value in record.items() if _is_table(value)]
        found += unfolded(at, record, [f"{lists[0]}."]) if len(lists) == 1 else [record]
    return found


def _is_table(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(e, dict) and "role" not in e for e in value)


def _wide(at: Place, facts: Mapping[str, Fact], stated: Columns, *, plain: bool) -> _Draft | None:
    """Return what a wide table's columns may be; with `plain`, they may be named like the models alone."""
    scores = [fact.name for fact in facts.values() if fact.is_score and not ADVERSE.intersection(words(fact.name))]
    pattern = best_pattern(scores, SCORE)
    models = models_of(pattern, scores) if pattern else {}
    wide: tuple[str, ...] = (pattern,) if pattern else ()
    if len(models) < 2 and plain:
        models = {name: name for name in plain_models(name for name in scores if not facts[name].is_numbering)}
        wide = tuple(models)
        _check_alike(at, [facts[name] for name in models], stated)
    if len(models) < 2:
        return None
    numbers = [fact.name for fact in facts.values() if fact.is_number]
    texts = [fact.name for fact in facts.values() if fact.is_text]
    taken = frozenset(models.values())
    strays = [name for name in scores if pattern and name not in taken and Pattern(pattern).model(name) is not None]
    columns = replace(
        stated,
        wide=wide,
        ignore=stated.ignore or (tuple(strays) if wide == (pattern,) else ()),
        cost=stated.cost or best_pattern([name for name in numbers if not is_price(name)], COST, models),
        answer=stated.answer or best_pattern(texts, ANSWER, models),
        tokens_in=stated.tokens_in or best_pattern(numbers, TOKENS, models, IN),
        tokens_out=stated.tokens_out or best_pattern(numbers, TOKENS, models, OUT),
        latency=stated.latency or best_pattern(numbers, TIME, models, SECONDS),
    )
    return _Draft(_common(at, facts, columns, list(models.values())))


def _check_alike(at: Place, facts: Sequence[Fact], stated: Columns) -> None:
    """Raise SourceError if columns that may be models do not have scores of one range: then some are none."""
    decimal = stated.decimal or decimal_of(at, facts)
    ranges = {scale_for([fact], decimal): fact.name for fact in facts}
    if len(ranges) > 1 and stated.scale is None:
        one, other = sorted(ranges.values())[:2]
        raise at.error(
            f"columns {one!r} and {other!r} have numbers of different ranges, so not both are scores",
            advice="name the columns of scores with --wide",
        )


def _long(at: Place, facts: Mapping[str, Fact], stated: Columns, model: Fact, names: Names) -> _Draft:
    score = stated.satisfied or getattr(_score(facts), "name", None)
    columns = _common(at, facts, replace(stated, long=True, model_column=model.name, satisfied=score))
    if columns.id is None and columns.prompt is None:
        if model.all_differ:
            raise at.error(
                "has one row per model, such as a table of means; a trace needs each model's answer to each request",
                advice="export the results per request",
            )
        raise at.error("no column tells the requests apart", advice="name one with --id or --prompt")
    if score is None:
        raise at.error("no column has scores, as numbers or as true and false", advice="name one with --satisfied")
    return _Draft(columns, names)


def _score(facts: Mapping[str, Fact]) -> Fact | None:
    return _first(facts, SCORE, score=True, but=ADVERSE)


def _common(at: Place, facts: Mapping[str, Fact], columns: Columns, scores: Sequence[str] = ()) -> Columns:
    """Return the columns with those of a request, those of a long table, the unit, the scale and the decimal mark."""

    def named(stated: str | None, found: Fact | None) -> str | None:
        return stated or (found.name if found else None)

    identity = _first(facts, IDENTITY, but=MODEL)
    columns = replace(
        columns,
        id=named(columns.id, identity if columns.long or (identity and identity.all_differ) else None),
        prompt=named(columns.prompt, _first(facts, PROMPT, text=True, but=IDENTITY | TOKENS | COST)),
    )
    if columns.long:
        columns = replace(
            columns,
            cost=named(columns.cost, _first(facts, COST, number=True)),
            answer=named(columns.answer, _first(facts, ANSWER, text=True, but=IDENTITY | TOKENS)),
            tokens_in=named(columns.tokens_in, _first(facts, TOKENS, number=True, having=IN)),
            tokens_out=named(columns.tokens_out, _first(facts, TOKENS, number=True, having=OUT)),
            latency=named(columns.latency, _first(facts, TIME, number=True, having=SECONDS)),
        )
        scores = [columns.satisfied] if columns.satisfied else []
    patterns = [Pattern(text) for kind in PER_MODEL if kind != "answer" and (text := getattr(columns, kind))]
    known = frozenset(scores)
    read = [fact for fact in facts.values() if fact.name in known or any(p.model(fact.name) for p in patterns)]
    decimal = columns.decimal or decimal_of(at, read)
    costs = [fact for fact in facts.values() if columns.cost and COST.intersection(words(fact.name))]
    return replace(
        columns,
        decimal=decimal,
        scale=columns.scale or scale_for([facts[name] for name in scores if name in facts], decimal),
        unit=columns.unit or unit_of(costs),
    )


def _first(
    facts: Mapping[str, Fact],
    vocabulary: frozenset[str],
    *,
    having: frozenset[str] = frozenset(),
    but: frozenset[str] = frozenset(),
    text: bool = False,
    number: bool = False,
    score: bool = False,
) -> Fact | None:
    """Return the column whose name says most clearly that it is of a kind: the one with the fewest other words."""
    fitting = []
    for place, fact in enumerate(facts.values()):
        said = set(words(fact.name))
        if not said & vocabulary or said & but or (having and not said & having):
            continue
        if vocabulary is COST and is_price(fact.name):
            continue
        if (text and not fact.is_text) or (number and not fact.is_number) or (score and not fact.is_score):
            continue
        fitting.append((len(said - vocabulary - having), place, fact))
    return min(fitting)[2] if fitting else None


def _words(draft: _Draft) -> list[str]:
    """Return the options that state a draft, as words of a command line."""
    found: list[str] = []
    for each in fields(Columns):
        value = getattr(draft.columns, each.name)
        if value == each.default:
            continue
        for part in value if isinstance(value, tuple) else [value]:
            found += [option(each.name)] if part is True else [option(each.name), str(part)]
    for place, name in draft.names:
        found += ["--name", f"{place}={name}"]
    return found
