"""The plot of a replay: the four panels of the MESS+ paper."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from messctl.display.plotting import COLOURS, check_format, drawable, new_figure, save, tidy
from messctl.outputs import atomic_write
from messctl.policies import Played, kind_of
from messctl.replay.play import with_queue_at
from messctl.replay.result import Replay

MOST_POINTS = 2_000
MANY_MODELS = 8
LABEL_ROOM = 0.025
"""The least distance between two labels, as a share of the axis."""


def write_plot(replay: Replay, path: Path, warn: Callable[[str], None] = lambda _: None) -> None:
    """Draw attainment over time, queue per request, calls per model, and cumulative cost.

    Policies of a single model (`always:…`) are levels, not curves. `warn` gets a line if the font lacks characters of
    the names. Raises UsageError for another format than .png or .svg, MissingExtraError without matplotlib,
    OutputError.
    """
    check_format(path)
    figure = new_figure(13, 8.5)
    ((attainment, queue), (calls, cost)) = figure.subplots(2, 2)
    curves = {name: played for name, played in replay.played.items() if not name.startswith("always:")}
    curves = curves or dict(replay.played)
    alpha, delay = replay.settings.alpha, replay.conditions.feedback_delay
    curves = {
        name: with_queue_at(played, alpha, delay=delay) if kind_of(name).learns else played
        for name, played in curves.items()
    }
    _attainment(attainment, replay, curves)
    _queue(queue, curves)
    _calls(calls, replay, curves)
    _cost(cost, replay, curves)
    requests = replay.facts.requests
    for axes in (attainment, queue, calls, cost):
        tidy(axes)
    for axes in (attainment, queue, cost):
        axes.set_xlim(1, max(2, requests))
    handles, labels = cost.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)), frameon=False)
    figure.suptitle(_title(replay), x=0.01, ha="left")
    with atomic_write(path) as aside:
        complete = save(figure, aside, path.suffix)
    if not complete:
        warn(f"{path}: the font lacks some characters of the names; the plot shows boxes instead")


def _title(replay: Replay) -> str:
    conditions, settings = replay.conditions, replay.settings
    requests = replay.facts.requests
    title = f"{drawable(replay.facts.path.name)}: {requests:,} requests, α = {settings.alpha:g}, seed {settings.seed}"
    if conditions.shuffle:
        title += ", shuffled"
    if conditions.feedback_rate < 1 or conditions.feedback_delay:
        title += f", feedback on {conditions.feedback_rate:.0%} after {conditions.feedback_delay} requests"
    return title


def _points(n: int) -> Any:
    return np.unique(np.linspace(0, n - 1, min(n, MOST_POINTS)).astype(int))


def _styled(curves: dict[str, Played]) -> list[tuple[str, Played, dict[str, Any]]]:
    return [
        (
            name,
            played,
            {"color": COLOURS[k % len(COLOURS)], "lw": 2.4 if played.explored is not None else 1.3},
        )
        for k, (name, played) in enumerate(curves.items())
    ]


def _attainment(axes: Any, replay: Replay, curves: dict[str, Played]) -> None:
    alpha = replay.settings.alpha
    levels = np.nan_to_num(replay.facts.mean_satisfied, nan=alpha)
    low, high = max(0.0, min(alpha, levels.min()) - 0.1), min(1.0, max(alpha, levels.max()) + 0.06)
    at_right: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "fontsize": 7, "va": "bottom"}
    labelled = -np.inf
    for model, level in sorted(zip(replay.facts.zoo.models, levels, strict=True), key=lambda pair: pair[1]):
        axes.axhline(level, color="0.75", lw=0.8, ls=":")
        if level - labelled > LABEL_ROOM * (high - low):
            axes.annotate(drawable(model), (1.0, level), **at_right, color="0.45", ha="right")
            labelled = level
    for _, played, style in _styled(curves):
        has_feedback = ~np.isnan(played.satisfied)
        mean = np.cumsum(np.where(has_feedback, played.satisfied, 0.0)) / np.maximum(1, np.cumsum(has_feedback))
        at = _points(len(mean))
        axes.plot(at + 1, mean[at], **style)
    axes.axhline(alpha, color="k", lw=1.2, ls="--")
    axes.annotate(f"α = {alpha:g}", (1.0, alpha), **at_right, ha="left")
    axes.set(title="Attainment so far", xlabel="request", ylim=(low, high))


def _queue(axes: Any, curves: dict[str, Played]) -> None:
    settled = []
    for _, played, style in _styled(curves):
        at = _points(len(played.queue_after))
        debt = played.queue_after[at] / (at + 1)
        axes.plot(at + 1, debt, **style)
        settled.append(debt[len(debt) // 20 :].max())
    # The first requests owe up to one answer each; the axis is scaled to the later ones.
    axes.set(title="Debt per request, Q/t", xlabel="request", ylim=(0, min(0.2, 1.1 * max(settled) + 1e-3)))


def _calls(axes: Any, replay: Replay, curves: dict[str, Played]) -> None:
    models = replay.facts.zoo.models
    height = 0.8 / len(curves)
    size = 8 if len(models) <= MANY_MODELS else 6
    for k, (_, played, style) in enumerate(_styled(curves)):
        places = np.arange(len(models)) + (k - (len(curves) - 1) / 2) * height
        axes.barh(places, played.share, height=height, color=style["color"])
    axes.set_yticks(np.arange(len(models)), [drawable(model) for model in models], fontsize=size)
    axes.invert_yaxis()
    axes.set(title="Share of requests served by each model")


def _cost(axes: Any, replay: Replay, curves: dict[str, Played]) -> None:
    for name, played, style in _styled(curves):
        total = np.cumsum(played.cost)
        at = _points(len(total))
        axes.plot(at + 1, total[at], label=drawable(name), **style)
    axes.set(title=f"Cumulative cost ({drawable(replay.facts.cost_unit)})", xlabel="request", ylim=(0, None))
