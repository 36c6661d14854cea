"""Reports of a tuning: a table for people, JSON and CSV for machines."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from messctl.display.tables import fitting
from messctl.display.text import counted, plain
from messctl.replay.loading import Recording
from messctl.replay.play import MET, Result
from messctl.tune.choice import Choice, Level, Trial
from messctl.tune.command import exact, replay_command
from messctl.tune.search import Search
from messctl.tune.space import AUTO
from messctl.zoo import Settings

MOST_ROWS = 12
LEAST_FIRST = ("Q/n", "≥ (95 %)", "÷ static-mix", "to choose on")
SMALL = 0.01  # a shortfall for which somebody might want to allow slack
DEFAULT_EXPONENT = Settings().exponent
Yardsticks = Sequence[Sequence[Result]]
"""By trace."""


def document(
    found: Search, choices: Sequence[Choice], yardsticks: Sequence[Yardsticks], zoo: Path | None = None
) -> dict[str, Any]:
    """Return the JSON document of a tuning; its keys are stable. `yardsticks` are by choice, `zoo` the file named."""
    return {
        "traces": [
            {
                "path": str(trace.path),
                "requests": len(trace.rounds),
                "models": list(trace.rounds.zoo.models),
                "cost_unit": trace.cost_unit,
                "left_out": trace.left_out,
            }
            for trace in found.traces
        ],
        "policies": list(_policies(found)),
        "seed": found.settings[0].seed,
        **asdict(found.conditions),
        "holdout": asdict(found.holdout),
        "interrupted": found.interrupted,
        "choices": [
            {
                "alpha": choice.alpha,
                "seeds": choice.seeds,
                "met": choice.chosen is not None,
                "chosen": _trial(found, choice, choice.chosen, zoo) if choice.chosen else None,
                "closest": _trial(found, choice, choice.closest, zoo),
                "front": [_trial(found, choice, trial, zoo) for trial in choice.front],
                "yardsticks": [
                    {
                        "trace": str(trace.path),
                        "results": [
                            {key: getattr(result, key) for key in ("policy", "attained", "mean_cost", "model_share")}
                            for result in results
                        ],
                    }
                    for trace, results in zip(found.traces, marks, strict=True)
                ],
            }
            for choice, marks in zip(choices, yardsticks, strict=True)
        ],
    }


def as_csv(found: Search, choices: Sequence[Choice]) -> str:
    """Return one line per setting and trace, under a header."""
    rows = [
        {
            **_setting(trial),
            "trace": str(trace.path),
            "chosen": trial is choice.chosen,
            "front": trial in choice.front,
            "promised": trial.promised,
            "seeds": choice.seeds,
            "debt": trial.debt[at],
            **{f"worst/{name}": value for name, value in asdict(trial.worst[at]).items()},
            **{
                f"{part}/{name}": value for part, levels in _levels(trial) for name, value in asdict(levels[at]).items()
            },
        }
        for choice in choices
        for trial in choice.trials
        for at, trace in enumerate(found.traces)
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0] if rows else ["alpha"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def table(
    found: Search,
    choices: Sequence[Choice],
    yardsticks: Sequence[Yardsticks],
    width: int,
    zoo: Path | None = None,
) -> RenderableType:
    """Return, for every trace and α, the front with the chosen row marked, the yardsticks, and what follows.

    Where `width` (characters) does not hold all columns, those that matter least are left out. The commands are lines
    that may be wider: they are to be printed uncropped. `zoo` is the file named.
    """
    parts: list[RenderableType] = []
    if found.interrupted:
        seeds = f"{len(found.complete_seeds())} of {counted(found.conditions.seeds, 'seed')}"
        parts.append(Text(f"interrupted; what {seeds} tell:", "bold"))
    for at, trace in enumerate(found.traces):
        parts.append(_heading(found, trace))
        for choice, marks in zip(choices, yardsticks, strict=True):
            grid = _grid(found, choice, marks[at], at)
            name = str(grid.columns[0].header)
            parts += [Text(), fitting(grid, width, folding=(name,), least_first=LEAST_FIRST)]
    parts.append(Text())
    for choice, marks in zip(choices, yardsticks, strict=True):
        parts += verdict(found, choice, marks, zoo)
    return Group(*parts)


def verdict(found: Search, choice: Choice, marks: Yardsticks, zoo: Path | None = None) -> list[Text]:
    """Return the lines on what was chosen for one α and what it came to, or what can be had instead."""
    trial = choice.chosen
    if trial is None:
        return [Text(_beyond(found, choice), "bold red")]
    style = "bold green" if trial.kept_held_out and choice.seeds > 1 else "bold yellow"
    lines = [Text(f"α = {exact(choice.alpha)}: {_name(trial)}", style)]
    for at, trace in enumerate(found.traces):
        held_out, whole, unit = trial.held_out[at], trial.whole[at], plain(trace.cost_unit)
        below = choice.alpha - held_out.attained
        command = plain(replay_command(found, choice, trial, trace, zoo))
        short = _short(choice.alpha, below, marks[at]) if below > MET else ""
        lines += [
            Text(f"  held out: {_promised(held_out, unit)}{short}", style),
            Text(f"  all requests: {_promised(whole, unit)}, which is what this prints:", style),
            Text(f"  {command}", style, no_wrap=True, overflow="ignore"),  # it is to be pasted
        ]
    return lines


def _promised(level: Level, unit: str) -> str:
    attained = _spread(level.attained, level.attained_spread, ".4f")
    return f"attains {attained} for {_spread(level.cost, level.cost_spread, '.4g')} {unit}/request"


def _short(alpha: float, below: float, results: Sequence[Result]) -> str:
    """Say how far below α, and where not even the best model alone keeps the promise on what is held out."""
    best = max((result.attained or 0.0 for result in results if result.policy.startswith("always:")), default=1.0)
    alone = f"; the best model alone attains {best:.4f} there" if results and best < alpha else ""
    return f", {100 * below:.2f} points below α{alone}"


def _beyond(found: Search, choice: Choice) -> str:
    closest = choice.closest
    at = max(range(len(found.traces)), key=lambda at: closest.worst[at].below(choice.alpha))
    trace, level, worst = found.traces[at], closest.chosen_on[at], closest.worst[at]
    best, models = int(trace.mean_satisfied.argmax()), trace.rounds.zoo.models
    short = choice.alpha - closest.promised
    slack = f"; --slack {math.ceil(1e3 * short) / 1e3:g} would let it pass" if short <= SMALL else ""
    return (
        f"α = {exact(choice.alpha)}: no setting keeps it for sure; {closest.promised:.4f} can be promised{slack}.\n"
        f"  The closest, {_name(closest)}, attains {level.attained:.4f} on the requests to choose on,\n"
        f"  and in its worst window {worst.attained:.4f}, where the best model alone attains {worst.alone:.4f}.\n"
        f"  On all, the best model alone, {plain(models[best])}, attains {trace.mean_satisfied[best]:.4f}."
    )


def _heading(found: Search, trace: Recording) -> Text:
    n = len(trace.rounds)
    how = "the last to arrive" if found.holdout.by == "time" else "by a hash of their ids"
    conditions = found.conditions
    asked = f"{counted(len(found.settings), 'setting')} of {' and '.join(_policies(found))}"
    asked += f", {counted(conditions.seeds, 'seed')}"
    if conditions.shuffle:
        asked += ", shuffled"
    if conditions.feedback_rate < 1 or conditions.feedback_delay:
        asked += f", feedback on {conditions.feedback_rate:.0%} after {conditions.feedback_delay} requests"
    return Text(
        f"{plain(str(trace.path))}: {counted(n, 'request')}, {counted(len(trace.rounds.zoo.models), 'model')}; "
        f"held out: {found.holdout.share:.0%}, {how}\n{asked}"
    )


def _grid(found: Search, choice: Choice, marks: Sequence[Result], at: int) -> Table:
    unit = plain(found.traces[at].cost_unit)
    mix = next((result.mean_cost for result in marks if result.policy == "static-mix"), None)
    grid = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    headings = (
        f"α = {exact(choice.alpha)}",
        "to choose on",
        "≥ (95 %)",
        "held out",
        f"{unit}/request",
        "÷ static-mix",
        "Q/n",
    )
    for heading in headings:
        grid.add_column(heading, justify="left" if heading == headings[0] else "right")
    for trial in _shown(choice):
        level, held_out = trial.chosen_on[at], trial.held_out[at]
        chosen = trial is choice.chosen
        grid.add_row(
            f"{'→' if chosen else ' '} {_name(trial)}",
            _spread(level.attained, level.attained_spread, ".4f"),
            f"{level.attained_bound:.4f}",
            _spread(held_out.attained, held_out.attained_spread, ".4f"),
            _spread(held_out.cost, held_out.cost_spread, ".4g"),
            f"{held_out.cost / mix:.3f}" if mix else "–",
            f"{trial.debt[at]:.4f}",
            style="bold" if chosen else "",
        )
    for result in marks:
        grid.add_row(
            f"  {plain(result.policy)}",
            "",
            "",
            "–" if result.attained is None else f"{result.attained:.4f}",
            f"{result.mean_cost:.4g}",
            f"{result.mean_cost / mix:.3f}" if mix else "–",
            "",
            style="dim",
        )
    return grid


def _shown(choice: Choice) -> list[Trial]:
    """Return at most so many trials of the front, evenly, the chosen one among them."""
    front = list(choice.front)
    if len(front) <= MOST_ROWS:
        return front
    kept = {round(k * (len(front) - 1) / (MOST_ROWS - 1)) for k in range(MOST_ROWS)}
    if choice.chosen:
        at = front.index(choice.chosen)
        kept = (kept - {min(kept, key=lambda k: (abs(k - at), k))}) | {at}
    return [front[k] for k in sorted(kept)]


def _name(trial: Trial) -> str:
    settings = trial.settings
    parts = [settings.policy]
    if settings.policy == "messplus":
        parts += [f"V = {exact(settings.weight)}", f"c = {exact(settings.c)}"]
        parts += [f"exponent = {exact(settings.exponent)}"] if settings.exponent != DEFAULT_EXPONENT else []
    else:
        parts += [f"V = {AUTO if settings.v is None else exact(settings.v)}"]
    return ", ".join([*parts, *([f"margin = {exact(settings.margin)}"] if settings.margin else [])])


def _policies(found: Search) -> tuple[str, ...]:
    return tuple(dict.fromkeys(settings.policy for settings in found.settings))


def _setting(trial: Trial) -> dict[str, Any]:
    settings = trial.settings
    known = settings.policy == "messplus"
    return {
        "policy": settings.policy,
        "alpha": settings.alpha,
        "margin": settings.margin,
        "v": settings.weight if known else settings.v,
        "c": settings.c if known else None,
        "exponent": settings.exponent if known else None,
    }


def _levels(trial: Trial) -> tuple[tuple[str, tuple[Level, ...]], ...]:
    return (("chosen_on", trial.chosen_on), ("held_out", trial.held_out), ("whole", trial.whole))


def _trial(found: Search, choice: Choice, trial: Trial, zoo: Path | None) -> dict[str, Any]:
    return {
        **_setting(trial),
        "promised": trial.promised,
        "traces": [
            {
                "path": str(trace.path),
                "debt": trial.debt[at],
                "worst": asdict(trial.worst[at]),
                **{part: asdict(levels[at]) for part, levels in _levels(trial)},
                "replay": replay_command(found, choice, trial, trace, zoo),
            }
            for at, trace in enumerate(found.traces)
        ],
    }


def _spread(value: float, spread: float | None, form: str) -> str:
    return f"{value:{form}}" if spread is None else f"{value:{form}} ± {spread:{'.1g' if form.endswith('g') else form}}"
