"""The plot of an evaluation: the intervals of attainment and cost, per policy and estimator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from messctl.display.labels import Label, label_rows
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
from messctl.off_policy.estimators import Estimate
from messctl.off_policy.evaluation import DECIDING, Evaluation, PolicyEstimates

STEP = 0.2
"""The distance of the estimators of a policy, if policies are 1 apart."""
VERDICTS = {True: "keeps α", False: "misses α", None: "may keep or miss α"}


def write_plot(
    evaluation: Evaluation, path: Path, warn: Callable[[str], None] = lambda _: None, look: Look = LIGHT
) -> None:
    """Draw an evaluation. `warn` gets a line if the font lacks characters of the names.

    Raises UsageError for another format than .png or .svg, MissingExtraError without matplotlib, OutputError.
    """
    check_format(path)
    write_figure(drawn(evaluation, look), path, warn)


def drawn(evaluation: Evaluation, look: Look = LIGHT) -> Any:
    """Return the plot as a figure of matplotlib: the policies from top to bottom, and their estimators below each."""
    log, alpha, results = evaluation.log, evaluation.settings.alpha, evaluation.results
    figure = new_figure(12, 2.2 + 0.95 * len(results), look)
    attained, cost = figure.subplots(1, 2, sharey=True)
    for axes in (attained, cost):
        tidy(axes, look)
        axes.grid(visible=False, axis="y")
    judged = log.satisfied[log.has_feedback]
    shares = [each.attained for result in results for each in result.estimates]
    costs = [each.cost for result in results for each in result.estimates]
    attained.set_xlim(*_share_limits([*_values(shares), alpha, *([float(judged.mean())] if len(judged) else [])]))
    scale_costs(cost.xaxis, _values(costs), f"{log.cost_unit} per request")
    cost.set_xlim(*limits_around([*_values(costs), float(log.cost.mean())], log=cost.get_xscale() == "log"))
    _draw(attained, results, [[each.attained for each in result.estimates] for result in results], look)
    _draw(cost, results, [[each.cost for each in result.estimates] for result in results], look)
    attained.axvline(alpha, color=look.ink, lw=1.2, ls="--", zorder=1)
    if len(judged):
        attained.axvline(float(judged.mean()), color=look.faint, lw=1.2, ls=":", zorder=1)
    cost.axvline(float(log.cost.mean()), color=look.faint, lw=1.2, ls=":", zorder=1)
    attained.set_yticks(range(len(results)), [drawable(result.policy) for result in results])
    attained.set(ylim=(len(results) - 0.4, -0.6), xlabel="attained")
    name_panel(attained, f"Attained (dashed: α = {alpha:g}, dotted: as logged)", look)
    name_panel(cost, "Cost (dotted: as logged)", look)
    label_rows(cost, [Label(1, at, VERDICTS[each.sla_met(alpha)], look.ink, True) for at, each in enumerate(results)])
    handles, labels = attained.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, labelcolor=look.ink, fontsize=8
    )
    counts = f"{len(log):,} decisions, {int(log.has_feedback.sum()):,} with feedback; 95 % intervals"
    figure.suptitle(f"{drawable(Path(str(log.path)).name)}: {counts}", x=0.01, ha="left", color=look.ink)
    return figure


def _draw(axes: Any, results: Sequence[PolicyEstimates], rows: Sequence[Sequence[Estimate]], look: Look) -> None:
    """Draw the estimates of each policy, the deciding estimator thick; an estimate without interval is hollow."""
    names = [each.estimator for each in results[0].estimates]
    colours = dict(zip(sorted(names, key=lambda name: name != DECIDING), look.colours, strict=False))
    for k, name in enumerate(names):
        colour, decides = colours[name], name == DECIDING
        width = 2.6 if decides else 1.2
        axes.plot([], [], marker="o", color=colour, lw=width, label=f"{name}{', decides' * decides}")
        for at, estimates in enumerate(rows):
            mean, interval = estimates[k].mean, estimates[k].interval
            place = at + STEP * (k - (len(names) - 1) / 2)
            if interval is not None:
                axes.plot(interval, [place, place], color=colour, lw=width, marker="|", ms=8, mew=width)
            if mean is not None:
                fill = look.paper if interval is None else colour
                axes.plot(mean, place, marker="o", ms=6 if decides else 4, color=colour, mfc=fill, ls="")
    for at in range(1, len(rows)):
        axes.axhline(at - 0.5, color=look.faint, lw=0.5, alpha=0.5)


def _values(estimates: Sequence[Estimate]) -> list[float]:
    """Return all means and all ends of intervals that are known."""
    return [value for each in estimates for value in (each.mean, *(each.interval or ())) if value is not None]


def _share_limits(values: Sequence[float]) -> tuple[float, float]:
    low, high = limits_around(values, log=False)
    return max(-0.01, low), min(1.01, high)
