"""The plot of a search: cost against attainment on the requests held out, with the front and the yardsticks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from messctl.display.plotting import LIGHT, check_format, drawable, new_figure, tidy, write_figure
from messctl.tune.choice import Choice
from messctl.tune.tuning import Tuning


def write_plot(tuning: Tuning, path: Path, warn: Callable[[str], None] = lambda _: None) -> None:
    """Draw one panel per trace, with a colour for each α. `warn` gets a line if the font lacks a character of a name.

    Raises UsageError for another format than .png or .svg, MissingExtraError if matplotlib is not installed, and
    OutputError if the file cannot be written.
    """
    check_format(path)
    traces = tuning.found.traces
    figure = new_figure(7.5 * len(traces), 5.5)
    panels = figure.subplots(1, len(traces), squeeze=False)[0]
    for at, (axes, trace) in enumerate(zip(panels, traces, strict=True)):
        for k, (choice, marks) in enumerate(zip(tuning.choices, tuning.yardsticks, strict=True)):
            _draw(axes, choice, marks[at], at, LIGHT.colours[k % len(LIGHT.colours)])
        axes.set(
            title=drawable(trace.facts.path.name),
            xlabel=f"{drawable(trace.facts.cost_unit)} per request, held out",
            ylabel="attained, held out",
        )
        tidy(axes)
        axes.legend(frameon=False, fontsize=8)
    write_figure(figure, path, warn)


def _draw(axes: Any, choice: Choice, marks: Any, at: int, colour: str) -> None:
    points = [trial.held_out[at] for trial in choice.trials]
    axes.scatter([each.cost for each in points], [each.attained for each in points], s=6, color=colour, alpha=0.25)
    front = sorted((trial.held_out[at] for trial in choice.front), key=lambda each: each.cost)
    label = f"α = {choice.alpha:g}"
    axes.plot([each.cost for each in front], [each.attained for each in front], color=colour, lw=1.3, label=label)
    axes.axhline(choice.alpha, color=colour, lw=0.9, ls="--")
    for result in marks:
        if result.attained is not None:
            axes.plot(result.mean_cost, result.attained, marker="x", color=colour, ls="")
            axes.annotate(drawable(result.policy), (result.mean_cost, result.attained), fontsize=7, color="0.35")
    if choice.chosen:
        chosen = choice.chosen.held_out[at]
        axes.errorbar(
            chosen.cost,
            chosen.attained,
            xerr=chosen.cost_spread,
            yerr=chosen.attained_spread,
            marker="o",
            ms=8,
            color=colour,
            capsize=3,
            label=f"chosen for {choice.alpha:g}",
        )
