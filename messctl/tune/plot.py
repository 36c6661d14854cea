"""The plot of a search: a front of cost against attainment per policy, the choice, and the yardsticks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np

from messctl.display.labels import Label, label_ends, label_points
from messctl.display.plotting import (
    LIGHT,
    Look,
    check_format,
    drawable,
    limits_around,
    name_panel,
    new_figure,
    scale_costs,
    tidy,
    write_figure,
)
from messctl.replay.result import Result
from messctl.tune.choice import Choice, Figures, Trial
from messctl.tune.replay_command import name_of, replay_command
from messctl.tune.tuning import Tuning

MOST_POINTS = 8
"""The most settings of a front for which the result on the requests held out is drawn, too."""
FAR = 0.04
"""A yardstick this far below α, or above the fronts, is not in the picture."""
WIDE = 4.0
"""Nor is one that costs less than all fronts, or more, by this factor."""
MOST_NAMED = 3
"""So many of them are named below the picture."""
SMALL = 7.5
"""The size of the text of a command, in points."""


def write_plot(tuning: Tuning, path: Path, warn: Callable[[str], None] = lambda _: None, look: Look = LIGHT) -> None:
    """Draw one panel per trace and α. `warn` gets a line if the font lacks a character of a name.

    Raises UsageError for another format than .png or .svg, MissingExtraError if matplotlib is not installed, and
    OutputError if the file cannot be written.
    """
    check_format(path)
    write_figure(drawn(tuning, look), path, warn)


def drawn(tuning: Tuning, look: Look = LIGHT) -> Any:
    """Return the plot as a figure of matplotlib: a column of panels per trace, and a row per α; of one trace, two."""
    traces, choices = tuning.found.traces, tuning.choices
    columns = len(traces) if len(traces) > 1 else min(2, len(choices))
    rows, width = -(-len(traces) * len(choices) // columns), max(10.0, 7.5 * columns)
    figure = new_figure(width, 6.0 * rows + 0.8, look)
    spaces = iter(figure.subplots(rows, columns, squeeze=False).flat)
    held = tuning.found.holdout.share
    title = f"Filled: on the {1 - held:.0%} of the requests that the choice uses. Hollow: on the {held:.0%} held out."
    figure.suptitle(title, x=0.01, ha="left", color=look.ink, fontsize=10)
    figure.supxlabel(
        "\n".join(_commands(tuning, width)), x=0.01, ha="left", family="monospace", fontsize=SMALL, color=look.ink
    )
    panels = []
    for choice, marks in zip(choices, tuning.yardsticks, strict=True):
        for at in range(len(traces)):
            panel = _Panel(next(spaces), tuning, choice, marks[at], at, look)
            tidy(panel.axes, look)
            panels.append((panel, panel.draw()))
    for axes in spaces:
        axes.set_visible(False)
    for panel, busy in panels:  # when the layout is known
        panel.label(busy)
    return figure


def _commands(tuning: Tuning, width: float) -> Iterator[str]:
    """Yield the lines of the commands that replay the choices, broken to fit a figure of this width, in inches."""
    letters = int(width * 72 / (0.62 * SMALL)) - 2
    for choice in tuning.choices:
        for trace in tuning.found.traces:
            if choice.chosen:
                command = drawable(replay_command(tuning.found, choice, choice.chosen, trace, tuning.zoo))
                yield from wrap(command, letters, subsequent_indent="    ", break_on_hyphens=False)


@dataclass(frozen=True, slots=True)
class _Panel:
    """The search for one α on the trace at a place, and the yardsticks there."""

    axes: Any
    tuning: Tuning
    choice: Choice
    marks: Sequence[Result]
    at: int
    look: Look

    @property
    def named(self) -> Trial:
        """The setting that is marked."""
        return self.choice.chosen or self.choice.closest

    @property
    def colours(self) -> dict[str, str]:
        """The colour of each policy, the same in every panel."""
        names = sorted({_kind(trial) for choice in self.tuning.choices for trial in choice.trials})
        return {name: self.look.colours[k % len(self.look.colours)] for k, name in enumerate(names)}

    def near(self) -> list[Result]:
        """Return the yardsticks that do not squeeze the fronts into a corner."""
        every = [figures for front in _fronts(self.choice, self.at).values() for figures in _both(front, self.at)]
        levels = [each.attained for each in every if each.attained >= self.choice.alpha - FAR] or [self.choice.alpha]
        costs = [each.cost for each in every]
        return [
            each
            for each in self.marks
            if each.attained is not None
            and self.choice.alpha - FAR <= each.attained <= max(levels) + FAR
            and min(costs) / WIDE <= each.mean_cost <= max(costs) * WIDE
        ]

    def draw(self) -> list[tuple[float, float]]:
        """Draw all but what is written beside points, and return points along what is drawn."""
        axes, choice, at, alpha = self.axes, self.choice, self.at, self.choice.alpha
        trace, fronts, near, named = self.tuning.found.traces[at], _fronts(choice, at), self.near(), self.named
        figures = [figures for front in fronts.values() for figures in _both(front, at)]
        least = min(alpha - FAR, max(each.attained for each in figures) - FAR)
        labelled = _both([named, *(front[-1] for front in fronts.values())], at)
        shown = [*labelled, *(each for each in figures if each.attained >= least)]
        _scale(axes, shown, near, [alpha, *_interval(named, at)])
        axes.xaxis.label.set(
            fontsize=9, text=f"{drawable(trace.facts.cost_unit)} per request{_outside(self.marks, near)}"
        )
        busy: list[tuple[float, float]] = []
        for policy, front in fronts.items():
            trials = [each for each in choice.trials if _kind(each) == policy]
            busy += _front(axes, front, trials, at, self.colours[policy])
        busy += _mark(axes, named, at, self.colours[_kind(named)], chosen=choice.chosen is not None)
        for result in near:
            axes.plot(
                result.mean_cost, result.attained, marker="D", ms=5, mfc="none", mec=self.look.faint, ls="", zorder=2
            )
        axes.axhline(alpha, color=self.look.ink, lw=1.2, ls="--")
        verdict = "" if choice.chosen else ": no setting keeps it"
        name_panel(axes, f"{drawable(trace.facts.path.name)}, α = {alpha:g}{verdict}", self.look)
        label_ends(axes, [Label(0, alpha, f"α = {alpha:g}", self.look.ink)])
        return busy

    def label(self, busy: Sequence[tuple[float, float]]) -> None:
        """Name the choice, the policies and the yardsticks."""
        axes, at, named = self.axes, self.at, self.named
        word, colour = "chosen" if self.choice.chosen else "closest", self.colours[_kind(named)]
        labels = [Label(*_point(named.selection[at]), f"{word}: {name_of(named)}", colour, bold=True)]
        for policy, front in _fronts(self.choice, at).items():
            labels.append(Label(*_point(front[-1].selection[at]), policy, self.colours[policy]))
        labels += [Label(each.mean_cost, each.attained or 0.0, each.policy, self.look.faint) for each in self.near()]
        across = np.column_stack([np.linspace(0, 1, 200), np.full(200, 0.5)])
        places = axes.transData.inverted().transform(axes.transAxes.transform(across))
        label_points(axes, labels, self.look, [*busy, *((float(x), self.choice.alpha) for x in places[:, 0])])


def _kind(trial: Trial) -> str:
    return trial.settings.policy.partition(":")[0]


def _fronts(choice: Choice, at: int) -> dict[str, list[Trial]]:
    """Return, by policy, the settings that no cheaper one of the policy equals on the selection requests."""
    fronts: dict[str, list[Trial]] = {}
    for trial in sorted(choice.trials, key=lambda each: (each.selection[at].cost, -each.selection[at].attained)):
        front = fronts.setdefault(_kind(trial), [])
        if not front or trial.selection[at].attained > front[-1].selection[at].attained:
            front.append(trial)
    return fronts


def _both(front: Sequence[Trial], at: int) -> list[Figures]:
    """Return what a front came to on both parts of the requests."""
    return [part[at] for trial in front for part in (trial.selection, trial.held_out)]


def _scale(axes: Any, figures: Sequence[Figures], near: Sequence[Result], more: Sequence[float]) -> None:
    """Set the limits around figures, yardsticks, and more levels of attainment."""
    costs = [*(each.cost for each in figures), *(each.mean_cost for each in near)]
    levels = [*more, *(each.attained for each in figures), *(each.attained or 0.0 for each in near)]
    scale_costs(axes.xaxis, costs, "")
    room = 0.08 * (max(levels) - min(levels)) + 0.003
    axes.set(xlim=limits_around(costs, log=axes.get_xscale() == "log"), ylabel="attained")
    axes.set(ylim=(min(levels) - room, max(levels) + room))


def _outside(marks: Sequence[Result], near: Sequence[Result]) -> str:
    """Return a line on the yardsticks that are not in the picture; empty if all are."""
    away = [each for each in marks if each not in near and each.attained is not None]
    if not away:
        return ""
    more = f" and {len(away) - MOST_NAMED} more" if len(away) > MOST_NAMED else ""
    names = f"outside the picture: {', '.join(each.policy for each in away[:MOST_NAMED])}{more}"
    return "\n" + "\n".join(wrap(drawable(names), 90, break_on_hyphens=False))


def _front(
    axes: Any, front: Sequence[Trial], trials: Sequence[Trial], at: int, colour: str
) -> list[tuple[float, float]]:
    """Draw all settings of a policy faintly, its front as a line, and beside it what came on the requests held out.

    Returns points along what is drawn.
    """
    for part, fill in (("selection", colour), ("held_out", "none")):
        axes.scatter(
            [getattr(each, part)[at].cost for each in trials], [getattr(each, part)[at].attained for each in trials],
            s=7, color=fill, edgecolors=colour, lw=0.4, alpha=0.25, zorder=1,
        )  # fmt: skip
    x, y = np.transpose([_point(each.selection[at]) for each in front])
    axes.plot(x, y, color=colour, lw=1.6, marker="o", ms=4, zorder=3)
    shown = sorted({round(k * (len(front) - 1) / (MOST_POINTS - 1)) for k in range(MOST_POINTS)})
    busy = list(zip(x.tolist(), y.tolist(), strict=True))
    for each in (front[k] for k in shown):
        busy += _joined(axes, each, at, colour, size=4)
    steps = np.linspace(0, len(x) - 1, 20 * len(x))
    busy += zip(*(np.interp(steps, np.arange(len(x)), of).tolist() for of in (x, y)), strict=True)
    return busy


def _joined(axes: Any, trial: Trial, at: int, colour: str, size: float) -> list[tuple[float, float]]:
    """Draw the result on the requests held out, joined with that on the requests of the choice; return the former."""
    (x, y), (out_x, out_y) = _point(trial.selection[at]), _point(trial.held_out[at])
    axes.plot([x, out_x], [y, out_y], color=colour, lw=0.7, alpha=0.7, zorder=2, scalex=False, scaley=False)
    axes.plot(out_x, out_y, marker="o", ms=size, mfc=axes.get_facecolor(), mec=colour, ls="", zorder=3)
    return [(out_x, out_y), ((x + out_x) / 2, (y + out_y) / 2)]


def _mark(axes: Any, trial: Trial, at: int, colour: str, *, chosen: bool) -> list[tuple[float, float]]:
    """Mark a setting, with the 95 % interval of what it attains on the requests held out; return points along that."""
    held_out, (low, high) = trial.held_out[at], _interval(trial, at)
    axes.plot(*_point(trial.selection[at]), marker="*" if chosen else "X", ms=15, color=colour, ls="", zorder=5)
    axes.plot([held_out.cost] * 2, [low, high], color=colour, lw=0.9, marker="_", ms=7, zorder=2)
    along = np.linspace(low, high, 40).tolist()
    return [*_joined(axes, trial, at, colour, size=8), *((held_out.cost, level) for level in along)]


def _interval(trial: Trial, at: int) -> tuple[float, float]:
    """Return the interval of what a setting attains on the requests held out, as far as it is in the picture."""
    figures = trial.held_out[at]
    attained = figures.attained
    return max(figures.attained_low, attained - 2 * FAR), min(figures.attained_high, attained + 2 * FAR)


def _point(figures: Figures) -> tuple[float, float]:
    return figures.cost, figures.attained
