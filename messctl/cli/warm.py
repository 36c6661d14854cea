"""`messctl warm`: let the router learn from a trace before it serves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from messctl.cli.arguments import POLICY, JsonOption, StateOption, ZooOption, option
from messctl.cli.command import ZOO, Command
from messctl.cli.opening import open_router
from messctl.cli.output import print_json, print_line
from messctl.cli.progress import spinner
from messctl.display.text import counted

EPILOG = "Example: messctl warm recorded.parquet"


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("warm", cls=Command, epilog=EPILOG, rich_help_panel=ZOO)(warm)


def warm(
    trace: Annotated[
        Path, typer.Argument(metavar="TRACE", help="The trace, a Parquet file. Its models are matched by name.")
    ],
    overwrite: Annotated[
        bool,
        option("--overwrite", "Allow it after the first request; what was learned so far is lost.", POLICY),
    ] = False,
    zoo: ZooOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the router learn from a trace before it serves. Requests and debt do not change."""
    from messctl.live.warm_start import learn_from
    from messctl.trace import TraceFile

    with open_router(zoo, state) as routing, spinner("reading") as tell:
        if not overwrite:
            routing.check_unused()  # an error comes before the work
        opened = TraceFile(trace)
        learned = learn_from(
            opened,
            routing.zoo,
            routing.settings,
            lambda rows: tell(f"learned from {rows:,} requests"),
            routing.encoder,
        )
        routing.start_from(learned.snapshot, overwrite=overwrite)
        costs_kept = learned.snapshot.cost_source == routing.cost_source
        policy, new = routing.settings.policy, [model for model in routing.zoo.models if model not in learned.models]
    if as_json:
        print_json(
            {
                "trace": str(trace),
                "policy": policy,
                "requests": learned.requests,
                "left_out": learned.left_out,
                "models": list(learned.models),
                "new_models": new,
                "costs_kept": costs_kept,
            }
        )
        return
    left_out = f" ({learned.left_out:,} left out)" if learned.left_out else ""
    print_line(f"{policy} learned from {counted(learned.requests, 'request')}{left_out}: {', '.join(learned.models)}")
    if new:
        print_line(f"not in the trace, so nothing is known of: {', '.join(new)}")
    if not costs_kept:
        print_line(f"the trace's costs are {learned.snapshot.cost_source}, unlike here; costs are learned anew")
