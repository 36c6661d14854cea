"""The rows of a trace from a table: a wide one has a row per request, a long one a row per answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from messctl.errors import UsageError
from messctl.importers.base import Columns, Place
from messctl.importers.names import check_models
from messctl.importers.table.cells import Cells, is_empty, name_text, prose
from messctl.importers.table.sheet import records, unfolded
from messctl.trace import Outcome, Row

MODEL = "{model}"
DUPLICATES = ("mean", "first", "last")
IDS, PROMPTS = ("request_id", "id"), ("prompt",)
"""The columns of ids and of prompts if none is named."""
SUMMARIES = frozenset(["total", "totals", "sum", "average", "avg", "mean", "median", "overall", "summary", "gesamt",
                       "summe", "mittelwert", "durchschnitt"])  # fmt: skip
"""What the last row of a spreadsheet is named if it sums up the others."""
PER_MODEL = ("cost", "answer", "tokens_in", "tokens_out", "latency")
Names = Sequence[tuple[str, str]]
Unread = Callable[[Iterable[str]], None]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A column, or a pattern of columns such as `score_{model}`."""

    text: str

    @property
    def is_open(self) -> bool:
        """Whether it stands for a column per model."""
        return MODEL in self.text

    def model(self, column: str) -> str | None:
        """Return the model that a column of this pattern belongs to, None for another column."""
        if not self.is_open:
            return column if column == self.text else None
        before, after = map(re.escape, self.text.split(MODEL, 1))
        found = re.fullmatch(f"{before}(.+){after}", column, re.DOTALL)
        return found[1].strip() or None if found else None


def _ignored(_: Iterable[str]) -> None:
    """Take the columns that nothing reads, and do nothing."""


def option(name: str) -> str:
    """Return the option of the command line for a field of `Columns`."""
    return f"--{name.replace('_', '-')}"


def wide_rows(files: Sequence[Path], columns: Columns, unread: Unread = _ignored) -> Iterator[Row]:
    """Yield the rows of wide tables: each has one request. `unread` gets the columns that nothing reads.

    Raises SourceError and UsageError.
    """
    wrong = [name for name in ("model_column", "satisfied", "duplicates") if getattr(columns, name)]
    if wrong:
        raise UsageError(f"{option(wrong[0])} is for a long table; leave it or --wide out")
    patterns = {name: Pattern(text) for name in PER_MODEL if (text := getattr(columns, name))}
    closed = [name for name, pattern in patterns.items() if not pattern.is_open]
    if closed:
        raise UsageError(f"{option(closed[0])} {patterns[closed[0]].text!r}: a wide table has a column per model; "
                         f"write {MODEL} for the model's name")  # fmt: skip
    several = [text for text in (*columns.wide, *(p.text for p in patterns.values())) if text.count(MODEL) > 1]
    if several:
        raise UsageError(f"{several[0]!r} has {MODEL} twice; write it once")
    cells = Cells(columns)
    for path in files:
        yield from _wide_file(path, columns, patterns, cells, unread)
    cells.check_scale()


def _wide_file(
    path: Path, columns: Columns, patterns: Mapping[str, Pattern], cells: Cells, unread: Unread
) -> Iterator[Row]:
    found = _Found(path, columns)
    places: dict[tuple[str, ...], dict[str, dict[str, str]]] = {}
    for at, record in records(path, columns):
        header = tuple(record)
        if header not in places:
            places[header] = assigned(header, columns, patterns)
            found.add(header)
            check_models(Place(path), {model: kinds["satisfied"] for model, kinds in places[header].items()})
        of_models = places[header]
        yield Row(
            request_id=found.id(at, record) or f"{path.stem}/{at.row}",
            prompt=found.prompt(at, record),
            outcomes={model: _outcome(cells, at, record, named) for model, named in of_models.items()},
            source=path.stem,
        )
    found.check([*(text for text in columns.wide if MODEL not in text), *columns.ignore])
    if places and not any(places.values()):
        raise Place(path).error(f"no column is like {' or '.join(columns.wide)}; it has {_listed(found.all)}",
                                advice="name one of them")  # fmt: skip
    _check_partners(path, places, patterns)
    named = {name for of_models in places.values() for kinds in of_models.values() for name in kinds.values()}
    unread(found.unread(named))


