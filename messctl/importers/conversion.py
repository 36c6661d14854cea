"""Turning a source into a trace: a first pass over its rows learns what there is, a second one writes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from messctl.errors import SourceError, UnknownNameError, UsageError
from messctl.importers.base import Format, ImportOptions
from messctl.importers.text import encodable
from messctl.outputs import check_trace_writable, check_writable
from messctl.trace import CostBasis, Outcome, Row, TraceMetadata, TraceWriter
from messctl.trace.check import COST_RULE, possible_cost

Progress = Callable[[int, int | None], None]
OPTIONAL_REQUEST_COLUMNS = ("source", "arrived_at", "propensity")
OUTCOME_FIELDS = tuple(outcome_field.name for outcome_field in fields(Outcome))


@dataclass(frozen=True, slots=True)
class CostStatement:
    """The costs that the user states: per model, in `unit` (by default the source's own, or "unit")."""

    by_model: Mapping[str, CostBasis] = field(default_factory=dict)
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What an import did. `cost_unit` is None where the trace has no costs."""

    rows: int
    models: tuple[str, ...]
    rows_with_empty_cells: int
    rows_dropped: int
    request_ids_made_unique: int
    models_without_cost: tuple[str, ...]
    models_never_observed: tuple[str, ...]
    cost_unit: str | None
    meter: str


@dataclass
class _Survey:
    """What the first pass learns. The counters hold, per model, in how many rows something was observed."""

    rows: int = 0
    dropped: int = 0
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
        if not _observed(row):
            self.dropped += 1
            return
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
    """Write the trace of `sources`, read as `kind`, to `output`, which appears only when it is whole.

    `progress` is called with the rows done and, once it is known, their total. Raises SourceError for what
    cannot be understood, UsageError for options that do not fit the source, OutputError where `output` cannot
    be written.
    """
    options, costs = options or ImportOptions(), costs or CostStatement()
    _check_options(kind, options)
    _check_output(sources, output)
    survey = _Survey()
    for row in _counted(kind.rows(sources, options), progress, None):
        survey.add(row)
    where = ", ".join(map(str, sources))
    if survey.rows == 0:
        raise SourceError(f"{where}: holds no row")
    if survey.rows == survey.dropped:
        raise SourceError(f"{where}: in none of its {survey.rows:,} rows was any model observed")
    _check_names(where, survey.models)
    _check_costs(survey, costs)
    metadata = _metadata(kind, sources, survey, costs)
    rows = _counted(kind.rows(sources, options), progress, survey.rows)
    tally = _write(rows, output, metadata, survey, costs)
    return ImportSummary(
        rows=survey.rows - survey.dropped,
        models=survey.models,
        rows_with_empty_cells=tally["with empty cells"],
        rows_dropped=survey.dropped,
        request_ids_made_unique=tally["renamed"],
        models_without_cost=tuple(m for m in survey.models if not survey.costs[m] and m not in costs.by_model),
        models_never_observed=survey.never_observed,
        cost_unit=metadata.cost_unit if _has_costs(survey, costs) else None,
        meter=metadata.meter,
    )


def _write(
    rows: Iterator[Row], output: Path, metadata: TraceMetadata, survey: _Survey, costs: CostStatement
) -> Counter[str]:
    """Write the rows in which a model was observed; count those with empty cells and the renamed ids."""
    tally: Counter[str] = Counter()
    used: dict[str, int] = {}
    wanted = survey.fields | ({"cost"} if costs.by_model else set())
    models = survey.models
    costed = [m for m in models if survey.costs[m] or m in costs.by_model]
    with TraceWriter(output, metadata, fields=wanted, request=survey.request) as writer:
        for found in rows:
            if not _observed(found):
                continue
            row = _finished(found, costs, used)
            _check_written(row, models)
            tally["renamed"] += row.request_id != encodable(found.request_id)
            got = row.outcomes
            empty = any(m not in got or got[m].satisfied is None for m in models)
            tally["with empty cells"] += empty or any(got[m].cost is None for m in costed)
            writer.append(row)
    return tally


def _finished(row: Row, costs: CostStatement, used: dict[str, int]) -> Row:
    """Return `row` as it is written: with stated costs, an id of its own, and text that UTF-8 can hold."""
    return replace(
        row,
        request_id=_unused(encodable(row.request_id), used),
        prompt=encodable(row.prompt),
        source=None if row.source is None else encodable(row.source),
        outcomes={
            model: _with_cost(
                outcome if outcome.answer is None else replace(outcome, answer=encodable(outcome.answer)),
                costs.by_model.get(model),
            )
            for model, outcome in row.outcomes.items()
        },
    )


def _check_written(row: Row, models: Sequence[str]) -> None:
    """Raise SourceError for a cost that no trace may hold."""
    for model in models:
        cost = row.outcomes[model].cost if model in row.outcomes else None
        if cost is not None and not possible_cost(cost):
            raise SourceError(
                f"request {row.request_id!r}: the cost of {model!r} is {cost:g}, but {COST_RULE}; "
                "state it in a unit that fits, by --cost and --cost-unit"
            )


def _unused(request_id: str, used: dict[str, int]) -> str:
    """Return `request_id`, or with `#2`, `#3` … what is not in `used`: every id, and how often it came up."""
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
        return replace(outcome, cost=None)  # the model was not observed, so nothing was spent on it
    if not basis.per_1k_tokens:
        return replace(outcome, cost=basis.value)
    tokens = _tokens(outcome)
    return replace(outcome, cost=None if tokens is None else basis.value * tokens / 1000)


def _tokens(outcome: Outcome) -> int | None:
    if outcome.tokens_in is None or outcome.tokens_out is None:
        return None
    return outcome.tokens_in + outcome.tokens_out


def _observed(row: Row) -> bool:
    return any(outcome.satisfied is not None for outcome in row.outcomes.values())


def _counted(rows: Iterator[Row], progress: Progress | None, total: int | None) -> Iterator[Row]:
    for done, row in enumerate(rows, start=1):
        yield row
        if progress and done % 256 == 0:
            progress(done, total)
    if progress and total is not None:
        progress(total, total)


def _check_options(kind: Format, options: ImportOptions) -> None:
    for name in sorted(options.given() - kind.takes):
        raise UsageError(f"format {kind.name!r} has no use for --{name.replace('_', '-')}; leave it out")


def _check_output(sources: Sequence[Path], output: Path) -> None:
    check_writable(output)
    for source in sources:
        if output.exists() and source.exists() and output.samefile(source):
            raise UsageError(f"{output}: is a source of this import too; give the trace another name")
        if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
            raise UsageError(f"{output}: lies in {source}, which is a source of this import; write it elsewhere")
    check_trace_writable(output)


def _check_names(where: str, models: Sequence[str]) -> None:
    """Raise SourceError for a name that no column can have."""
    for model in models:
        if not model:
            raise SourceError(f"{where}: names a model '', but a model needs a name; give it one in the source")
        if encodable(model) != model:
            raise SourceError(f"{where}: the model's name {model!r} holds a lone surrogate; mend it in the source")


def _check_costs(survey: _Survey, costs: CostStatement) -> None:
    for model, basis in costs.by_model.items():
        if model not in survey.models:
            raise UnknownNameError("model", model, survey.models)
        if not (math.isfinite(basis.value) and basis.value >= 0):
            raise UsageError(f"--cost {model}={basis.value:g}: a cost must be finite and not negative")
        if not basis.per_1k_tokens and not possible_cost(basis.value):
            raise UsageError(f"--cost {model}={basis.value:g}: {COST_RULE}; state it in another unit")
        if basis.per_1k_tokens and not survey.tokens[model]:
            raise UsageError(f"--cost {model}: the source has no token counts; state its cost per request instead")


def _has_costs(survey: _Survey, costs: CostStatement) -> bool:
    return bool(costs.by_model) or any(survey.costs[model] for model in survey.models)


def _metadata(kind: Format, sources: Sequence[Path], survey: _Survey, costs: CostStatement) -> TraceMetadata:
    """Say where rows and costs come from. Raises UsageError where costs of two units would be mixed."""
    theirs = [m for m in survey.models if survey.costs[m] and m not in costs.by_model]
    if costs.unit and not costs.by_model:
        raise UsageError("--cost-unit names the unit of --cost; give --cost MODEL=VALUE too")
    if theirs and costs.unit not in (None, kind.cost_unit):
        raise UsageError(
            f"--cost-unit {costs.unit}: the costs of {', '.join(theirs)} are in {kind.cost_unit}; "
            "give --cost for every model, or state costs in the source's unit"
        )
    stated = "stated by the user" if costs.by_model else ""
    names = ", ".join(source.resolve().name for source in sources)
    return TraceMetadata(
        models=survey.models,
        cost_unit=costs.unit or kind.cost_unit or "unit",
        meter=" and ".join(filter(None, [kind.meter if theirs else "", stated])) or "none",
        source=f"{kind.name}: {encodable(names)}",
    )
