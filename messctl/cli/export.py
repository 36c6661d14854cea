"""`messctl export`: the live log as a trace."""

from __future__ import annotations

import typer

from messctl.cli.arguments import JsonOption, StateOption, TraceOutputOption, ZooOption
from messctl.cli.command import ASK, Command
from messctl.cli.opening import open_state, state_files, warn_of_foreign_zoo
from messctl.cli.output import print_json, print_line
from messctl.display.text import counted


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("export", cls=Command, rich_help_panel=ASK, epilog="Example: messctl export -o live.parquet")(export)


def export(
    output: TraceOutputOption,
    as_json: JsonOption = False,
    zoo: ZooOption = None,
    state: StateOption = None,
) -> None:
    """Write the live log as a trace, for `messctl evaluate` and `messctl replay --policy logged`.

    An existing trace is replaced.
    """
    from messctl.outputs import check_distinct
    from messctl.state.export import export_log

    if state is None:
        warn_of_foreign_zoo(zoo)
    with open_state(state, zoo, required=True) as store:
        check_distinct([output], state_files(store.path))
        rows = export_log(store, output)
        pruned = store.pruning.pruned()
    gone = pruned.requests if pruned else 0
    if as_json:
        print_json({"output": str(output), "rows": rows, "pruned": gone})
    else:
        print_line(f"{output}: {counted(rows, 'request')}{f'; {gone:,} older ones were pruned' if gone else ''}")
