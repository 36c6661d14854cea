"""`messctl reset`: forget all requests, and what was learned from them."""

from __future__ import annotations

from typing import Annotated

import typer

from messctl.cli.arguments import REQUESTS, JsonOption, StateOption, ZooOption, option
from messctl.cli.command import ASK, Command
from messctl.cli.opening import history_path, state_path, warn_of_foreign_zoo, warn_of_shared_state
from messctl.cli.output import confirmed, print_json, print_line
from messctl.display.text import counted
from messctl.state.place import refuse_foreign_link

NO_TERMINAL = "reset asks for confirmation, but standard input is not a terminal; give --yes"


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("reset", cls=Command, rich_help_panel=ASK, epilog="Example: messctl reset --yes")(reset)


def reset(
    yes: Annotated[bool, option("--yes -y", "Do not ask for confirmation.", REQUESTS)] = False,
    as_json: JsonOption = False,
    zoo: ZooOption = None,
    state: StateOption = None,
) -> None:
    """Forget all requests and feedback, and what was learned from them."""
    from messctl.state.databases import is_there
    from messctl.state.store import Store

    if state is None:
        warn_of_foreign_zoo(zoo)
    path = state_path(state, zoo)
    refuse_foreign_link(path)
    with Store(path, begun=True, looking=not is_there(path)) as store:
        warn_of_shared_state(path)
        requests = store.requests.count()
        if not yes and not confirmed(
            f"Forget {counted(requests, 'request')} and all that was learned, in {path}?", NO_TERMINAL
        ):
            requests = 0
        else:
            store.reset()
            history_path(path).unlink(missing_ok=True)
    if as_json:
        print_json({"state": str(path), "forgotten": requests})
    else:
        print_line(f"{path}: forgot {counted(requests, 'request')}")
