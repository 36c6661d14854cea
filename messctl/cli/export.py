"""`messctl export`: the live log as a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from messctl.cli.arguments import OUTPUT, JsonOption, StateOption
from messctl.cli.command import ASK, Command
from messctl.cli.opening import open_state, state_files
from messctl.cli.output import print_json, print_line
from messctl.display.text import counted


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("export", cls=Command, rich_help_panel=ASK, epilog="Example: messctl export -o live.parquet")(export)


def export(
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE", help="The trace to write, a Parquet file.",
                     rich_help_panel=OUTPUT),
    ],
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:  # fmt: skip
    """Write the live log as a trace, for `messctl evaluate` and `messctl replay --policy logged`.

    An existing trace is replaced.
    """
    from messctl.outputs import check_distinct
    from messctl.state.export import export_log

    with open_state(state, required=True) as store:
        check_distinct([output], state_files(store.path))
        rows = export_log(store, output)
    if as_json:
        print_json({"output": str(output), "rows": rows})
    else:
        print_line(f"{output}: {counted(rows, 'request')}")