def assigned(header: Sequence[str], columns: Columns, patterns: Mapping[str, Pattern]) -> dict[str, dict[str, str]]:
    """Return, per model, its columns by what they are. A column that two patterns fit belongs to the longer one."""
    own = {columns.id, columns.prompt, *columns.ignore} | ({*IDS, *PROMPTS} if "{model}" in columns.wide else set())
    closed = frozenset(text for text in columns.wide if MODEL not in text)
    opened = [("satisfied", Pattern(text)) for text in columns.wide if MODEL in text] + list(patterns.items())
    found: dict[str, dict[str, str]] = {}
    for column in header:
        fitting = [(len(p.text), kind, model) for kind, p in opened if (model := p.model(column)) is not None]
        if column in closed:
            fitting.append((len(column), "satisfied", column))
        if fitting and column not in own:
            _, kind, model = max(fitting)
            if kind in found.setdefault(model, {}):
                raise UsageError(f"{column!r} and {found[model][kind]!r} would both be {kind} of {model!r}; rename one")
            found[model][kind] = column
    return {model: kinds for model, kinds in found.items() if "satisfied" in kinds}


def _check_partners(
    path: Path, places: Mapping[tuple[str, ...], Mapping[str, Mapping[str, str]]], patterns: Mapping[str, Pattern]
) -> None:
    """Raise SourceError if a stated pattern fits no model's column, or fits others than those of some models."""
    models = {model for of_models in places.values() for model in of_models}
    header = {column for columns in places for column in columns}
    for kind, pattern in patterns.items():
        having = {m for of_models in places.values() for m, kinds in of_models.items() if kind in kinds}
        strays = sorted({m for c in header if (m := pattern.model(c)) is not None} - models)
        if models and (not having or (strays and models - having)):
            missing = min(models - having)
            expected = pattern.text.replace(MODEL, missing)
            raise Place(path).missing(expected, [pattern.text.replace(MODEL, stray) for stray in strays])


@dataclass
class _Found:
    """The columns that a file has, and its ids and prompts."""

    path: Path
    columns: Columns
    all: dict[str, None] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    last: tuple[Place, set[str]] | None = None

    def add(self, header: Sequence[str]) -> None:
        self.all.update(dict.fromkeys(header))

    def _column(self, record: Mapping[str, Any], stated: str | None, usual: Sequence[str]) -> str | None:
        name = stated or next((name for name in usual if name in record), None)
        if name is not None:
            self.read.add(name)
        return name

    def unread(self, others: Iterable[str]) -> list[str]:
        """Return the columns that are neither ids nor prompts, nor among `others`, nor left out by the user."""
        read = self.read.union(others, self.columns.ignore)
        return [name for name in self.all if name not in read]

    def id(self, at: Place, record: Mapping[str, Any]) -> str | None:
        name = self._column(record, self.columns.id, IDS)
        if name is None:
            return None
        if name not in record:
            raise at.missing(name, record)
        found = name_text(at, name, record[name])
        self.last = (at, {found})
        return found

    def prompt(self, at: Place, record: Mapping[str, Any]) -> str:
        name = self._column(record, self.columns.prompt, PROMPTS)
        found = "" if name is None else prose(at, name, record.get(name))
        self.last = (at, {found} | (self.last[1] if self.last and self.last[0] is at else set()))
        return found

    def check(self, names: Sequence[str | None]) -> None:
        """Raise SourceError for a stated column that no record has, and for a last row that sums up the others."""
        for name in (self.columns.prompt, *names):
            if self.all and name and name not in self.all:
                raise Place(self.path).missing(name, self.all)
        at, last = self.last or (Place(self.path), set())
        if summary := next((name for name in last if name.strip(" :").lower() in SUMMARIES), None):
            raise at.error(f"is named {summary!r}, as a sum of the rows above is", advice="remove it in the source")


def _outcome(cells: Cells, at: Place, record: Mapping[str, Any], named: Mapping[str, str], model: str = "") -> Outcome:
    def read(kind: str, how: Callable[[Place, str, object], Any]) -> Any:
        column = named.get(kind)
        return None if column is None else how(at, column, record.get(column))

    return Outcome(
        satisfied=read("satisfied", lambda place, column, value: cells.score(place, column, value, model)),
        cost=read("cost", cells.cost),
        latency_s=read("latency", cells.latency),
        tokens_in=read("tokens_in", cells.count),
        tokens_out=read("tokens_out", cells.count),
        answer=read("answer", prose) or None,
    )


@dataclass
class _Group:
    """The answers to one request of a long table, by model, and the places of the first ones."""

    id: str
    prompt: str
    source: str
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)


