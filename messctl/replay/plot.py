"""The plot of a replay: cost against attainment, then how it went, request by request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
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
from messctl.display.shares import stack_shares
from messctl.learning.frontier import chain, cheapest_mixture
from messctl.policies import Played, kind_of
from messctl.policies.base import Floats
from messctl.replay.play import with_queue_at
from messctl.replay.result import Replay, Result

MOST_POINTS = 2_000
SETTLED = 20
"""The first part of a play, one in this many requests, does not set the scale of an axis: its means still jump."""
WINDOWS = 60
"""The number of parts in which shares over time are counted."""
FAR = 0.03
"""A yardstick that ends this far below α is not drawn over time: it would take the room of the others."""
MIX = "static-mix"
SINGLE = "always:"


@dataclass(frozen=True, slots=True)
class _Curve:
    """A policy as it is drawn."""

    name: str
    played: Played
    colour: str
    width: float
    learns: bool


def write_plot(replay: Replay, path: Path, warn: Callable[[str], None] = lambda _: None, look: Look = LIGHT) -> None:
    """Draw cost against attainment, attainment and shares over time, and cost relative to the static mix.

    `warn` gets a line if the font lacks characters of the names. Raises UsageError for another format than .png or
    .svg, MissingExtraError without matplotlib, OutputError.
    """
    check_format(path)
    write_figure(drawn(replay, look), path, warn)


def drawn(replay: Replay, look: Look = LIGHT) -> Any:
    """Return the plot as a figure of matplotlib."""
    figure = new_figure(15, 10, look)
    ((overview, attainment), (shares, costs)) = figure.subplots(2, 2, width_ratios=(1.15, 1), height_ratios=(1.2, 1))
    for axes in (overview, attainment, shares, costs):
        tidy(axes, look)
    curves = list(_curves(replay, look))
    figure.suptitle(_title(replay), x=0.01, ha="left", color=look.ink)
    _share_over_time(shares, replay, look)
    _attainment(attainment, replay, curves, look)
    _relative_cost(costs, replay, curves, look)
    _overview(overview, replay, curves, look)
    return figure


def _title(replay: Replay) -> str:
    conditions, settings = replay.conditions, replay.settings
    requests = replay.facts.requests
    title = f"{drawable(replay.facts.path.name)}: {requests:,} requests, α = {settings.alpha:g}, seed {settings.seed}"
    if conditions.seeds > 1:
        title += f" to {settings.seed + conditions.seeds - 1} (curves: the first)"
    if conditions.shuffle:
        title += ", shuffled"
    if conditions.feedback_rate < 1 or conditions.feedback_delay:
        title += f", feedback on {conditions.feedback_rate:.0%} after {conditions.feedback_delay} requests"
    return title


def _curves(replay: Replay, look: Look) -> Iterator[_Curve]:
    """Yield what is drawn as a curve: the policies. Single models are levels, unless there is nothing else."""
    names = [name for name in replay.played if not name.startswith(SINGLE)] or list(replay.played)
    names = sorted(names, key=lambda name: (name != replay.judged.policy, not kind_of(name).learns))
    for k, name in enumerate(names):
        played, learns = replay.played[name], kind_of(name).learns
        if learns:
            played = with_queue_at(played, replay.settings.alpha, delay=replay.conditions.feedback_delay)
        yield _Curve(name, played, look.colours[k % len(look.colours)], 2.4 if learns else 1.2, learns)


def _overview(axes: Any, replay: Replay, curves: Sequence[_Curve], look: Look) -> None:
    """Draw every policy and every single model as a point of cost and attainment, above the mixtures of models."""
    facts, alpha = replay.facts, replay.settings.alpha
    colours = {curve.name: curve.colour for curve in curves}
    results = [each for each in replay.results if each.attained is not None and each.policy in colours]
    models = [
        Label(float(cost), float(level), name, look.faint)
        for name, cost, level in zip(facts.zoo.models, facts.mean_cost, facts.mean_satisfied, strict=True)
        if np.isfinite(cost) and np.isfinite(level)
    ]
    points = [_label(each, colours[each.policy]) for each in results if not each.policy.startswith(SINGLE)]
    scale_costs(axes.xaxis, [label.x for label in (*points, *models)], f"{facts.cost_unit} per request")
    levels = [alpha, *(label.y for label in (*points, *models))]
    room = 0.08 * (max(levels) - min(levels)) + 0.01
    axes.set(xlim=limits_around([label.x for label in (*points, *models)], log=axes.get_xscale() == "log"))
    axes.set(ylim=(min(levels) - room, max(levels) + room), ylabel="attained")
    front = _mixtures(axes, facts.mean_cost, facts.mean_satisfied, look)
    for label in models:
        axes.plot(label.x, label.y, marker="o", ms=5, mfc=look.paper, mec=look.faint, ls="", zorder=3)
    for result in results:
        if result.policy.startswith(SINGLE):
            continue
        axes.errorbar(
            result.mean_cost, result.attained, xerr=result.mean_cost_spread, yerr=result.attained_spread,
            marker="o" if kind_of(result.policy).learns else "D", ms=9 if kind_of(result.policy).learns else 6,
            color=colours[result.policy], capsize=2, lw=1, ls="", zorder=4,
        )  # fmt: skip
    axes.axhline(alpha, color=look.ink, lw=1.2, ls="--")
    name_panel(axes, "Cost and attainment: up and to the left is better", look)
    parts = np.linspace(0.0, 1.0, 200)
    places = axes.transData.inverted().transform(axes.transAxes.transform(np.column_stack([parts, parts])))
    across = [(float(x), alpha) for x in places[:, 0]]
    bars = [
        (each.mean_cost + part * each.mean_cost_spread, each.attained or 0.0)
        for each in results
        if each.mean_cost_spread
        for part in (-1, -0.5, 0.5, 1)
    ]
    label_points(axes, [*sorted(points, key=lambda label: not label.bold), *models], look, [*front, *across, *bars])
    label_ends(axes, [Label(0, alpha, f"α = {alpha:g}", look.ink)])


def _label(result: Result, colour: str) -> Label:
    assert result.attained is not None
    return Label(result.mean_cost, result.attained, result.policy, colour, bold=kind_of(result.policy).learns)


def _mixtures(axes: Any, cost: Floats, satisfied: Floats, look: Look) -> list[tuple[float, float]]:
    """Draw what fixed mixtures of models reach, and shade what is better; return points along the line."""
    known = np.isfinite(cost) & np.isfinite(satisfied)
    if known.sum() < 2:
        return []
    cost, satisfied = cost[known], satisfied[known]
    links = chain(cost[None], satisfied[None])
    corners = [int(links.start[0]), *map(int, links.model)]
    # Between two models the mixture is a straight line, which is a curve on a logarithmic axis.
    at = np.linspace(0.0, len(corners) - 1.0, 60 * len(corners))
    x, y = (np.interp(at, np.arange(len(corners)), of[corners]) for of in (cost, satisfied))
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    around = np.concatenate(([left, x[0]], x, [right])), np.concatenate(([bottom, bottom], y, [y[-1]]))
    axes.fill_between(*around, top, color=look.good, alpha=0.1, lw=0, zorder=0)
    axes.plot(x, y, color=look.faint, lw=1.2, zorder=1)
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _attainment(axes: Any, replay: Replay, curves: Sequence[_Curve], look: Look) -> None:
    """Draw the attainment so far, and the certificate of the policy that is judged."""
    alpha, requests = replay.settings.alpha, replay.facts.requests
    ends, settled = [], [alpha]
    for curve in curves:
        played = curve.played
        if not curve.learns and (played.attained or 0.0) < alpha - FAR:
            continue
        answered = np.cumsum(~np.isnan(played.satisfied))
        mean = np.cumsum(np.nan_to_num(played.satisfied)) / np.maximum(1, answered)
        at = _points(len(mean))
        axes.plot(at + 1, mean[at], color=curve.colour, lw=curve.width)
        late = mean[len(mean) // SETTLED :]
        settled += [float(late.min()), float(late.max())]
        ends.append(Label(0, float(mean[-1]), curve.name, curve.colour, curve.learns))
        if curve.name == replay.judged.policy and curve.learns:
            bound = alpha - played.queue_after / np.maximum(1, answered)
            axes.plot(at + 1, bound[at], color=curve.colour, lw=1, ls=":")
            axes.fill_between(at + 1, bound[at], mean[at], color=curve.colour, alpha=0.12, lw=0)
            settled.append(float(bound[len(bound) // SETTLED :].min()))
    axes.axhline(alpha, color=look.ink, lw=1.2, ls="--")
    room = 0.05 * (max(settled) - min(settled)) + 0.005
    axes.set(xlabel="request", xlim=(1, max(2, requests)), ylim=(min(settled) - room, max(settled) + room))
    certified = (
        f" (dotted: what {drawable(replay.judged.policy)} is certain of)"
        if kind_of(replay.judged.policy).learns
        else ""
    )
    name_panel(axes, f"Attained so far{certified}", look)
    label_ends(axes, [*ends, Label(0, alpha, f"α = {alpha:g}", look.ink)])


def _share_over_time(axes: Any, replay: Replay, look: Look) -> None:
    """Draw the share of each model, the cheapest at the bottom, for the policy that is judged."""
    name, facts = replay.judged.policy, replay.facts
    played = replay.played[name]
    cheapest_first = np.argsort(np.nan_to_num(facts.mean_cost, nan=np.inf), kind="stable")
    share, edges = _shares(played)
    names = [facts.zoo.models[model] for model in cheapest_first]
    ends = stack_shares(axes, share[:, cheapest_first], edges, played.share[cheapest_first].tolist(), names, look)
    axes.set(xlabel="request", xlim=(1, max(2, len(played.order))))
    name_panel(axes, f"Who served under {drawable(name)}: the cheapest model at the bottom", look)
    label_ends(axes, ends)


def _shares(played: Played) -> tuple[Floats, Floats]:
    """Return the shares of models in each window, (windows, models), and where windows begin, and the last one ends."""
    n, models = len(played.order), len(played.zoo.models)
    bounds = np.unique(np.linspace(0, n, min(n, WINDOWS) + 1).astype(int))
    if played.served is None:
        return np.tile(played.share, (len(bounds) - 1, 1)), bounds + 1.0
    rows = [np.bincount(played.served[start:end], minlength=models) / (end - start) for start, end in pairwise(bounds)]
    return np.array(rows), bounds + 1.0


def _relative_cost(axes: Any, replay: Replay, curves: Sequence[_Curve], look: Look) -> None:
    """Draw the cost so far, divided by that of the static mix; without one, the cost itself."""
    facts, alpha = replay.facts, replay.settings.alpha
    unit, mix = f"cost so far ({facts.cost_unit})", 0.0
    if not facts.partial:
        model_cost = facts.mean_cost[None]
        mix = float((cheapest_mixture(model_cost, facts.mean_satisfied[None], alpha) * model_cost).sum())
    ends, settled = [], []
    for curve in curves:
        total = np.cumsum(curve.played.cost)
        if mix > 0:
            unit, total = "", total / (mix * np.arange(1, len(total) + 1))
        if mix > 0 and curve.name == MIX:
            continue  # it is the line at 1
        at = _points(len(total))
        axes.plot(at + 1, total[at], color=curve.colour, lw=curve.width)
        late = total[len(total) // SETTLED :]
        settled += [float(late.min()), float(late.max())]
        ends.append(
            Label(
                0,
                float(total[-1]),
                f"{curve.name} {total[-1]:.2f}" if mix > 0 else curve.name,
                curve.colour,
                curve.learns,
            )
        )
    scale_costs(axes.yaxis, settled, unit)
    if mix > 0:
        axes.axhline(1.0, color=look.ink, lw=1.2, ls="--")
        ends.append(Label(0, 1.0, MIX, look.ink))
        axes.set_ylim(limits_around([*settled, 1.0], log=axes.get_yscale() == "log"))
    axes.set(xlabel="request", xlim=(1, max(2, facts.requests)))
    title = "Cost so far, relative to the cheapest fixed mixture" if mix > 0 else "Cost so far"
    name_panel(axes, title, look)
    label_ends(axes, ends)


def _points(n: int) -> Any:
    return np.unique(np.linspace(0, n - 1, min(n, MOST_POINTS)).astype(int))
