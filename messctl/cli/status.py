"""`messctl status`: whether the promise is kept, what it cost, and which models answered."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from messctl.cli.arguments import OUTPUT, PROMISE, DarkOption, JsonOption, StateOption, ZooOption, option
from messctl.cli.command import ASK, Command
from messctl.cli.opening import open_state, open_zoo
from messctl.cli.output import console, ignore_closed_output, print_json, shows_charts, warn
from messctl.display.text import counted, moment, plain
from messctl.errors import BackendError, MissingExtraError

if TYPE_CHECKING:
    from messctl.state.ledger import Ledger
    from messctl.state.outages import LostAttempts, RefusedPrompts
    from messctl.state.place import Place
    from messctl.state.store import Store
    from messctl.zoo import CostPerToken, Settings, ZooFile

CHARTED = 960
"""The number of newest feedbacks in the small charts."""
CHART_CELLS = 48
"""The width of a small chart, in characters."""
LEAST_BESIDE = 0.05
"""A small chart of attainment reaches at least this far below and above α."""


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("status", cls=Command, rich_help_panel=ASK, epilog="Example: messctl status --require-sla")(status)


def status(
    require_sla: Annotated[
        bool,
        option("--require-sla", "Exit 1 unless the attainment has reached α.", PROMISE),
    ] = False,
    as_json: JsonOption = False,
    plot: Annotated[
        Path | None,
        option("--plot", "Draw attainment, models and costs over the log, as .png or .svg.", OUTPUT, metavar="FILE"),
    ] = None,
    dark: DarkOption = False,
    zoo: ZooOption = None,
    state: StateOption = None,
) -> int:
    """Show whether the promise is kept, what it cost, and which models answered."""
    from messctl.state.ledger import Ledger

    zoo_file = open_zoo(zoo)
    settings = zoo_file.settings
    screen = console()
    with open_state(state, zoo) as store:
        ledger, path = Ledger.of(store, _prices(zoo_file)), store.path
        course = [] if as_json or not shows_charts(screen) else store.requests.judgements.recent(CHARTED)
        if plot:
            _draw(store, settings, plot, dark=dark)
    document = status_document(ledger, settings, path)
    with ignore_closed_output():
        if as_json:
            print_json(document)
        else:
            print_status(ledger, settings, path, course)
    return 1 if require_sla and not document["sla_met"] else 0


def _draw(store: Store, settings: Settings, plot: Path, *, dark: bool) -> None:
    """Draw the state. Raises UsageError, MissingExtraError or OutputError."""
    from messctl.display.plotting import check_format, look_of
    from messctl.outputs import check_writable
    from messctl.state.plot import write_plot

    check_format(plot)
    check_writable(plot)
    write_plot(store.course(), settings.alpha, plot, warn, look_of(dark=dark))


def _prices(zoo_file: ZooFile) -> dict[str, CostPerToken]:
    """Return the prices of the models; none if the zoo's meter is not on this machine."""
    from messctl.costs.meter import prices_of
    from messctl.costs.meter_choice import meter_for

    try:
        return prices_of(zoo_file.models, meter_for(zoo_file))
    except (BackendError, MissingExtraError):
        return {}


def status_document(ledger: Ledger, settings: Settings, path: Place) -> dict[str, Any]:
    """Return the status as a JSON document."""
    return {
        "state": str(path),
        "alpha": settings.alpha,
        "sla_met": ledger.standing.meets(settings.alpha),
        **asdict(ledger),
    }


def print_status(ledger: Ledger, settings: Settings, path: Place, course: Sequence[tuple[float, float]] = ()) -> None:
    """Print the status as names and values; with small charts if there is a `course`, of satisfaction and debt."""
    from messctl.display.tables import Named, named

    lines = [("state", str(path)), *_promise(ledger, settings), *_charts(course, settings.alpha)]
    lines += [*_requests(ledger), *_failures(ledger), *_pruned(ledger)]
    screen = console()
    screen.print(named([Named(plain(name), plain(value)) for name, value in lines], screen.width))


