"""Reports of a replay: a table for people, JSON and CSV for machines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from messctl.display.sparkline import sparkline, windowed
from messctl.display.tables import csv_of, fitting
from messctl.display.text import counted, or_dash, plain
from messctl.policies import kind_of
from messctl.replay.alternative import breaks_even_after, cheaper_than_router, cheapest_single
from messctl.replay.holdout import Holdout
from messctl.replay.result import MET, Conditions, Replay, Result
from messctl.zoo import Settings

BAR_CELLS = 12
"""The width of the bar of shares, in characters."""
LONGEST_NAME = 40
CHART_CELLS = 12
"""The width of a small chart, in characters."""
BESIDE = 0.1
"""A small chart of attainment reaches this far below and above α."""
OVER_TIME, DEBT = "over time", "debt"
LEAST_FIRST = (
    DEBT,
    OVER_TIME,
    "certificate",
    "explored",
    "queue",
    "s/request",
    "asks",
    "÷ costliest",
    "served by",
    "÷ static-mix",
)
"""The columns that a narrow table leaves out, in this order."""
LETTERS = (
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    "ΓΔΘΛΞΠΣΦΨΩαβγδεζηθλμξπσφψωБДЖИЛЦЧШЩЭЮЯбджилцчшщэюя"  # only letters that do not look like a Latin one
)
OTHERS = "·"
"""The mark of every model beyond the letters."""
COLOURS = (
    "cyan",
    "magenta",
    "green",
    "yellow",
    "blue",
    "red",
    "bright_cyan",
    "bright_magenta",
    "bright_green",
)


def document(replay: Replay) -> dict[str, Any]:
    """Return the JSON document of a replay; its keys are stable."""
    facts, settings, holdout = replay.facts, replay.settings, replay.holdout
    alternative = cheaper_than_router(replay)
    return {
        "trace": {
            "path": str(facts.path),
            "requests": facts.requests,
            "models": list(facts.zoo.models),
            "cost_unit": facts.cost_unit,
            "reference": facts.zoo.reference,
            "left_out": facts.left_out,
        },
        "alpha": settings.alpha,
        "margin": settings.margin,
        "v": settings.v,
        "c": settings.c,
        "exponent": settings.exponent,
        "cost_scale": settings.cost_scale,
        "trial_budget": settings.trial_budget,
        "asks": settings.asks,
        "equal": settings.equal,
        "seed": settings.seed,
        **asdict(replay.conditions),
        "holdout": holdout and holdout.share,
        "holdout_by": holdout and holdout.by,
        "streamed": replay.streamed,
        "prompt_costs": replay.prompt_costs,
        "judged": replay.judged.policy,
        "alternative": alternative and asdict(alternative),
        "breaks_even_after": breaks_even_after(replay),
        "results": [asdict(result) for result in replay.results],
    }


def as_csv(replay: Replay) -> str:
    """Return CSV: a header, then one line per policy. The share of each model is a column `model_share/<model>`."""
    rows = []
    for result in replay.results:
        row = asdict(result)
        shares = row.pop("model_share")
        rows.append(row | {f"model_share/{model}": share for model, share in shares.items()})
    return csv_of(rows, rows[0])


def table(replay: Replay, width: int, *, charts: bool = False) -> RenderableType:
    """Return the table of a replay, with its conditions above it and a legend of the models below.

    If `width` (characters) is too small for all columns, the least important ones are left out. With `charts`, small
    ones show attainment, window by window, and debt, both from the first request to the last.
    """
    unit = plain(replay.facts.cost_unit)
    cells: dict[str, Callable[[Result], Text | str]] = {
        "policy": lambda result: _shortened(plain(result.policy)),
        "attained": lambda result: _spread(or_dash(result.attained, ".4f"), result.attained_spread, ".4f"),
        "SLA": _verdict,
        **({"kept in": lambda result: or_dash(result.met_share, ".0%")} if replay.conditions.seeds > 1 else {}),
        f"{unit}/request": lambda result: _spread(f"{result.mean_cost:.4g}", result.mean_cost_spread, ".1g"),
        "÷ costliest": lambda result: or_dash(result.cost_vs_costliest, ".3f"),
        "÷ static-mix": lambda result: or_dash(result.cost_vs_static_mix, ".3f"),
        "explored": lambda result: f"{result.explored:.1%}" if result.explored else "",
        **({"asks": lambda result: f"{result.asks:.2f}"} if replay.settings.asks > 1 else {}),
        **({"s/request": lambda result: or_dash(result.latency_s, ".3g")} if replay.settings.asks > 1 else {}),
        "served by": _bar,
        "queue": lambda result: f"{result.queue_final:.1f}",
        "certificate": lambda result: or_dash(result.certificate, ".4f"),
        **(_charts(replay) if charts else {}),
    }
    grid = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    for heading in cells:
        grid.add_column(heading, justify="left" if heading in ("policy", "served by") else "right")
    for result in replay.results:
        style = "bold" if result.policy == replay.judged.policy else ""
        grid.add_row(*(cell(result) for cell in cells.values()), style=style)
    return Group(
        _heading(replay),
        Text(),
        fitting(grid, width, folding=("policy",), least_first=LEAST_FIRST),
        Text(),
        _legend(replay),
    )


def _charts(replay: Replay) -> dict[str, Callable[[Result], Text | str]]:
    """Return the columns of small charts, of the first seed."""
    alpha, played = replay.settings.alpha, replay.played
    debts = {name: windowed(each.queue_after.tolist(), CHART_CELLS) for name, each in played.items()}
    most = max((max(debts[name], default=0.0) for name in debts if kind_of(name).learns), default=0.0)

    def attained(result: Result) -> str:
        windows = windowed(played[result.policy].satisfied.tolist(), CHART_CELLS) if result.policy in played else []
        return sparkline(windows, alpha - BESIDE, alpha + BESIDE)

    def debt(result: Result) -> str:
        return sparkline(debts.get(result.policy, []), 0.0, most) if kind_of(result.policy).learns else ""

    return {OVER_TIME: attained, DEBT: debt}


def _shortened(name: str) -> str:
    """Shorten a long name in the middle: names differ at their ends as often as at their beginnings."""
    if len(name) <= LONGEST_NAME:
        return name
    half = LONGEST_NAME // 2
    return f"{name[:half]}…{name[len(name) - (LONGEST_NAME - half - 1) :]}"


def verdict(replay: Replay) -> str:
    """Return one sentence: whether the judged policy keeps the promise."""
    result = replay.judged
    if result.sla_met is None:
        return f"{plain(result.policy)}: no answer has feedback, so it is unknown whether the promise is kept"
    verb = "keeps" if result.sla_met else "misses"
    attained = _compared(result.attained or 0.0, replay.settings.alpha)
    return f"{plain(result.policy)} {verb} the promise: attained {attained} of α = {replay.settings.alpha:.10g}"


def without_router(replay: Replay) -> str:
    """Return one sentence: what would have kept the promise for less, or when the router pays; "" for neither."""
    unit, name = plain(replay.facts.cost_unit), plain(replay.judged.policy)
    found = cheaper_than_router(replay)
    if found is not None:
        return f"{found.name} would have kept it for less: {found.mean_cost:.4g} {unit}/request"
    requests, single = breaks_even_after(replay), cheapest_single(replay.facts, replay.settings.alpha)
    if requests is None or single is None:
        return ""
    if not requests:
        return f"{name} costs less than {single.name} from the first request on"
    return f"{name} breaks even with {single.name} after {counted(requests, 'request')}"


def _compared(attained: float, alpha: float) -> str:
    """Return what was attained with enough digits, at least four, to show on which side of α it lies."""
    met = attained >= alpha - MET
    digits = next(digits for digits in range(4, 17) if (round(attained, digits) >= alpha - MET) is met)
    return f"{attained:.{digits}f}"


def _heading(replay: Replay) -> Text:
    facts, conditions = replay.facts, replay.conditions
    lines = [
        f"{plain(str(facts.path))}: {counted(facts.requests, 'request')}, {counted(len(facts.zoo.models), 'model')}"
    ]
    if facts.left_out:
        lines[0] += f" ({counted(facts.left_out, 'row')} left out: an outcome or a cost is missing)"
    if replay.holdout:
        lines.append(_held_out(replay.holdout, conditions))
    margin = f", margin {replay.settings.margin:g}" if replay.settings.margin else ""
    line = f"α = {replay.settings.alpha:g}{margin}, seed {replay.settings.seed}"
    if conditions.seeds > 1:
        line += f" to {replay.settings.seed + conditions.seeds - 1} (means ± standard deviation)"
    if conditions.shuffle:
        line += ", shuffled"
    if conditions.replicas > 1:
        line += f", {conditions.replicas} replicas"
    if conditions.feedback_rate < 1 or conditions.feedback_delay:
        line += f", feedback on {conditions.feedback_rate:.0%} after {conditions.feedback_delay} requests"
    if replay.prompt_costs:
        line += ", cost of reading each prompt known"
    lines.append(line)
    if replay.streamed:
        lines.append(
            "streamed: hindsight, clairvoyant and the check for repeated request ids are left out, "
            "because they need the whole trace at once"
        )
    if replay.settings.asks > 1:
        lines.append(_second_look(replay))
    learner = next((result for result in replay.results if result.v_per_cost_unit), None)
    if learner:
        lines.append(_weights(replay.settings, learner, plain(facts.cost_unit)))
    return Text("\n".join(lines))


def _second_look(replay: Replay) -> str:
    """Return how many models the bandit may ask, or that there is nothing to see."""
    asks = counted(replay.settings.asks, "model")
    if replay.rounds is None or replay.rounds.answers is None:
        return f"up to {asks} per request, but the trace has no answers to look at, so each request asks one"
    return f"the bandit may ask up to {asks} per request"


def _held_out(holdout: Holdout, conditions: Conditions) -> str:
    how = "the last to arrive" if holdout.by == "time" else "by a hash of their ids"
    if holdout.varies(conditions.shuffle):
        how += " under each seed; yardsticks count all requests"
    return f"held out: {100 * holdout.share:g}%, {how}"


def _weights(settings: Settings, learner: Result, unit: str) -> str:
    divisor = "the costliest model's running mean" if settings.cost_scale is None else f"{settings.cost_scale:g} {unit}"
    raw = f"{learner.v_per_cost_unit:.4g}"
    return f"V = {settings.weight:g} on costs divided by {divisor}, or {raw} on raw {unit}; c = {settings.c:g}"


def _verdict(result: Result) -> Text:
    if result.sla_met is None:
        return Text("–")
    return Text("met", "green") if result.sla_met else Text("missed", "red")


def _spread(value: str, spread: float | None, form: str) -> str:
    return value if spread is None else f"{value} ± {spread:{form}}"


def _bar(result: Result) -> Text:
    """Return the shares as a bar of letters, one letter per model; the largest remainders are rounded up."""
    shares = list(result.model_share.values())
    cells = [int(share * BAR_CELLS) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda index: cells[index] - shares[index] * BAR_CELLS)
    for index in by_remainder[: BAR_CELLS - sum(cells)]:
        cells[index] += 1
    bar = Text()
    for index, count in enumerate(cells):
        bar.append(_mark(index) * count, COLOURS[index % len(COLOURS)])
    return bar


def _mark(index: int) -> str:
    return LETTERS[index] if index < len(LETTERS) else OTHERS


def _legend(replay: Replay) -> Text:
    zoo, unit = replay.facts.zoo, plain(replay.facts.cost_unit)
    legend = Text()
    for index, model in enumerate(zoo.models):
        satisfied, cost = replay.facts.mean_satisfied[index], replay.facts.mean_cost[index]
        mark = ", the reference" if model == zoo.reference else ""
        legend.append(_mark(index), COLOURS[index % len(COLOURS)])
        legend.append(
            f"  {plain(model)}: satisfies {or_dash(satisfied, '.4f')} at {or_dash(cost, '.4g')} {unit}{mark}\n"
        )
    legend.append(verdict(replay), "bold green" if replay.judged.sla_met else "bold red")
    compared = without_router(replay)
    return legend.append(f"\n{compared}") if compared else legend
