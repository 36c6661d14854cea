"""`messctl trace`: summarise a trace, check it, and show its first rows."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from messctl.cli.arguments import OUTPUT, JsonOption, in_range, option
from messctl.cli.command import TRACES, Command, Group
from messctl.cli.output import console, finite, print_json, print_line
from messctl.display.text import or_dash, plain
from messctl.errors import TraceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from messctl.trace import Batch, Problem, TraceFile, TraceSummary

LONGEST_PROMPT = 200
"""The longest prompt that `head` shows, in characters."""
LONGEST_READ = 10_000
"""How many characters of a prompt `head` looks at to find those."""

File = Annotated[Path, typer.Argument(metavar="FILE", help="The trace, a Parquet file.")]
RowsOption = Annotated[
    int,
    option("--rows -n", "The number of rows to show.", OUTPUT, metavar="N", callback=in_range(1)),
]


def register(app: typer.Typer) -> None:
    """Mount the group of commands."""
    group = typer.Typer(cls=Group, no_args_is_help=True, help="Look into a trace: info, validate, head.")
    group.command("info", cls=Command, epilog="Example: messctl trace info trace.parquet")(info)
    group.command("validate", cls=Command, epilog="Example: messctl trace validate trace.parquet")(validate)
    group.command("head", cls=Command, epilog="Example: messctl trace head -n 3 trace.parquet")(head)
    app.add_typer(group, name="trace", rich_help_panel=TRACES)


def info(file: File, as_json: JsonOption = False) -> None:
    """Show the models, rows and cost unit, the means of each model, and the missing cells."""
    from messctl.trace import TraceFile, summarise

    trace = TraceFile(file)
    summary = summarise(trace)
    if as_json:
        print_json(_info_document(trace, summary))
    else:
        _print_info(trace, summary)
    _raise_first(trace, summary.problems)


def validate(file: File, as_json: JsonOption = False) -> None:
    """List all problems by row and column. Exit 2 if there are any."""
    from messctl.trace import TraceFile, summarise

    trace = TraceFile(file)
    summary = summarise(trace)
    if as_json:
        problems = [asdict(problem) for problem in summary.problems]
        document = {"file": str(file), "sound": not problems, "rows": summary.rows, "problems": problems}
        print_json(document)
    elif summary.problems:
        for problem in summary.problems:
            print_line(f"{file}: {problem}")
    else:
        print_line(f"{file}: sound ({summary.rows:,} rows, {len(summary.models)} models)")
    _raise_first(trace, summary.problems)


def head(
    file: File,
    rows: RowsOption = 5,
    as_json: JsonOption = False,
) -> None:
    """Show the first rows: the prompt, and the satisfaction and cost of each model."""
    from messctl.trace import TraceFile, check

    trace = TraceFile(file)
    documents: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for batch in trace.batches(min(rows, max(trace.rows, 1))):  # fewer rows at once, if they are long
        documents += _rows(trace, batch)
        problems += check(trace, batch)
        if len(documents) >= rows:
            break
    if not documents:
        raise TraceError(f"{file}: has no rows; import it again from its source")
    del documents[rows:]
    if as_json:
        print_json({"file": str(file), "cost_unit": trace.metadata.cost_unit, "rows": documents})
    else:
        for document in documents:
            _print_row(document, trace.metadata.cost_unit)
    _raise_first(trace, [problem for problem in problems if problem.row <= rows])


def _raise_first(trace: TraceFile, problems: Sequence[Problem]) -> None:
    if problems:
        others = f"; {len(problems)} columns have problems" if len(problems) > 1 else ""
        raise TraceError(f"{trace.path}: {problems[0]}{others}; correct the source and import it again")


def _info_document(trace: TraceFile, summary: TraceSummary) -> dict[str, Any]:
    return {
        "file": str(trace.path),
        "rows": summary.rows,
        "complete_rows": summary.complete_rows,
        "cost_unit": trace.metadata.cost_unit,
        "meter": trace.metadata.meter,
        "source": trace.metadata.source,
        "models": {
            known.model: {
                "mean_satisfaction": known.mean_satisfaction,
                "mean_cost": known.mean_cost,
                "observed": known.observed,
                "missing": summary.rows - known.observed,
                "missing_costs": summary.rows - known.costed,
            }
            for known in summary.models
        },
        "ignored_columns": trace.ignored_columns,
        "problems": [asdict(problem) for problem in summary.problems],
    }


def _print_info(trace: TraceFile, summary: TraceSummary) -> None:
    from rich.table import Table

    from messctl.display.tables import fitting

    metadata = trace.metadata
    print_line(f"{trace.path}: {summary.rows:,} rows, {summary.complete_rows:,} of them complete for every model")
    print_line(f"cost unit: {metadata.cost_unit}   meter: {metadata.meter}   source: {metadata.source}")
    if trace.ignored_columns:
        print_line(f"ignored columns: {', '.join(trace.ignored_columns)}")
    unit = plain(metadata.cost_unit)
    table = Table("model")
    for title in ("mean satisfaction", f"mean cost ({unit})", "observed", "missing", "missing costs"):
        table.add_column(title, justify="right")
    for known in summary.models:
        table.add_row(
            plain(known.model),
            or_dash(known.mean_satisfaction, ".4g"),
            or_dash(known.mean_cost, ".4g"),
            f"{known.observed:,}",
            f"{summary.rows - known.observed:,}",
            f"{summary.rows - known.costed:,}",
        )
    screen = console()
    screen.print(fitting(table, screen.width))
    for problem in summary.problems:
        print_line(str(problem))


def _rows(trace: TraceFile, batch: Batch) -> list[dict[str, Any]]:
    """Return the rows of `batch` for JSON: null is a value that was not observed, or is not finite."""
    return [
        {
            "row": batch.first_row + row,
            "request_id": batch.request_ids[row].as_py(),
            "prompt": batch.prompts[row].as_py(),
            "models": {
                model: {
                    "satisfied": finite(batch.satisfied[row, index]),
                    "cost": finite(batch.cost[row, index]),
                }
                for index, model in enumerate(trace.models)
            },
        }
        for row in range(len(batch.request_ids))
    ]


def _print_row(document: dict[str, Any], cost_unit: str) -> None:
    from messctl.display.tables import fitting

    print_line(f"row {document['row']}: {document['request_id']}")
    words = " ".join((document["prompt"] or "")[:LONGEST_READ].split())
    print_line(words if len(words) <= LONGEST_PROMPT else f"{words[:LONGEST_PROMPT]}…")
    screen = console()
    screen.print(fitting(_outcomes(document["models"], cost_unit), screen.width))


def _outcomes(models: dict[str, dict[str, float | None]], cost_unit: str) -> Table:
    from rich.table import Table

    table = Table("model")
    table.add_column("satisfied", justify="right")
    table.add_column(f"cost ({plain(cost_unit)})", justify="right")
    for model, outcome in models.items():
        table.add_row(plain(model), or_dash(outcome["satisfied"], ".4g"), or_dash(outcome["cost"], ".4g"))
    return table