def long_rows(files: Sequence[Path], columns: Columns, names: Names, unread: Unread = _ignored) -> Iterator[Row]:
    """Yield the requests of long tables, in the order of their first rows. `unread` gets the columns nothing reads.

    Raises SourceError and UsageError.
    """
    if columns.wide:
        raise UsageError("--wide is for a table with a row per request; leave it or --long out")
    if not columns.satisfied:
        raise UsageError("a long table needs the column of its scores; add --satisfied COLUMN")
    if columns.duplicates not in (None, *DUPLICATES):
        raise UsageError(f"--duplicates {columns.duplicates!r}: write {', '.join(DUPLICATES)}")
    named = {kind: text for kind in ("satisfied", *PER_MODEL) if (text := getattr(columns, kind))}
    opened = [kind for kind, text in named.items() if MODEL in text]
    if opened:
        raise UsageError(f"{option(opened[0])} {named[opened[0]]!r}: a long table has one column for all models")
    cells, groups = Cells(columns), dict[str, _Group]()
    for path in files:
        unread(_long_file(path, columns, names, named, cells, groups))
    cells.check_scale()
    for group in groups.values():
        outcomes = {model: _one(several, columns.duplicates) for model, several in group.outcomes.items()}
        yield Row(group.id, group.prompt, outcomes, source=group.source)


def _long_file(
    path: Path,
    columns: Columns,
    names: Names,
    named: Mapping[str, str],
    cells: Cells,
    groups: dict[str, _Group],
) -> list[str]:
    """Read the answers of a file into their groups. Return the columns that nothing reads."""
    found = _Found(path, columns)
    stated = [columns.model_column, columns.id, columns.prompt, *named.values()]
    for at, whole in records(path, columns):
        for record in unfolded(at, whole, [name for name in stated if name]):
            found.add(list(record))
            key, prompt = found.id(at, record), found.prompt(at, record)
            if key is None and not prompt:
                raise at.error("nothing tells which request it belongs to", advice="add --id COLUMN or --prompt COLUMN")
            model = _model_of(at, record, columns, names)
            group = groups.setdefault(key or prompt, _Group(key or f"{path.stem}/{at.row}", prompt, path.stem))
            if prompt and group.prompt and prompt != group.prompt:
                raise at.error(
                    f"request {key!r} has another prompt in an earlier row", columns.prompt, "correct one id"
                )
            group.prompt = group.prompt or prompt
            outcome = _outcome(cells, at, record, named, model)
            if model in group.places and not columns.duplicates:
                first = group.places[model]
                raise at.error(
                    f"is a second answer of {model!r} to the request of {first.path.name}, {first.unit} {first.row}",
                    advice=f"state which counts: --duplicates {' or '.join(DUPLICATES)}",
                )
            group.places.setdefault(model, at)
            group.outcomes.setdefault(model, []).append(outcome)
    found.check([columns.model_column, *named.values()])
    return found.unread([columns.model_column or "", *named.values()])


def _model_of(at: Place, record: Mapping[str, Any], columns: Columns, names: Names) -> str:
    """Return the model of a row: the text in the stated column, or the name that the user gave to its file."""
    if columns.model_column:
        if columns.model_column not in record:
            raise at.missing(columns.model_column, record)
        return name_text(at, columns.model_column, record[columns.model_column])
    fitting = [name for place, name in names if at.path == Path(place) or at.path.is_relative_to(place)]
    if not fitting:
        raise Place(at.path).error(
            "no column names the models", advice="add --model-column COLUMN, or --name FILE=NAME"
        )
    return fitting[-1]


def _one(outcomes: Sequence[Outcome], duplicates: str | None) -> Outcome:
    """Return what counts of several answers of one model: the first, the last, or the mean of their numbers."""
    if len(outcomes) == 1 or duplicates == "first":
        return outcomes[0]
    if duplicates == "last":
        return outcomes[-1]

    def mean(name: str) -> float | None:
        known = [value for each in outcomes if (value := getattr(each, name)) is not None]
        return fmean(known) if known else None

    def count(name: str) -> int | None:
        return None if (tokens := mean(name)) is None else round(tokens)

    return Outcome(mean("satisfied"), mean("cost"), mean("latency_s"), count("tokens_in"), count("tokens_out"))


def _listed(names: Mapping[str, None]) -> str:
    known = [name for name in names if not is_empty(name)]
    return ", ".join(known[:12]) + (f" and {len(known) - 12} more" if len(known) > 12 else "")
