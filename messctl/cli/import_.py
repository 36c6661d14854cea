"""`messctl import`: turn your own results, or those of a benchmark, into a trace."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from messctl.cli.arguments import JsonOption, TraceOutputOption
from messctl.cli.command import TRACES, Command
from messctl.cli.import_options import (
    PER_1K_TOKENS,
    PER_REQUEST,
    AllowPickleOption,
    AnswerOption,
    CostOption,
    DecimalOption,
    DelimiterOption,
    DuplicatesOption,
    FilterOption,
    FormatsOption,
    HeaderRowsOption,
    IdOption,
    IgnoreOption,
    LatencyOption,
    LongOption,
    MetricOption,
    ModelColumnOption,
    NameOption,
    PromptOption,
    SatisfiedOption,
    ScaleOption,
    SkipOption,
    ThresholdOption,
    TokensInOption,
    TokensOutOption,
    UnitOption,
    WideOption,
)
from messctl.cli.output import print_json, print_line
from messctl.cli.progress import Update, progress_bar
from messctl.errors import ProposalError, UsageError

if TYPE_CHECKING:
    from messctl.importers import CostStatement, Format, ImportOptions, ImportSummary
    from messctl.importers.conversion import Progress
    from messctl.trace import CostBasis

MOST_LISTED = 12
"""The most columns that are listed."""
EPILOG = "Example: messctl import routellm mmlu/ --cost gpt-4=0.01 -o trace.parquet"


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("import", cls=Command, epilog=EPILOG, rich_help_panel=TRACES)(import_)


def import_(
    format: Annotated[
        str,
        typer.Argument(metavar="FORMAT", help="The format of the source: table for your own; --formats lists all."),
    ],
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE", help="Files, or folders of files; a table may be -, stdin.")
    ],
    *,
    wide: WideOption = None,
    long: LongOption = False,
    model_column: ModelColumnOption = None,
    satisfied: SatisfiedOption = None,
    prompt: PromptOption = None,
    id: IdOption = None,
    answer: AnswerOption = None,
    tokens_in: TokensInOption = None,
    tokens_out: TokensOutOption = None,
    latency: LatencyOption = None,
    scale: ScaleOption = None,
    threshold: ThresholdOption = None,
    duplicates: DuplicatesOption = None,
    decimal: DecimalOption = None,
    delimiter: DelimiterOption = None,
    skip: SkipOption = 0,
    header_rows: HeaderRowsOption = 1,
    ignore: IgnoreOption = None,
    cost: CostOption = None,
    unit: UnitOption = None,
    allow_pickle: AllowPickleOption = False,
    metric: MetricOption = None,
    filter: FilterOption = None,
    name: NameOption = None,
    output: TraceOutputOption,
    formats: FormatsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Turn your own results, or those of a benchmark, into a trace."""
    del formats
    from messctl.importers import Columns, CostStatement, ImportOptions, get_format

    kind = get_format(format)
    column, stated = split_costs(cost or []) if "cost" in kind.takes else (None, cost or [])
    columns = Columns(
        tuple(wide or ()), long or bool(model_column), model_column, satisfied, column, prompt, id, answer, tokens_in,
        tokens_out, latency, threshold, scale, unit, duplicates, decimal, delimiter, skip, header_rows,
        tuple(ignore or ()),
    )  # fmt: skip
    options = ImportOptions(allow_pickle, metric, filter, parse_names(name or []), columns)
    costs = CostStatement(parse_costs(stated), unit)
    with files_of(sources, kind.name) as files, progress_bar("reading") as update:
        summary = _converted(kind, sources, files, output, options, costs, partial(_show, update), as_json)
    if as_json:
        print_json({"output": str(output), "format": kind.name, **asdict(summary)})
    else:
        _print_summary(output, summary)


def _converted(
    kind: Format,
    sources: list[Path],
    files: list[Path],
    output: Path,
    options: ImportOptions,
    costs: CostStatement,
    progress: Progress,
    as_json: bool,
) -> ImportSummary:
    """Convert the files. If nothing says what a table's columns are, print the command that would read it.

    Raises UsageError then, and whatever `convert` raises.
    """
    from messctl.importers import convert

    try:
        return convert(kind, files, output, options=options, costs=costs, progress=progress)
    except ProposalError as error:
        stated = [word for model, basis in costs.by_model.items() for word in ("--cost", _statement(model, basis))]
        words = ["messctl", "import", kind.name, *map(str, sources), *error.options, *stated, "-o", str(output)]
        if as_json:
            print_json({"proposal": shlex.join(words), "words": words})
        else:
            print(shlex.join(words), flush=True)  # before what is said on stderr
        raise UsageError(
            f"{sources[0]}: state what its columns are; nothing is written. The command on standard output fits every "
            "row; check it, and run it"
        ) from None


