"""`messctl import`: turn another project's benchmark results into a trace."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from messctl.cli.arguments import OUTPUT, REQUESTS, JsonOption
from messctl.cli.command import TRACES, Command
from messctl.cli.output import print_json, print_line, progress_console
from messctl.cli.progress import description
from messctl.errors import UsageError

if TYPE_CHECKING:
    from messctl.importers import ImportSummary
    from messctl.trace import CostBasis

EPILOG = "Example: messctl import routellm mmlu/ --cost gpt-4=0.01 -o trace.parquet"
PER_1K_TOKENS = "per-1k-tokens"
PER_REQUEST = "per-request"


def _list_formats(wanted: bool) -> None:
    if wanted:
        from messctl.importers import formats

        for known in formats().values():
            print_line(f"{known.name:<16}{known.summary}", " " * 16)
        raise typer.Exit


CostOption = Annotated[
    list[str] | None,
    typer.Option(
        "--cost",
        metavar="NAME=N",
        help=f"A model's cost per request; add :{PER_1K_TOKENS} for its cost per 1,000 tokens. Repeatable.",
        rich_help_panel=REQUESTS,
    ),
]
CostUnitOption = Annotated[
    str | None,
    typer.Option(
        "--cost-unit",
        metavar="TEXT",
        help="The unit of --cost. Default: the source's, or 'unit'.",
        rich_help_panel=REQUESTS,
    ),
]
AllowPickleOption = Annotated[
    bool,
    typer.Option("--allow-pickle", help="Read pickle files. This runs any code in them.", rich_help_panel=REQUESTS),
]
MetricOption = Annotated[
    str | None,
    typer.Option(
        "--metric", metavar="NAME", help="lm-eval: the metric that is the satisfaction.", rich_help_panel=REQUESTS
    ),
]
FilterOption = Annotated[
    str | None,
    typer.Option("--filter", metavar="NAME", help="lm-eval: the filter whose answers count.", rich_help_panel=REQUESTS),
]
NameOption = Annotated[
    list[str] | None,
    typer.Option(
        "--name",
        metavar="FILE=NAME",
        help="The model whose results are in this folder or file. Repeatable.",
        rich_help_panel=REQUESTS,
    ),
]
OutputOption = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="FILE", help="The trace to write, a Parquet file.", rich_help_panel=OUTPUT),
]
FormatsOption = Annotated[
    bool,
    typer.Option(
        "--formats", is_eager=True, callback=_list_formats, help="List the formats and exit.", rich_help_panel=OUTPUT
    ),
]


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("import", cls=Command, epilog=EPILOG, rich_help_panel=TRACES)(import_)


def import_(
    format: Annotated[
        str, typer.Argument(metavar="FORMAT", help="The format of the source; --formats lists all formats.")
    ],
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE", help="Files, or folders of files.")],
    *,
    cost: CostOption = None,
    cost_unit: CostUnitOption = None,
    allow_pickle: AllowPickleOption = False,
    metric: MetricOption = None,
    filter: FilterOption = None,
    name: NameOption = None,
    output: OutputOption,
    formats: FormatsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Turn the benchmark results of another project into a trace."""
    del formats
    from messctl.importers import CostStatement, ImportOptions, convert, get_format

    kind = get_format(format)
    costs = CostStatement(parse_costs(cost or []), cost_unit)
    options = ImportOptions(allow_pickle=allow_pickle, metric=metric, filter=filter, name=parse_names(name or []))
    with _progress() as progress:
        summary = convert(kind, sources, output, options=options, costs=costs, progress=progress)
    if as_json:
        print_json({"output": str(output), "format": kind.name, **asdict(summary)})
    else:
        _print_summary(output, summary)


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


@contextmanager
def _progress() -> Iterator[Callable[[int, int | None], None] | None]:
    """Yield a function that shows the progress on stderr; None if stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (description(), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=progress_console(), transient=True) as bar:
        task = bar.add_task("reading", total=None)

        def show(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total, description="writing" if total else "reading")

        yield show


def _print_summary(output: Path, summary: ImportSummary) -> None:
    lines = [f"{output}: {summary.rows:,} rows, {len(summary.models)} models: {', '.join(summary.models)}"]
    if summary.rows_with_empty_cells:
        lines.append(f"{summary.rows_with_empty_cells:,} rows have empty cells; the cells are null in the trace")
    if summary.rows_dropped:
        lines.append(f"{summary.rows_dropped:,} rows were dropped, since no model was observed in them")
    if summary.request_ids_made_unique:
        lines.append(f"{summary.request_ids_made_unique:,} repeated request ids were made unique with #2, #3 …")
    if summary.models_never_observed:
        lines.append(f"left out, since they were never observed: {', '.join(summary.models_never_observed)}")
    if summary.cost_unit:
        lines.append(f"costs in {summary.cost_unit}, {summary.meter}")
    if summary.models_without_cost:
        names = ", ".join(summary.models_without_cost)
        lines.append(f"no cost for {names}; a replay needs costs, so import again with --cost MODEL=VALUE")
    for line in lines:
        print_line(line)
