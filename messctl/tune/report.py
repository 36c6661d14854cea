"""How a search is shown: a table for people, JSON and CSV for programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from messctl.display.tables import csv_of, fitting
from messctl.display.text import counted, or_dash, plain
from messctl.replay.alternative import cheaper
from messctl.replay.loading import Recording
from messctl.replay.result import MET, Result
from messctl.tune.choice import Choice, Figures, Trial
from messctl.tune.replay_command import exact, name_of, replay_command
from messctl.tune.search import Search
from messctl.tune.space import SINGLE
from messctl.tune.tuning import Tuning, Yardsticks

MOST_ROWS = 12
SELECTION, BOUND, HELD_OUT, RATIO, DEBT = "selection", "≥ (95 %)", "held out", "÷ static-mix", "Q/n"
LEAST_FIRST = (DEBT, BOUND, RATIO, SELECTION)
"""The columns that a narrow terminal drops, in this order."""
SMALL = 0.01
"""Up to this shortfall, as a share of requests, the verdict names the `--slack` that accepts it."""


def document(tuning: Tuning) -> dict[str, Any]:
    """Return the JSON document of a tuning. Its keys are stable."""
    found = tuning.found
    return {
        "traces": [
            {
                "path": str(trace.facts.path),
                "requests": len(trace.rounds),
                "models": list(trace.rounds.zoo.models),
                "cost_unit": trace.facts.cost_unit,
                "left_out": trace.facts.left_out,
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
                "never_worth_asking": [each and asdict(each) for each in tuning.dominated_of(choice)],
                "second_look": [each and asdict(each) for each in tuning.looks_of(choice)],
                "chosen": _trial(tuning, choice, choice.chosen) if choice.chosen else None,
                "closest": _trial(tuning, choice, choice.closest),
                "front": [_trial(tuning, choice, trial) for trial in choice.front],
                "yardsticks": [
                    {
                        "trace": str(trace.facts.path),
                        "results": [
                            {key: getattr(result, key) for key in ("policy", "attained", "mean_cost", "model_share")}
                            for result in results
                        ],
                    }
                    for trace, results in zip(found.traces, marks, strict=True)
                ],
            }
            for choice, marks in zip(tuning.choices, tuning.yardsticks, strict=True)
        ],
    }


def as_csv(tuning: Tuning) -> str:
    """Return the tuning as CSV: a header, then one line per setting and trace."""
    rows = [
        {
            **_setting(trial),
            "trace": str(trace.facts.path),
            "chosen": trial is choice.chosen,
            "front": trial in choice.front,
            "promised": trial.attainable,
            "seeds": choice.seeds,
            "debt": trial.debt[at],
            **{f"worst/{name}": value for name, value in asdict(trial.worst[at]).items()},
            **{
                f"{part}/{name}": value
                for part, figures in _parts(trial)
                for name, value in asdict(figures[at]).items()
            },
        }
        for choice in tuning.choices
        for trial in choice.trials
        for at, trace in enumerate(tuning.found.traces)
    ]
    return csv_of(rows, rows[0] if rows else ["alpha"])


def table(tuning: Tuning, width: int) -> RenderableType:
    """Return a table for every trace and α: the front with the chosen row marked, the yardsticks, and the verdict.

    If the columns need more than `width` characters, those of `LEAST_FIRST` are dropped. The replay commands may be
    wider still: print them without cropping.
    """
    found, outcomes = tuning.found, list(zip(tuning.choices, tuning.yardsticks, strict=True))
    parts: list[RenderableType] = []
    if found.interrupted:
        seeds = f"{len(found.complete_seeds())} of {counted(found.conditions.seeds, 'seed')}"
        parts.append(Text(f"interrupted: the results of {seeds}", "bold"))
    for at, trace in enumerate(found.traces):
        parts.append(_heading(found, trace))
        for choice, marks in outcomes:
            grid = _grid(found, choice, marks[at], at)
            name = str(grid.columns[0].header)
            parts += [Text(), fitting(grid, width, folding=(name,), least_first=LEAST_FIRST)]
    parts.append(Text())
    for choice, marks in outcomes:
        parts += verdict(tuning, choice, marks)
    return Group(*parts)


def verdict(tuning: Tuning, choice: Choice, marks: Yardsticks) -> list[Text]:
    """Return the lines on the chosen setting of one α and its figures, or on the closest one if none is chosen."""
    found, trial = tuning.found, choice.chosen
    if trial is None:
        return [Text(_beyond(found, choice), "bold red")]
    style = "bold green" if trial.met_held_out and choice.seeds > 1 else "bold yellow"
    lines = [Text(f"chosen for α = {exact(choice.alpha)}: {name_of(trial)}", style)]
    for at, trace in enumerate(found.traces):
        held_out, whole, unit = trial.held_out[at], trial.whole[at], plain(trace.facts.cost_unit)
        below = choice.alpha - held_out.attained
        command = plain(replay_command(found, choice, trial, trace, tuning.zoo))
        short = _short(found, choice.alpha, below, marks[at]) if below > MET else ""
        lines += [
            Text(f"  held out: {_attains(held_out, unit, interval=True)}{short}", style),
            Text(f"  all requests: {_attains(whole, unit)}; to replay it:", style),
            Text(f"  {command}", style, no_wrap=True, overflow="ignore"),  # one line, so that it can be pasted
            *_without_router(trace, trial, whole, unit),
            *(Text(f"  {each.words}", "bold yellow") for each in tuning.dominated_of(choice)[at : at + 1] if each),
            *(Text(f"  {each.words}", "bold yellow") for each in tuning.looks_of(choice)[at : at + 1] if each),
        ]
    return lines


def _without_router(trace: Recording, trial: Trial, whole: Figures, unit: str) -> list[Text]:
    """Return a line if a fixed choice keeps α on all requests for less than the chosen router; else nothing."""
    if trial.settings.policy.startswith(f"{SINGLE}:"):
        return []
    found = cheaper(trace.facts, trial.settings.alpha, whole.cost)
    if found is None:
        return []
    remedy = f"; --policy {SINGLE} lets tune choose it" if len(found.shares) == 1 else ""
    told = f"  on all requests, learning included, {found.name} keeps it for less: {found.mean_cost:.4g} {unit}/request"
    return [Text(f"{told}{remedy}", "bold yellow")]


def _attains(figures: Figures, unit: str, *, interval: bool = False) -> str:
    attained = _spread(figures.attained, figures.attained_spread, ".4f")
    attained += f" (95 %: {figures.attained_low:.4f} to {figures.attained_high:.4f})" if interval else ""
    return f"attains {attained} for {_spread(figures.cost, figures.cost_spread, '.4g')} {unit}/request"


def _short(found: Search, alpha: float, below: float, results: Sequence[Result]) -> str:
    """Say how far below α it is, and if even the best single model misses α on the requests of the yardsticks."""
    best = max((result.attained or 0.0 for result in results if result.policy.startswith("always:")), default=1.0)
    where = "on all requests" if found.holdout.varies(found.conditions.shuffle) else "there"
    single = f"; the best single model attains {best:.4f} {where}" if results and best < alpha else ""
    return f", {100 * below:.2f} points below α{single}"


def _beyond(found: Search, choice: Choice) -> str:
    closest = choice.closest
    at = max(range(len(found.traces)), key=lambda at: closest.worst[at].below(choice.alpha))
    trace, figures, worst = found.traces[at], closest.selection[at], closest.worst[at]
    means, models = trace.facts.mean_satisfied, trace.facts.zoo.models
    best = int(means.argmax())
    short = choice.alpha - closest.attainable
    slack = f"; --slack {math.ceil(1e3 * short) / 1e3:g} would accept it" if short <= SMALL else ""
    return (
        f"α = {exact(choice.alpha)}: no setting keeps it with 95 % confidence; the highest α kept is "
        f"{_floored(closest.attainable)}{slack}.\n{_too_few(choice.alpha, closest, trace, at)}"
        f"  The closest setting, {name_of(closest)}, attains {figures.attained:.4f} on the selection requests.\n"
        f"  In its worst window it attains {worst.attained:.4f}, and the best single model {worst.alone:.4f}.\n"
        f"  On all requests the best single model, {plain(models[best])}, attains {means[best]:.4f}."
    )


def _too_few(alpha: float, trial: Trial, trace: Recording, at: int) -> str:
    """Return a line if a trace has too few requests to show that α is kept with other prompts; else nothing."""
    if trial.with_others[at] >= alpha - MET:
        return ""
    few = f"  {counted(len(trace.rounds), 'request')} cannot show that it is kept with other prompts"
    needed = trial.needed[at]
    return f"{few}; about {needed:,} like these could.\n" if needed else f"{few}, nor could more like these.\n"


def _floored(value: float) -> str:
    """Return a bound with four digits, rounded down: a bound below α is not shown as α."""
    return f"{math.floor(1e4 * (value + MET)) / 1e4:.4f}"


def _heading(found: Search, trace: Recording) -> Text:
    conditions, holdout = found.conditions, found.holdout
    held = f"the last {holdout.share:.0%}" if holdout.by == "time" else f"{holdout.share:.0%}, by a hash of the id"
    held += " under each seed; yardsticks count all requests" if holdout.varies(conditions.shuffle) else ""
    searched = f"{counted(len(found.settings), 'setting')} ({', '.join(_policies(found))})"
    searched += f" under {counted(conditions.seeds, 'seed')}"
    if conditions.shuffle:
        searched += ", requests shuffled"
    if conditions.feedback_rate < 1 or conditions.feedback_delay:
        searched += (
            f", feedback on {conditions.feedback_rate:.0%} after {counted(conditions.feedback_delay, 'request')}"
        )
    return Text(
        f"{plain(str(trace.facts.path))}: {counted(len(trace.rounds), 'request')}, "
        f"{counted(len(trace.rounds.zoo.models), 'model')}; held out: {held}\n{searched}"
    )


def _grid(found: Search, choice: Choice, marks: Sequence[Result], at: int) -> Table:
    unit = plain(found.traces[at].facts.cost_unit)
    mix = next((result.mean_cost for result in marks if result.policy == "static-mix"), None)
    grid = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    headings = (
        f"α = {exact(choice.alpha)}",
        SELECTION,
        BOUND,
        HELD_OUT,
        f"{unit}/request",
        RATIO,
        DEBT,
    )
    for heading in headings:
        grid.add_column(heading, justify="left" if heading == headings[0] else "right")
    for trial in _shown(choice):
        figures, held_out = trial.selection[at], trial.held_out[at]
        chosen = trial is choice.chosen
        grid.add_row(
            f"{'→' if chosen else ' '} {name_of(trial)}",
            _spread(figures.attained, figures.attained_spread, ".4f"),
            _floored(trial.sure[at]),
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
            or_dash(result.attained, ".4f"),
            f"{result.mean_cost:.4g}",
            f"{result.mean_cost / mix:.3f}" if mix else "–",
            "",
            style="dim",
        )
    return grid


def _shown(choice: Choice) -> list[Trial]:
    """Return at most MOST_ROWS trials, spread evenly over the front and with the chosen one among them."""
    front = list(choice.front)
    if len(front) <= MOST_ROWS:
        return front
    places = {round(k * (len(front) - 1) / (MOST_ROWS - 1)) for k in range(MOST_ROWS)}
    if choice.chosen:
        at = front.index(choice.chosen)
        places = (places - {min(places, key=lambda k: (abs(k - at), k))}) | {at}
    return [front[k] for k in sorted(places)]


def _policies(found: Search) -> tuple[str, ...]:
    return tuple(dict.fromkeys(settings.policy for settings in found.settings))


def _setting(trial: Trial) -> dict[str, Any]:
    settings = trial.settings
    explores = settings.policy == "messplus"
    return {
        "policy": settings.policy,
        "alpha": settings.alpha,
        "margin": settings.margin,
        "v": settings.weight if explores else settings.v,
        "c": settings.c if explores else None,
        "exponent": settings.exponent if explores else None,
    }


def _parts(trial: Trial) -> tuple[tuple[str, tuple[Figures, ...]], ...]:
    return (("chosen_on", trial.selection), ("held_out", trial.held_out), ("whole", trial.whole))


def _trial(tuning: Tuning, choice: Choice, trial: Trial) -> dict[str, Any]:
    return {
        **_setting(trial),
        "promised": trial.attainable,
        "traces": [
            {
                "path": str(trace.facts.path),
                "sure": trial.sure[at],
                "requests_needed": trial.needed[at],
                "debt": trial.debt[at],
                "worst": asdict(trial.worst[at]),
                **{part: asdict(figures[at]) for part, figures in _parts(trial)},
                "replay": replay_command(tuning.found, choice, trial, trace, tuning.zoo),
            }
            for at, trace in enumerate(tuning.found.traces)
        ],
    }


def _spread(value: float, spread: float | None, form: str) -> str:
    return f"{value:{form}}" if spread is None else f"{value:{form}} ± {spread:{'.1g' if form.endswith('g') else form}}"
