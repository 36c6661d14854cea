"""The plot of a state: what was attained so far and what is certain, who served over time, and what was spent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from messctl.display.labels import Label, label_ends
from messctl.display.plotting import (
    LIGHT,
    Look,
    check_format,
    drawable,
    name_panel,
    new_figure,
    tidy,
    write_figure,
)
from messctl.display.shares import Floats, stack_shares
from messctl.display.text import counted
from messctl.state.course import Course

SETTLED = 10
"""The first part of the feedback, one in this many, does not set the scale: its means still jump."""


def write_plot(
    course: Course,
    alpha: float,
    path: Path,
    warn: Callable[[str], None] = lambda _: None,
    look: Look = LIGHT,
) -> None:
    """Draw a state; `alpha` is today's promise.

    `warn` gets a line if the font lacks characters of the names. Raises UsageError for another format than .png or
    .svg, MissingExtraError without matplotlib, OutputError.
    """
    check_format(path)
    write_figure(drawn(course, alpha, look), path, warn)


def drawn(course: Course, alpha: float, look: Look = LIGHT) -> Any:
    """Return the plot as a figure of matplotlib."""
    figure = new_figure(10, 9.5, look)
    attainment, shares, spent = figure.subplots(3, 1, height_ratios=(1.3, 1, 0.8))
    for axes in (attainment, shares, spent):
        tidy(axes, look)
    answered, judged = int(sum(map(sum, course.served.values()))), course.points[-1].judged if course.points else 0
    title = f"{counted(answered, 'answered request')} in the log, {judged:,} with feedback"
    figure.suptitle(title, x=0.01, ha="left", color=look.ink)
    labels = [
        (attainment, _attainment(attainment, course, alpha, look)),
        (shares, _shares(shares, course, look)),
        (spent, _spent(spent, course, look)),
    ]
    for axes, ends in labels:  # when the layout is known
        label_ends(axes, ends)
    return figure


def _attainment(axes: Any, course: Course, alpha: float, look: Look) -> list[Label]:
    """Draw attainment and certificate, and return the labels of their ends."""
    colour, points = look.colours[0], course.points
    name_panel(axes, "Attained so far (dotted: what is certain)", look)
    axes.set(xlabel="answers with feedback")
    axes.axhline(alpha, color=look.ink, lw=1.2, ls="--")
    ends = [Label(0, alpha, f"α = {alpha:g}", look.ink)]
    if points:
        judged = np.array([point.judged for point in points])
        attained = np.array([point.satisfied for point in points]) / judged
        certain = np.array([point.alpha - point.queue for point in points]) / judged
        axes.plot(judged, attained, color=colour, lw=2.4)
        axes.plot(judged, certain, color=colour, lw=1, ls=":")
        axes.fill_between(judged, certain, attained, color=colour, alpha=0.12, lw=0)
        late = slice(len(points) // SETTLED, None)
        levels = [alpha, *attained[late], *certain[late]]
        room = 0.06 * (max(levels) - min(levels)) + 0.005
        axes.set(xlim=(min(1, judged[-1] - 1), judged[-1]), ylim=(min(levels) - room, max(levels) + room))
        ends.append(Label(0, float(attained[-1]), f"attained {attained[-1]:.4f}", colour, bold=True))
        ends.append(Label(0, float(certain[-1]), f"certain {certain[-1]:.4f}", colour))
    else:
        axes.set(xlim=(0, 1), ylim=(alpha - 0.1, alpha + 0.1))
    return ends


def _shares(axes: Any, course: Course, look: Look) -> list[Label]:
    """Draw the share of each model of the answered requests, the cheapest at the bottom, and return the labels."""
    names = sorted(course.served, key=lambda name: (course.mean_cost.get(name, np.inf), name))
    name_panel(axes, "Who served: the cheapest model at the bottom", look)
    axes.set(xlabel="answered request", xlim=(0, 1), ylim=(0, 1))
    if not names:
        return []
    served, ends = np.array([course.served[name] for name in names]).T, _ends(course)
    some = served.sum(axis=1) > 0.0
    whole = (served.sum(axis=0) / served.sum()).tolist()
    share = served[some] / served[some].sum(axis=1, keepdims=True)
    return stack_shares(axes, share, np.append(ends[:-1][some], ends[-1]), whole, names, look)


def _spent(axes: Any, course: Course, look: Look) -> list[Label]:
    """Draw the cost so far, a line per unit, and return the labels of their ends."""
    requests = _ends(course)
    ends: list[Label] = []
    for k, (unit, each) in enumerate(sorted(course.spent.items())):
        total, colour = np.concatenate(([0.0], np.cumsum(each))), look.colours[k % len(look.colours)]
        axes.plot(requests, total, color=colour, lw=2)
        ends.append(Label(0, float(total[-1]), f"{total[-1]:.4g} {unit}", colour, bold=True))
    axes.set_ylabel(drawable(next(iter(course.spent))) if len(course.spent) == 1 else "cost")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.4g}")
    axes.set(xlabel="answered request", xlim=(0, max(1.0, requests[-1])))
    axes.set_ylim(bottom=0)
    name_panel(axes, "Spent so far", look)
    return ends


def _ends(course: Course) -> Floats:
    """Return how many requests had been answered before each window, and after the last one."""
    windows = max((len(each) for each in (*course.served.values(), *course.spent.values())), default=0)
    answered = np.sum([np.zeros(windows), *map(np.array, course.served.values())], axis=0)
    return np.concatenate(([0.0], np.cumsum(answered)))