def _promise(ledger: Ledger, settings: Settings) -> list[tuple[str, str]]:
    """Return the lines on the promise; each figure comes with what it means."""
    standing, met = ledger.standing, ledger.standing.meets(settings.alpha)
    verdict = {True: "kept: ", False: "broken: ", None: ""}[met]
    promise = (
        "promise",
        f"{verdict}α = {settings.alpha:g} is the least share of satisfying answers; policy {settings.policy}",
    )
    if standing.attained is None or not ledger.interval or standing.certificate is None:
        return [promise, ("attained", "no feedback yet")]
    low, high = ledger.interval
    return [
        promise,
        ("attained", f"{standing.attained:.4f} over {standing.judged:,} with feedback (95 %: {low:.4f} to {high:.4f})"),
        ("virtual queue (debt)", f"{standing.queue:.3f}: at most this many satisfying answers are missing from α"),
        ("certificate", f"{standing.certificate:.4f}: at least this share was attained, for certain"),
    ]


def _charts(course: Sequence[tuple[float, float]], alpha: float) -> list[tuple[str, str]]:
    """Return a line on the attainment in windows, around α, and one on the debt; nothing if there is too little."""
    from messctl.display.sparkline import BARS, sparkline, windowed

    if len(course) < len(BARS):
        return []
    attained = windowed([satisfied for satisfied, _ in course], CHART_CELLS)
    debt = windowed([queue for _, queue in course], CHART_CELLS)
    beside, most = max(LEAST_BESIDE, *(abs(each - alpha) for each in attained)), max(debt)
    newest = f"the newest {len(course):,} with feedback, {min(attained):.2f} to {max(attained):.2f}"
    return [
        (
            "lately attained",
            f"{sparkline(attained, alpha - beside, alpha + beside)}  {newest}",
        ),
        ("lately owed", f"{sparkline(debt, 0.0, most)}  up to {most:.1f}"),
    ]


def _requests(ledger: Ledger) -> list[tuple[str, str]]:
    """Return the lines on the requests, their costs, and the models that served them."""
    lines = [
        (
            "requests",
            f"{ledger.answered:,} answered, {ledger.pending:,} with pending feedback, {ledger.unanswered:,} unanswered",
        )
    ]
    if not ledger.answered and not ledger.cost_total:
        return lines
    if ledger.explored:
        lines.append(("explored", f"{counted(ledger.explored, 'request')}: every model answered, to learn"))
    if ledger.forced:
        lines.append(("forced", f"{counted(ledger.forced, 'request')}: the user chose the model"))
    if (ledger.asks or 0.0) > 1.0:
        lines.append(("asked", f"{ledger.asks:.2f} models per request"))
    lines += [("spent", _spent(ledger)), ("costs from", "; ".join(ledger.meters))]
    return lines + [(f"served by {model}", f"{share:.1%}") for model, share in ledger.model_share.items()]


def _spent(ledger: Ledger) -> str:
    if ledger.cost_total is None:
        return f"costs are in {ledger.cost_unit}, and are not added up; give each zoo its own --state"
    spent = f"{ledger.cost_total:.4g} {ledger.cost_unit}"
    if ledger.cost_vs_costliest is None:
        return spent
    return f"{spent}, {ledger.cost_vs_costliest:.3f} of what {ledger.costliest} alone would cost for the same tokens"


def _failures(ledger: Ledger) -> list[tuple[str, str]]:
    """Return the lines on what models lost or refused."""
    return [
        *((f"lost by {model}", _lost(lost)) for model, lost in ledger.lost.items()),
        *((f"refused by {model}", _refused(refused)) for model, refused in ledger.refused.items()),
    ]


def _pruned(ledger: Ledger) -> list[tuple[str, str]]:
    """Return the line on the requests that are not in the log any more."""
    if ledger.pruned is None:
        return []
    gone = f"{counted(ledger.pruned.requests, 'request')} from before {moment(ledger.pruned.until)}"
    text = f"{gone} left the log; they count in all figures above"
    if ledger.pruned.pending:
        text += f"; {ledger.pruned.pending:,} can get no feedback now"
    return [("pruned", text)]


def _lost(lost: LostAttempts) -> str:
    attempts = counted(lost.attempts, "attempt")
    if lost.again_at is None:
        return f"{attempts}; the model is in use again; the last error: {lost.reason}"
    return f"{attempts}; the model is tried again {_when(lost.again_at)}; the last error: {lost.reason}"


def _refused(refused: RefusedPrompts) -> str:
    return f"{counted(refused.prompts, 'prompt')}; the last reason: {refused.reason}"


def _when(at: float) -> str:
    left = at - time.time()
    return "by the next request" if left <= 0 else f"in {left:.0f} s"
