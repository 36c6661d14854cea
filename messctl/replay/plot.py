"""The plot of a replay: the four panels of the MESS+ paper, as PNG or SVG."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from messctl.display.text import plain
from messctl.errors import MissingExtraError, UsageError
from messctl.outputs import atomic_write
from messctl.policies import Played, kind_of
from messctl.replay.play import with_queue_at
from messctl.replay.result import Replay

MOST_POINTS = 2_000
MANY_MODELS = 8
LABEL_ROOM = 0.025  # of the axis: what a label needs not to stand on the one below
FORMATS = (".png", ".svg")
# Okabe and Ito's colours: told apart by colour-blind readers, and in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999", "#F0E442")


def check_format(path: Path) -> None:
    """Raise UsageError where the ending names no format that can be drawn, MissingExtraError without matplotlib."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: a plot is written as .png or .svg; change the ending")
    try:
        import_module("matplotlib")
    except ImportError:
        raise MissingExtraError("matplotlib", "plot", "--plot") from None


def write_plot(replay: Replay, path: Path, warn: Callable[[str], None] = lambda _: None) -> None:
    """Draw attainment over time, queue per request, calls per model, and cumulative cost.

    Policies that stand for single models (`always:…`) appear as levels, not as curves. `warn` hears where the font
    lacks characters of the names. Raises as `check_format` does, and OutputError.
    """
    check_format(path)
    from matplotlib import rc_context  # noqa: PLC0415
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(13, 8.5), layout="constrained")
    FigureCanvasAgg(figure)
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
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    for axes in (attainment, queue, cost):
        axes.set_xlim(1, max(2, requests))
    handles, labels = cost.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)), frameon=False)
    figure.suptitle(_title(replay), x=0.01, ha="left")
    # Without a date, and with names that are not drawn by lot, the same replay gives the same bytes.
    with (
        atomic_write(path) as aside,
        rc_context({"svg.hashsalt": "messctl"}),
        warnings.catch_warnings(record=True) as heard,
    ):
        warnings.simplefilter("always")
        kind = path.suffix.lower()[1:]
        figure.savefig(aside, format=kind, dpi=130, metadata={"Date": None} if kind == "svg" else {})
    if any(str(each.message).startswith("Glyph") for each in heard):
        warn(f"{path}: the font lacks characters of the names, and boxes stand for them")


def _title(replay: Replay) -> str:
    conditions, settings = replay.conditions, replay.settings
    requests = replay.facts.requests
    title = f"{_name(replay.facts.path.name)}: {requests:,} requests, α = {settings.alpha:g}, seed {settings.seed}"
    if conditions.shuffle:
        title += ", shuffled"
    if conditions.feedback_rate < 1 or conditions.feedback_delay:
        title += f", feedback on {conditions.feedback_rate:.0%} after {conditions.feedback_delay} requests"
    return title


def _name(text: str) -> str:
    """Return a name as it is to be drawn: no formula, no control characters."""
    return plain(text).replace("$", r"\$")


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
            axes.annotate(_name(model), (1.0, level), **at_right, color="0.45", ha="right")
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
    # The first requests owe up to a whole answer each; what matters is drawn to scale.
    axes.set(title="Debt per request, Q/t", xlabel="request", ylim=(0, min(0.2, 1.1 * max(settled) + 1e-3)))


def _calls(axes: Any, replay: Replay, curves: dict[str, Played]) -> None:
    models = replay.facts.zoo.models
    height = 0.8 / len(curves)
    size = 8 if len(models) <= MANY_MODELS else 6
    for k, (_, played, style) in enumerate(_styled(curves)):
        places = np.arange(len(models)) + (k - (len(curves) - 1) / 2) * height
        axes.barh(places, played.share, height=height, color=style["color"])
    axes.set_yticks(np.arange(len(models)), [_name(model) for model in models], fontsize=size)
    axes.invert_yaxis()
    axes.set(title="Share of requests served by each model")


def _cost(axes: Any, replay: Replay, curves: dict[str, Played]) -> None:
    for name, played, style in _styled(curves):
        total = np.cumsum(played.cost)
        at = _points(len(total))
        axes.plot(at + 1, total[at], label=_name(name), **style)
    axes.set(title=f"Cumulative cost ({_name(replay.facts.cost_unit)})", xlabel="request", ylim=(0, None))
