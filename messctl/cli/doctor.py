"""`messctl doctor`: check that this machine has all that messctl needs, and say what to do if not."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict

import typer

from messctl.cli.arguments import JsonOption, StateOption, ZooOption
from messctl.cli.command import ZOO, Command
from messctl.cli.opening import state_of, warn_of_foreign_zoo, warn_of_shared_state
from messctl.cli.output import print_json, print_line
from messctl.errors import MessctlError

MARKS = {"ok": "✓", "warning": "!", "broken": "✗"}
EPILOG = "Example: messctl doctor --zoo zoo.yaml"


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("doctor", cls=Command, epilog=EPILOG, rich_help_panel=ZOO)(doctor)


def doctor(zoo: ZooOption = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Check llama.cpp, the energy counters, the zoo and the state. Exit 2 if one of them is broken."""
    from messctl.doctor.findings import examine
    from messctl.state.store import default_path

    warn_of_foreign_zoo(zoo)
    with suppress(MessctlError):  # what is wrong with the zoo, or a user without a home folder, is a finding
        state = state_of(state, zoo)
        warn_of_shared_state(state or default_path())
    findings = list(examine(zoo, state))
    broken = any(finding.status == "broken" for finding in findings)
    if as_json:
        print_json({"usable": not broken, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            remedy = f"; {finding.remedy}" if finding.remedy else ""
            print_line(f"{MARKS[finding.status]} {finding.subject}: {finding.text}{remedy}")
    if broken:
        raise typer.Exit(2)
