"""The plot of predictions: how often models satisfied, by how often a router predicted that they would."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from messctl.display.plotting import LIGHT, Look, check_format, drawable, name_panel, new_figure, tidy, write_figure
from messctl.errors import UsageError
from messctl.policies import Played, kind_of
from messctl.policies.base import Floats
from messctl.replay.result import Replay

BINS = 10
"""Predictions are grouped into this many parts of equal size."""
NOTHING_PREDICTED = "--plot-calibration: no policy that is played predicts; add --policy bandit"


def check_predicts(policies: Collection[str]) -> None:
    """Raise UsageError if none of the `policies` to play learns: one that does not predicts nothing."""
    if not any(kind_of(name).learns for name in policies):
        raise UsageError(NOTHING_PREDICTED)


def write_calibration(
    replay: Replay, path: Path, warn: Callable[[str], None] = lambda _: None, look: Look = LIGHT
) -> None:
    """Draw one panel per router that predicts, and a line per model; on the diagonal predictions come true.

    `warn` gets a line if the font lacks characters of the names. Raises UsageError for another format than .png or
    .svg, or if no policy played predicts; MissingExtraError without matplotlib, OutputError.
    """
    check_format(path)
    write_figure(drawn(replay, look), path, warn)


def drawn(replay: Replay, look: Look = LIGHT) -> Any:
    """Return the plot as a figure of matplotlib. Raises UsageError if no policy played predicts."""
    routers = {name: played for name, played in replay.played.items() if played.predicted is not None}
    if not routers or replay.rounds is None or replay.facts.partial:
        raise UsageError(NOTHING_PREDICTED)
    models = replay.facts.zoo.models
    figure = new_figure(6.2 * len(routers), 6.2 + 0.25 * (len(models) // 3), look)
    panels = figure.subplots(1, len(routers), squeeze=False)[0]
    for axes, (name, played) in zip(panels, routers.items(), strict=True):
        tidy(axes, look)
        axes.plot([0, 1], [0, 1], color=look.ink, lw=1.2, ls="--")
        satisfied = replay.rounds.satisfied[played.order]
        for index, model in enumerate(models):
            predicted, observed, error = calibration(played, satisfied, index)
            axes.errorbar(
                predicted, observed, yerr=error, marker="o", ms=4, lw=1.2, elinewidth=0.7,
                color=look.colours[index % len(look.colours)], ls="-" if index < len(look.colours) else ":",
                label=drawable(model),
            )  # fmt: skip
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted", ylabel="satisfied")
        name_panel(axes, f"{drawable(name)}: what it predicted, and what came", look)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(3 * len(routers), len(labels)), frameon=False,
        labelcolor=look.ink, fontsize=8,
    )  # fmt: skip
    title = f"{drawable(replay.facts.path.name)}: {replay.facts.requests:,} requests"
    figure.suptitle(title, x=0.01, ha="left", color=look.ink)
    return figure


def calibration(played: Played, satisfied: Floats, model: int) -> tuple[Floats, Floats, Floats]:
    """Return, for each part of the predictions for a model, their mean, what came on average, and its standard error.

    The parts are equally many requests, from the lowest predictions to the highest. `satisfied` is (n, models).
    """
    assert played.predicted is not None
    predicted = played.predicted[:, model]
    by_prediction = np.argsort(predicted, kind="stable")
    parts = [part for part in np.array_split(by_prediction, BINS) if len(part)]
    came = [satisfied[part, model] for part in parts]
    return (
        np.array([predicted[part].mean() for part in parts]),
        np.array([each.mean() for each in came]),
        np.array([each.std() / np.sqrt(len(each)) for each in came]),
    )
