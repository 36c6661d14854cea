"""`messctl warm`: have the router start from what a trace teaches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from messctl.cli.arguments import JsonOption, StateOption, ZooOption
from messctl.cli.opening import open_router
from messctl.cli.output import print_json, progress_console
from messctl.display.text import counted, plain

EPILOG = "Example: messctl warm recorded.parquet"


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("warm", epilog=EPILOG)(warm)


def warm(
    trace: Annotated[Path, typer.Argument(help="The trace, a Parquet file, of models that the zoo has.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Also where there are requests: forget what was learned from them.")
    ] = False,
    as_json: JsonOption = False,
    zoo: ZooOption = None,
    state: StateOption = None,
) -> None:
    """Have the router's policy learn from a trace before it serves. Requests and debt stay as they are."""
    from messctl.live.warm_start import learn_from
    from messctl.trace import TraceFile

    with open_router(zoo, state) as routing, progress_console().status("reading") as status:
        if not overwrite:
            routing.check_unused()  # learning takes its time
        opened = TraceFile(trace)
        learned = learn_from(
            opened,
            routing.zoo,
            routing.settings,
            lambda rows: status.update(f"learned from {rows:,} requests"),
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
    typer.echo(
        plain(f"{policy} learned from {counted(learned.requests, 'request')}{left_out}: {', '.join(learned.models)}")
    )
    if new:
        typer.echo(plain(f"not in the trace, and so unknown: {', '.join(new)}"))
    if not costs_kept:
        typer.echo(plain(f"costs there are {learned.snapshot.cost_source}; here they are learned anew"))
