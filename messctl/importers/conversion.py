"""Conversion of a source to a trace: a first pass finds the models and columns, a second one writes the rows."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from messctl.errors import SourceError, UnknownNameError, UsageError
from messctl.importers.base import Format, ImportOptions
from messctl.inputs import valid_unicode
from messctl.outputs import check_trace_writable, check_writable
from messctl.trace import CostBasis, Outcome, Row, TraceMetadata, TraceWriter
from messctl.trace.check import COST_RULE, possible_cost

Progress = Callable[[int, int | None], None]
OPTIONAL_REQUEST_COLUMNS = ("source", "arrived_at", "propensity")
OUTCOME_FIELDS = tuple(outcome_field.name for outcome_field in fields(Outcome))


@dataclass(frozen=True, slots=True)
class CostStatement:
    """The costs per model that the user states, in `unit` (default: the source's unit, or "unit")."""

    by_model: Mapping[str, CostBasis] = field(default_factory=dict)
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """The result of an import. `cost_unit` is None if the trace has no costs."""

    rows: int
    models: tuple[str, ...]
    rows_with_empty_cells: int
    rows_dropped: int
    rows_without_prompt: int
    request_ids_made_unique: int
    models_without_cost: tuple[str, ...]
    models_never_observed: tuple[str, ...]
    columns_left_out: tuple[str, ...]
    cost_unit: str | None
    meter: str


@dataclass
class _Survey:
    """The result of the first pass. The counters have, per model, the number of rows with an observation."""

    rows: int = 0
    dropped: int = 0
    promptless: int = 0
    named: set[str] = field(default_factory=set)
    observed: Counter[str] = field(default_factory=Counter)
    costs: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    fields: set[str] = field(default_factory=set)
    request: set[str] = field(default_factory=set)

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(sorted(model for model, count in self.observed.items() if count))

    @property
    def never_observed(self) -> tuple[str, ...]:
        return tuple(sorted(self.named.difference(self.models)))

    def add(self, row: Row) -> None:
        self.rows += 1
        self.named.update(row.outcomes)
        if not _has_outcome(row):
            self.dropped += 1
            return
        self.promptless += not row.prompt
        self.request.update(name for name in OPTIONAL_REQUEST_COLUMNS if getattr(row, name) is not None)
        for model, outcome in row.outcomes.items():
            self.observed[model] += outcome.satisfied is not None
            self.costs[model] += outcome.cost is not None
            self.tokens[model] += _tokens(outcome) is not None
            self.fields.update(name for name in OUTCOME_FIELDS if getattr(outcome, name) is not None)


def convert(
    kind: Format,
    sources: Sequence[Path],
    output: Path,
    *,
    options: ImportOptions | None = None,
    costs: CostStatement | None = None,
    progress: Progress | None = None,
) -> ImportSummary:
    """Write `sources`, which have the format `kind`, as a trace to `output`. The file appears only when complete.

    `progress` is called with the number of rows done and, once it is known, their total. Raises SourceError for a
    source that cannot be understood, UsageError for options that do not fit it, and OutputError if `output` cannot be
    written.
    """
    options, costs = options or ImportOptions(), costs or CostStatement()
    _check_options(kind, options)
    _check_output(sources, output)
    survey, unread = _Survey(), dict[str, None]()
    noticing = replace(options, unread=lambda names: unread.update(dict.fromkeys(names)))
    for row in _with_progress(kind.rows(sources, noticing), progress, None):
        survey.add(row)
    where = ", ".join(map(str, sources))
    if survey.rows == 0:
        raise SourceError(f"{where}: has no rows; check the source")
    if survey.rows == survey.dropped:
        raise SourceError(
            f"{where}: none of its {survey.rows:,} rows has a satisfaction of any model; check the source"
        )
    _check_names(where, survey.models)
    _check_costs(survey, costs)
    metadata = _metadata(kind, sources, survey, costs)
    rows = _with_progress(kind.rows(sources, options), progress, survey.rows)
    tally = _write(rows, output, metadata, survey, costs)
    return ImportSummary(
        rows=survey.rows - survey.dropped,
        models=survey.models,
        rows_with_empty_cells=tally["with empty cells"],
        rows_dropped=survey.dropped,
        rows_without_prompt=survey.promptless,
        request_ids_made_unique=tally["renamed"],
        models_without_cost=tuple(m for m in survey.models if not survey.costs[m] and m not in costs.by_model),
        models_never_observed=survey.never_observed,
        columns_left_out=tuple(unread),
        cost_unit=metadata.cost_unit if _has_costs(survey, costs) else None,
        meter=metadata.meter,
    )


def _write(
    rows: Iterator[Row], output: Path, metadata: TraceMetadata, survey: _Survey, costs: CostStatement
) -> Counter[str]:
    """Write the rows with an observed model. Count the rows with empty cells, and the renamed ids."""
    tally: Counter[str] = Counter()
    used: dict[str, int] = {}
    wanted = survey.fields | ({"cost"} if costs.by_model else set())
    models = survey.models
    costed = [m for m in models if survey.costs[m] or m in costs.by_model]
    with TraceWriter(output, metadata, fields=wanted, request=survey.request) as writer:
        for found in rows:
            if not _has_outcome(found):
                continue
            row = _row_to_write(found, costs, used)
            _check_written(row, models)
            tally["renamed"] += row.request_id != valid_unicode(found.request_id)
            got = row.outcomes
            empty = any(m not in got or got[m].satisfied is None for m in models)
            tally["with empty cells"] += empty or any(got[m].cost is None for m in costed)
            writer.append(row)
    return tally


def _row_to_write(row: Row, costs: CostStatement, used: dict[str, int]) -> Row:
    """Return the row to write: with stated costs, a unique id, and text that is valid UTF-8."""
    return replace(
        row,
        request_id=_unique_id(valid_unicode(row.request_id), used),
        prompt=valid_unicode(row.prompt),
        source=None if row.source is None else valid_unicode(row.source),
        outcomes={
            model: _with_cost(
                outcome if outcome.answer is None else replace(outcome, answer=valid_unicode(outcome.answer)),
                costs.by_model.get(model),
            )
            for model, outcome in row.outcomes.items()
        },
    )


def _check_written(row: Row, models: Sequence[str]) -> None:
    """Raise SourceError for a cost that a trace must not contain."""
    for model in models:
        cost = row.outcomes[model].cost if model in row.outcomes else None
        if cost is not None and not possible_cost(cost):
            raise SourceError(
                f"request {row.request_id!r}: the cost of {model!r} is {cost:g}, but {COST_RULE}; "
                "state it in another unit, with --cost and --unit"
            )


def _unique_id(request_id: str, used: dict[str, int]) -> str:
    """Return `request_id`, with `#2`, `#3` … added if it is in `used`, which maps each id to its occurrences."""
    name, repetition = request_id, used.get(request_id, 0)
    while name in used:
        repetition += 1
        name = f"{request_id}#{repetition}"
    used[request_id] = max(repetition, 1)
    used.setdefault(name, 1)
    return name


def _with_cost(outcome: Outcome, basis: CostBasis | None) -> Outcome:
    if basis is None:
        return outcome
    if outcome.satisfied is None:
        return replace(outcome, cost=None)  # the model did not answer, so it cost nothing
    if not basis.per_1k_tokens:
        return replace(outcome, cost=basis.value)
    tokens = _tokens(outcome)
    return replace(outcome, cost=None if tokens is None else basis.value * tokens / 1000)


def _tokens(outcome: Outcome) -> int | None:
    if outcome.tokens_in is None or outcome.tokens_out is None:
        return None
    return outcome.tokens_in + outcome.tokens_out


def _has_outcome(row: Row) -> bool:
    return any(outcome.satisfied is not None for outcome in row.outcomes.values())


def _with_progress(rows: Iterator[Row], progress: Progress | None, total: int | None) -> Iterator[Row]:
    for done, row in enumerate(rows, start=1):
        yield row
        if progress and done % 256 == 0:
            progress(done, total)
    if progress and total is not None:
        progress(total, total)


def _check_options(kind: Format, options: ImportOptions) -> None:
    for name in sorted(options.given() - kind.takes):
        raise UsageError(f"format {kind.name!r} does not support --{name.replace('_', '-')}; leave it out")


def _check_output(sources: Sequence[Path], output: Path) -> None:
    check_writable(output)
    for source in sources:
        if output.exists() and source.exists() and output.samefile(source):
            raise UsageError(f"{output}: is also a source of this import; give the trace another name")
        if source.is_dir() and Path(os.path.realpath(output)).is_relative_to(source.resolve()):
            raise UsageError(f"{output}: is inside {source}, a source of this import; choose another place")
    check_trace_writable(output)


def _check_names(where: str, models: Sequence[str]) -> None:
    """Raise SourceError for a model's name that a column cannot have."""
    for model in models:
        if not model:
            raise SourceError(f"{where}: has a model without a name; give it one in the source")
        if valid_unicode(model) != model:
            raise SourceError(f"{where}: the model's name {model!r} has a lone surrogate; correct it in the source")


def _check_costs(survey: _Survey, costs: CostStatement) -> None:
    for model, basis in costs.by_model.items():
        if model not in survey.models:
            raise UnknownNameError("model", model, survey.models)
        if not (math.isfinite(basis.value) and basis.value >= 0):
            raise UsageError(f"--cost {model}={basis.value:g}: a cost must be finite and not negative; correct it")
        if not basis.per_1k_tokens and not possible_cost(basis.value):
            raise UsageError(f"--cost {model}={basis.value:g}: {COST_RULE}; state it in another unit")
        if basis.per_1k_tokens and not survey.tokens[model]:
            raise UsageError(f"--cost {model}: the source has no token counts; state its cost per request instead")


def _has_costs(survey: _Survey, costs: CostStatement) -> bool:
    return bool(costs.by_model) or any(survey.costs[model] for model in survey.models)


def _metadata(kind: Format, sources: Sequence[Path], survey: _Survey, costs: CostStatement) -> TraceMetadata:
    """Return the trace's metadata. Raises UsageError if costs in two units would be mixed."""
    of_source = [m for m in survey.models if survey.costs[m] and m not in costs.by_model]
    open_unit = bool(of_source) and kind.cost_unit is None
    if costs.unit and not (costs.by_model or open_unit):
        raise UsageError("--unit is the unit of costs, and there are none; add --cost MODEL=VALUE")
    if of_source and not open_unit and costs.unit not in (None, kind.cost_unit):
        raise UsageError(
            f"--unit {costs.unit}: the costs of {', '.join(of_source)} are in {kind.cost_unit}; "
            "give --cost for every model, or state costs in that unit"
        )
    stated = "stated by the user" if costs.by_model else ""
    names = ", ".join(source.resolve().name for source in sources)
    return TraceMetadata(
        models=survey.models,
        cost_unit=costs.unit or kind.cost_unit or "unit",
        meter=" and ".join(filter(None, [kind.meter if of_source else "", stated])) or "none",
        source=f"{kind.name}: {valid_unicode(names)}",
    )
