"""`messctl log`: the newest requests."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from messctl.cli.answer import remarks
from messctl.cli.arguments import OUTPUT, JsonOption, StateOption, ZooOption, in_range, option, valid_utf8
from messctl.cli.command import ASK, Command
from messctl.cli.opening import open_state, warn_of_foreign_zoo
from messctl.cli.output import console, print_json
from messctl.display.text import clipped, plain

if TYPE_CHECKING:
    from rich.table import Table

    from messctl.state.request_log import LoggedRequest

LONGEST_TEXT = 60
"""The longest prompt or answer in the table, in characters; `--json` has all of it."""
MOST_ROWS = 2**31
"""The largest --count; SQLite takes no larger numbers than its own."""


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("log", cls=Command, rich_help_panel=ASK, epilog="Example: messctl log -n 20")(log)


def log(
    count: Annotated[
        int,
        option("-n --count", "The number of requests to list.", OUTPUT, metavar="N", callback=in_range(1, MOST_ROWS)),
    ] = 10,
    before: Annotated[
        str | None,
        option("--before", "List those before the request with this id, or its start.", OUTPUT, metavar="TEXT"),
    ] = None,
    as_json: JsonOption = False,
    zoo: ZooOption = None,
    state: StateOption = None,
) -> None:
    """List the newest requests, the newest last."""
    from messctl.display.tables import fitting

    if state is None:
        warn_of_foreign_zoo(zoo)
    with open_state(state, zoo) as store:
        logged = list(store.requests.newest(count, None if before is None else valid_utf8(before)))
    if as_json:
        print_json([_document(each) for each in logged])
        return
    screen = console()
    screen.print(fitting(_table(logged), screen.width, folding=("prompt", "answer"), least_first=("asked",)))


def _document(logged: LoggedRequest) -> dict[str, Any]:
    return {
        "request_id": logged.decision.request.request_id,
        "asked_at": logged.asked_at.isoformat(),
        "prompt": logged.decision.request.prompt,
        "model": logged.decision.served,
        "asked": list(logged.asked),
        "explored": logged.decision.explored,
        "forced": logged.circumstances.forced,
        "lost": dict(logged.lost),
        "satisfied": logged.satisfied,
        "cost_unit": logged.circumstances.cost_unit,
        "answers": {model: asdict(outcome) for model, outcome in logged.answers.items()},
        "empty": {model: asdict(outcome) for model, outcome in logged.empty.items()},
    }


def _table(logged: list[LoggedRequest]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for heading in ("id", "asked", "model", "", "satisfied", "prompt", "answer"):
        table.add_column(heading)
    for each in logged:
        answer = each.answers.get(each.decision.served)
        table.add_row(
            each.decision.request.request_id,
            f"{each.asked_at.astimezone():%Y-%m-%d %H:%M:%S}",
            Text(_model(each)),
            _marks(each),
            "" if each.satisfied is None else f"{each.satisfied:g}",
            Text(_line(each.decision.request.prompt)),
            Text(_line(answer.answer or "") if answer else "(empty)" if each.empty else "(none)"),
        )
    return table


def _model(each: LoggedRequest) -> str:
    """Return the model that served, and how many were asked if those were several."""
    served, asked = plain(each.decision.served), len(each.asked)
    return f"{served} ({asked} asked)" if asked > 1 and not each.decision.explored else served


def _marks(each: LoggedRequest) -> str:
    marks = {
        "forced": each.circumstances.forced,
        "explored": each.decision.explored,
        "rerouted": each.rerouted,
    }
    ended = each.answers.get(each.decision.served) or each.empty.get(each.decision.served)
    endings = remarks(ended.answer or "", ended.finish) if ended else []
    return ", ".join([*(mark for mark, applies in marks.items() if applies), *endings])


def _line(text: str) -> str:
    return clipped(plain(" ".join(text[: 4 * LONGEST_TEXT].split())), LONGEST_TEXT)
