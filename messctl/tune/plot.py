"""The plot of a search: cost against attainment on the requests held out, with the front and the yardsticks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from messctl.display.text import plain
from messctl.outputs import atomic_write
from messctl.replay.plot import COLOURS, check_format
from messctl.tune.choice import Choice
from messctl.tune.report import Tuning


def write_plot(tuning: Tuning, path: Path) -> None:
    """Draw one panel per trace, with a colour for each α.

    Raises UsageError for another format than .png or .svg, MissingExtraError if matplotlib is not installed, and
    OutputError if the file cannot be written.
    """
    check_format(path)
    from matplotlib import rc_context  # noqa: PLC0415
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    traces = tuning.found.traces
    figure = Figure(figsize=(7.5 * len(traces), 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(traces), squeeze=False)[0]
    for at, (axes, trace) in enumerate(zip(panels, traces, strict=True)):
        for k, (choice, marks) in enumerate(zip(tuning.choices, tuning.yardsticks, strict=True)):
            _draw(axes, choice, marks[at], at, COLOURS[k % len(COLOURS)])
        axes.set(
            title=_name(trace.facts.path.name),
            xlabel=f"{_name(trace.facts.cost_unit)} per request, held out",
            ylabel="attained, held out",
        )
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=8)
    with atomic_write(path) as aside, rc_context({"svg.hashsalt": "messctl"}):
        kind = path.suffix.lower()[1:]
        figure.savefig(aside, format=kind, dpi=130, metadata={"Date": None} if kind == "svg" else {})


def _draw(axes: Any, choice: Choice, marks: Any, at: int, colour: str) -> None:
    levels = [trial.held_out[at] for trial in choice.trials]
    axes.scatter([level.cost for level in levels], [level.attained for level in levels], s=6, color=colour, alpha=0.25)
    front = sorted((trial.held_out[at] for trial in choice.front), key=lambda level: level.cost)
    label = f"α = {choice.alpha:g}"
    axes.plot([level.cost for level in front], [level.attained for level in front], color=colour, lw=1.3, label=label)
    axes.axhline(choice.alpha, color=colour, lw=0.9, ls="--")
    for result in marks:
        if result.attained is not None:
            axes.plot(result.mean_cost, result.attained, marker="x", color=colour, ls="")
            axes.annotate(_name(result.policy), (result.mean_cost, result.attained), fontsize=7, color="0.35")
    if choice.chosen:
        level = choice.chosen.held_out[at]
        axes.errorbar(
            level.cost,
            level.attained,
            xerr=level.cost_spread,
            yerr=level.attained_spread,
            marker="o",
            ms=8,
            color=colour,
            capsize=3,
            label=f"chosen for {choice.alpha:g}",
        )


def _name(text: str) -> str:
    """Return a name for matplotlib: a dollar sign is no formula, and control characters are shown."""
    return plain(text).replace("$", r"\$")
