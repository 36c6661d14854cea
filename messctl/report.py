"""Reports of a replay: a table for people, JSON and CSV for machines."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from messctl.replay import Replay, Result
from messctl.terminal import plain
from messctl.zoo import Settings

BAR_CELLS = 12
LONGEST_NAME = 40
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
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
    recording = replay.recording
    return {
        "trace": {
            "path": str(recording.path),
            "requests": len(recording.rounds),
            "models": list(recording.rounds.zoo.models),
            "cost_unit": recording.cost_unit,
            "reference": recording.rounds.zoo.reference,
            "left_out": recording.left_out,
        },
        "alpha": replay.settings.alpha,
        "seed": replay.settings.seed,
        **asdict(replay.conditions),
        "judged": replay.judged.policy,
        "results": [asdict(result) for result in replay.results],
    }


def as_csv(replay: Replay) -> str:
    """Return one line per policy, under a header; the share of each model is a column `model_share/<model>`."""
    rows = []
    for result in replay.results:
        row = asdict(result)
        shares = row.pop("model_share")
        rows.append(row | {f"model_share/{model}": share for model, share in shares.items()})
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def table(replay: Replay) -> RenderableType:
    """Return the table of a replay, with what was asked above it and a legend of the models below."""
    unit = plain(replay.recording.cost_unit)
    grid = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    grid.add_column("policy", no_wrap=True)
    for heading in ("attained", "SLA", f"{unit}/request", "÷ costliest", "÷ static-mix", "explored"):
        grid.add_column(heading, justify="right", no_wrap=True)
    grid.add_column("served by", no_wrap=True)
    for heading in ("queue", "certificate"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for result in replay.results:
        judged = result.policy == replay.judged.policy
        grid.add_row(
            _policy(result),
            _spread(_number(result.attained, ".4f"), result.attained_spread, ".4f"),
            Text("met", "green") if result.sla_met else Text("missed", "red"),
            _spread(f"{result.mean_cost:.4g}", result.mean_cost_spread, ".1g"),
            _number(result.cost_vs_costliest, ".3f"),
            _number(result.cost_vs_static_mix, ".3f"),
            f"{result.explored:.1%}" if result.explored else "",
            _bar(result),
            f"{result.queue_final:.1f}",
            _number(result.certificate, ".4f"),
            style="bold" if judged else "",
        )
    return Group(_heading(replay), Text(), grid, Text(), _legend(replay))


def verdict(replay: Replay) -> str:
    """Return one sentence on the judged policy."""
    result = replay.judged
    kept = "keeps" if result.sla_met else "misses"
    attained = _number(result.attained, ".4f")
    return f"{plain(result.policy)} {kept} the promise: attained {attained} of α = {replay.settings.alpha:g}"


def _heading(replay: Replay) -> Text:
    recording, conditions = replay.recording, replay.conditions
    lines = [
        f"{plain(str(recording.path))}: {len(recording.rounds):,} requests, {len(recording.rounds.zoo.models)} models"
    ]
    if recording.left_out:
        lines[0] += f" ({recording.left_out:,} rows left out: an outcome is missing)"
    asked = f"α = {replay.settings.alpha:g}, seed {replay.settings.seed}"
    if conditions.seeds > 1:
        asked += f" to {replay.settings.seed + conditions.seeds - 1} (means ± standard deviation)"
    if conditions.shuffle:
        asked += ", shuffled"
    if conditions.feedback_rate < 1 or conditions.feedback_delay:
        asked += f", feedback on {conditions.feedback_rate:.0%} after {conditions.feedback_delay} requests"
    lines.append(asked)
    learner = next((result for result in replay.results if result.v_per_cost_unit), None)
    if learner:
        lines.append(_weights(replay.settings, learner, plain(recording.cost_unit)))
    return Text("\n".join(lines))


def _weights(settings: Settings, learner: Result, unit: str) -> str:
    divisor = "the costliest model's running mean" if settings.cost_scale is None else f"{settings.cost_scale:g} {unit}"
    raw = f"{learner.v_per_cost_unit:.4g}"
    return f"V = {settings.v:g} on costs divided by {divisor}, or {raw} on raw {unit}; c = {settings.c:g}"


def _policy(result: Result) -> Text:
    name = plain(result.policy)
    if len(name) > LONGEST_NAME:  # names differ at their ends as often as at their beginnings
        name = f"{name[: LONGEST_NAME // 2]}…{name[-(LONGEST_NAME // 2 - 1) :]}"
    return Text(name)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _spread(value: str, spread: float | None, form: str) -> str:
    return value if spread is None else f"{value} ± {spread:{form}}"


def _bar(result: Result) -> Text:
    """Draw the shares as a run of letters, one letter per model, largest remainders rounded up."""
    shares = list(result.model_share.values())
    cells = [int(share * BAR_CELLS) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda index: cells[index] - shares[index] * BAR_CELLS)
    for index in by_remainder[: BAR_CELLS - sum(cells)]:
        cells[index] += 1
    bar = Text()
    for index, count in enumerate(cells):
        bar.append(LETTERS[index % len(LETTERS)] * count, COLOURS[index % len(COLOURS)])
    return bar


def _legend(replay: Replay) -> Text:
    rounds, unit = replay.recording.rounds, plain(replay.recording.cost_unit)
    legend = Text()
    for index, model in enumerate(rounds.zoo.models):
        satisfied, cost = rounds.satisfied[:, index].mean(), rounds.cost[:, index].mean()
        mark = ", the reference" if model == rounds.zoo.reference else ""
        legend.append(LETTERS[index % len(LETTERS)], COLOURS[index % len(COLOURS)])
        legend.append(f"  {plain(model)}: satisfies {satisfied:.4f} at {cost:.4g} {unit}{mark}\n")
    legend.append(verdict(replay), "bold green" if replay.judged.sla_met else "bold red")
    return legend