@contextmanager
def files_of(sources: list[Path], format: str) -> Iterator[list[Path]]:
    """Yield the files to read. Standard input, which is read several times, is a file in a temporary folder."""
    if Path("-") not in sources or format != "table":
        yield sources
        return
    with TemporaryDirectory(prefix="messctl-") as folder:
        spooled = Path(folder) / "stdin"
        with spooled.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield [spooled if source == Path("-") else source for source in sources]


def split_costs(statements: list[str]) -> tuple[str | None, list[str]]:
    """Split what --cost states into the column of a table's costs, and costs of models, `MODEL=VALUE`.

    Raises UsageError if there are two columns.
    """
    stated = [text for text in statements if re.fullmatch(r".+=[-+\d.eE]+(:[a-z0-9-]*)?", text, re.DOTALL)]
    columns = [text for text in statements if text not in stated]
    if len(columns) > 1:
        raise UsageError(f"--cost {columns[1]!r}: {columns[0]!r} has the costs already; state one column")
    return (columns[0] if columns else None), stated


def _statement(model: str, basis: CostBasis) -> str:
    return f"{model}={basis.value!r}{':' + PER_1K_TOKENS if basis.per_1k_tokens else ''}"


def parse_costs(statements: list[str]) -> dict[str, CostBasis]:
    """Parse `MODEL=VALUE` and `MODEL=VALUE:per-1k-tokens` into costs by model. The name may contain `=` and `:`.

    Raises UsageError for a statement of another form, and for a model that has two costs.
    """
    from messctl.trace import CostBasis

    costs: dict[str, CostBasis] = {}
    for statement in statements:
        model, _, stated = statement.rpartition("=")
        value, _, basis = stated.partition(":")
        if not model or basis not in ("", PER_REQUEST, PER_1K_TOKENS):
            raise UsageError(f"--cost {statement!r}: write MODEL=VALUE (per request) or MODEL=VALUE:{PER_1K_TOKENS}")
        if model in costs:
            raise UsageError(f"--cost {statement!r}: {model!r} has a cost already; state each model's cost once")
        costs[model] = CostBasis(_number(statement, value), per_1k_tokens=basis == PER_1K_TOKENS)
    return costs


def parse_names(statements: list[str]) -> tuple[tuple[str, str], ...]:
    """Parse `FILE=NAME` into pairs. The name may contain `=`, and so may the path of an existing folder or file.

    Raises UsageError for a statement of another form.
    """
    pairs = []
    for statement in statements:
        parts = statement.split("=")
        splits = [("=".join(parts[:at]), "=".join(parts[at:])) for at in range(1, len(parts))]
        place, name = next((split for split in splits if Path(split[0]).exists()), splits[0] if splits else ("", ""))
        if not (place and name):
            raise UsageError(f"--name {statement!r}: write FOLDER=NAME")
        pairs.append((place, name))
    return tuple(pairs)


def _number(statement: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UsageError(f"--cost {statement!r}: {value!r} is not a number; write MODEL=VALUE") from None


def _show(update: Update, done: int, total: int | None) -> None:
    """Show how many rows are done, and their number once it is known: the second pass, which writes, has it."""
    update(completed=done, total=total, description="writing" if total else "reading")


def _print_summary(output: Path, summary: ImportSummary) -> None:
    lines = [f"{output}: {summary.rows:,} rows, {len(summary.models)} models: {', '.join(summary.models)}"]
    if summary.rows_with_empty_cells:
        lines.append(f"{summary.rows_with_empty_cells:,} rows have empty cells; the cells are null in the trace")
    if summary.rows_dropped:
        lines.append(f"{summary.rows_dropped:,} rows were dropped, since no model was observed in them")
    if summary.rows_without_prompt:
        lines.append(f"{summary.rows_without_prompt:,} rows have no prompt, so a router cannot tell them apart")
    if summary.request_ids_made_unique:
        lines.append(f"{summary.request_ids_made_unique:,} repeated request ids were made unique with #2, #3 …")
    if summary.models_never_observed:
        lines.append(f"left out, since they were never observed: {', '.join(summary.models_never_observed)}")
    if summary.columns_left_out:
        lines.append(f"left out, since nothing reads them: {_few(summary.columns_left_out)}")
    if summary.cost_unit:
        lines.append(f"costs in {summary.cost_unit}, {summary.meter}")
    if summary.models_without_cost:
        names = ", ".join(summary.models_without_cost)
        lines.append(f"no cost for {names}; a replay needs costs, so import again with --cost MODEL=VALUE")
    for line in lines:
        print_line(line)


def _few(columns: Sequence[str]) -> str:
    """Return the names of columns in one line; the first ones if there are many."""
    more = len(columns) - MOST_LISTED
    return f"columns {', '.join(columns[:MOST_LISTED])}{f' and {more} more' if more > 0 else ''}"
