"""`messctl status`, `log`, `export` and `reset`: look at the live state, take it out, forget it."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from messctl.cli.arguments import console, heard_or_not, print_json
from messctl.cli.session import JsonOption, StateOption, ZooOption, chat_history, look, place_of, put_question
from messctl.display.text import counted, plain
from messctl.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from messctl.state.ledger import Ledger
    from messctl.state.outages import Lost, Refused
    from messctl.state.request_log import LoggedRequest
    from messctl.zoo import Settings

LONGEST_TEXT = 60
MOST_ROWS = 2**31
"""So many requests no state holds; SQLite takes no number without a bound."""


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    app.command("status", epilog="Example: messctl status --require-sla")(status)
    app.command("log", epilog="Example: messctl log -n 20")(log)
    app.command("export", epilog="Example: messctl export -o live.parquet")(export)
    app.command("reset", epilog="Example: messctl reset --yes")(reset)


def status(
    require_sla: Annotated[
        bool, typer.Option("--require-sla", help="Exit 1 unless the attainment so far reaches α.")
    ] = False,
    as_json: JsonOption = False,
    zoo: ZooOption = None,
    state: StateOption = None,
) -> int:
    """Where the promise stands: attainment, debt, certificate, spending, share per model, pending feedback."""
    from messctl.state.ledger import Ledger
    from messctl.zoo import load_zoo

    settings = load_zoo(zoo).settings
    with look(state) as store:
        ledger = Ledger.of(store)
        path = store.path
    document = status_document(ledger, settings, path)
    with heard_or_not():
        if as_json:
            print_json(document)
        else:
            console().print(status_table(ledger, settings, path))
    return 1 if require_sla and not document["sla_met"] else 0


def status_document(ledger: Ledger, settings: Settings, path: Path) -> dict[str, Any]:
    """Return where the promise stands, for a machine."""
    attained = ledger.standing.attained
    met = None if attained is None else attained >= settings.alpha - 1e-9
    return {"state": str(path), "alpha": settings.alpha, "sla_met": met, **asdict(ledger)}


def status_table(ledger: Ledger, settings: Settings, path: Path) -> Table:
    """Return where the promise stands, for people."""
    from rich.table import Table
    from rich.text import Text

    standing = ledger.standing
    lines: list[tuple[str, str]] = [
        ("state", str(path)),
        ("promise", f"α = {settings.alpha:g}, kept by {settings.policy}"),
    ]
    if standing.attained is not None and ledger.interval and standing.certificate is not None:
        low, high = ledger.interval
        lines += [
            ("attained", f"{standing.attained:.4f} over {standing.judged:,} judged (95 %: {low:.4f} to {high:.4f})"),
            ("queue", f"{standing.queue:.3f}"),
            ("certificate", f"at least {standing.certificate:.4f} for certain"),
        ]
    else:
        lines.append(("attained", "nothing judged yet"))
    lines.append(
        (
            "requests",
            f"{ledger.answered:,} answered, {ledger.pending:,} awaiting feedback, {ledger.unanswered:,} unanswered",
        )
    )
    if ledger.answered:
        if ledger.explored:
            lines.append(("explored", f"{ledger.explored:,}"))
        if ledger.forced:
            lines.append(("forced", f"{ledger.forced:,}, by the user's choice of a model"))
        lines += [
            ("spent", _spent(ledger)),
            ("costs from", "; ".join(ledger.meters)),
        ]
        lines += [(f"served by {model}", f"{share:.1%}") for model, share in ledger.model_share.items()]
    lines += [(f"lost by {model}", _lost(lost)) for model, lost in ledger.lost.items()]
    lines += [(f"refused by {model}", _refused(refused)) for model, refused in ledger.refused.items()]
    table = Table(box=None, show_header=False, padding=(0, 1), pad_edge=False)
    for name, value in lines:
        table.add_row(Text(plain(name), "bold"), Text(plain(value)))
    return table


def _lost(lost: Lost) -> str:
    attempts = counted(lost.attempts, "attempt")
    if lost.again_at is None:
        return f"{attempts}, and is in use; the last: {lost.reason}"
    return f"{attempts}, tried again {_when(lost.again_at)}; the last: {lost.reason}"


def _refused(refused: Refused) -> str:
    return f"{counted(refused.prompts, 'prompt')}; the last: {refused.reason}"


def _when(at: float) -> str:
    left = at - time.time()
    return "by the next request" if left <= 0 else f"in {left:.0f} s"


def _spent(ledger: Ledger) -> str:
    if ledger.cost_total is None:
        return f"costs are in {ledger.cost_unit}, and are not added up; give each zoo a --state of its own"
    versus = "" if ledger.cost_vs_costliest is None else f", {ledger.cost_vs_costliest:.3f} of always the costliest"
    return f"{ledger.cost_total:.4g} {ledger.cost_unit}{versus}"


def log(
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=MOST_ROWS, help="How many of the newest.")] = 10,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """List the newest requests, oldest first."""
    from rich.table import Table
    from rich.text import Text

    from messctl.display.tables import fitting

    with look(state) as store:
        logged = list(store.newest(count))
    if as_json:
        print_json(
            [
                {
                    "request_id": each.decision.request.request_id,
                    "asked_at": each.asked_at.isoformat(),
                    "prompt": each.decision.request.prompt,
                    "model": each.decision.served,
                    "explored": each.decision.explored,
                    "forced": each.circumstances.forced,
                    "lost": dict(each.lost),
                    "satisfied": each.satisfied,
                    "cost_unit": each.circumstances.cost_unit,
                    "answers": {model: asdict(outcome) for model, outcome in each.answers.items()},
                }
                for each in logged
            ]
        )
        return
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for heading in ("id", "asked", "model", "", "satisfied", "prompt", "answer"):
        table.add_column(heading)
    for each in logged:
        answer = each.answers.get(each.decision.served)
        table.add_row(
            each.decision.request.request_id,
            f"{each.asked_at.astimezone():%Y-%m-%d %H:%M:%S}",
            Text(plain(each.decision.served)),
            _marks(each),
            "" if each.satisfied is None else f"{each.satisfied:g}",
            Text(_short(each.decision.request.prompt)),
            Text(_short(answer.answer or "") if answer else "(none)"),
        )
    screen = console()
    screen.print(fitting(table, screen.width, folding=("prompt", "answer"), least_first=("asked",)))


def _marks(each: LoggedRequest) -> str:
    marks = {
        "forced": each.circumstances.forced,
        "explored": each.decision.explored,
        "rerouted": each.rerouted,
    }
    return ", ".join(mark for mark, there in marks.items() if there)


def _short(text: str) -> str:
    shown = plain(" ".join(text[: 4 * LONGEST_TEXT].split()))
    return shown if len(shown) <= LONGEST_TEXT else shown[: LONGEST_TEXT - 1] + "…"


def export(
    output: Annotated[Path, typer.Option("-o", "--output", help="The trace to write, a Parquet file.")],
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Write the live log as a trace; `messctl replay TRACE --policy logged` and `messctl evaluate` read it.

    A trace that is there already is replaced.
    """
    from messctl.outputs import check_distinct
    from messctl.state.database import files
    from messctl.state.export import export as write

    with look(state, needed=True) as store:
        check_distinct([output], [*files(store.path), chat_history(store.path)])
        rows = write(store, output)
    if as_json:
        print_json({"output": str(output), "rows": rows})
    else:
        typer.echo(plain(f"{output}: {counted(rows, 'request')}"))


def reset(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Forget all requests, feedback, and what was learned from them."""
    from messctl.state.store import Store

    path = place_of(state)
    with Store(path, looking=not path.exists()) as store:
        requests = sum(1 for _ in store.requests())
        if not yes and not _agreed(
            f"Forget {counted(requests, 'request')} and all that was learned, in {path}? [y/N] "
        ):
            requests = 0
        else:
            store.reset()
            chat_history(path).unlink(missing_ok=True)
    if as_json:
        print_json({"state": str(path), "forgotten": requests})
    else:
        typer.echo(plain(f"{path}: forgot {counted(requests, 'request')}"))


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("reset asks first, and standard input is no terminal; give --yes")
    return put_question(question) in ("y", "yes")
