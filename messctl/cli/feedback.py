"""`messctl feedback`: say later whether an answer was good."""

from __future__ import annotations

from typing import Annotated

import typer

from messctl.cli.arguments import JsonOption, StateOption, ZooOption, valid_utf8
from messctl.cli.command import ASK, Command
from messctl.cli.opening import open_router, state_path
from messctl.cli.output import print_json, print_line
from messctl.errors import UsageError

EPILOG = "Example: messctl feedback good"
WORDS = {"good": 1.0, "y": 1.0, "yes": 1.0, "bad": 0.0, "n": 0.0, "no": 0.0}
"""What a user may say of an answer, and the satisfaction that it means."""


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("feedback", cls=Command, epilog=EPILOG, rich_help_panel=ASK)(feedback)


def feedback(
    first: Annotated[
        str | None,
        typer.Argument(metavar="ID|last", help="The request's id, or its start. Default: the last request."),
    ] = None,
    second: Annotated[
        str | None, typer.Argument(metavar="good|bad|0..1", help="The feedback; 0 is bad, 1 is good.")
    ] = None,
    zoo: ZooOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether an answer was good. New feedback on the same answer replaces the old."""
    from messctl.state.place import exists

    if first is None:
        raise UsageError("no feedback; give good, bad, or a number in 0..1: messctl feedback good")
    request_id, given = (first, second) if second is not None else ("last", first)
    satisfied = _satisfied(given)
    if not request_id:
        raise UsageError("the request's id is empty; `messctl log` lists them")
    path = state_path(state, zoo, required=True)
    with open_router(zoo, path, log=exists(path)) as routing:
        logged, corrected = routing.feedback(valid_utf8(request_id), satisfied)
        standing = routing.standing()
    decision = logged.decision
    if as_json:
        print_json(
            {
                "request_id": decision.request.request_id,
                "model": decision.served,
                "satisfied": satisfied,
                "corrected": corrected,
                "attained": standing.attained,
                "judged": standing.judged,
                "queue": standing.queue,
                "certificate": standing.certificate,
            }
        )
        return
    was = "" if corrected is None else f", corrected from {corrected:g}"
    print_line(
        f"{decision.request.request_id} ({decision.served}): {satisfied:g}{was}; "
        f"attained {standing.attained:.4f} over {standing.judged}, virtual queue (debt) {standing.queue:.3f}"
    )


def _satisfied(text: str) -> float:
    try:
        return WORDS[text] if text in WORDS else float(text)
    except ValueError:
        raise UsageError(f"feedback is {text!r}; it must be good, bad, or a number in 0..1") from None
