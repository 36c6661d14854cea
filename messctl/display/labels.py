"""Labels of a plot that do not lie on each other: beside points, and at the ends of curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from messctl.display.plotting import Look, drawable

DIRECTIONS = (0, 180, 45, 135, 315, 225, 90, 270)
"""Where a label may stand around its point, in degrees, the best first."""
DISTANCES = (9, 16, 28, 42, 60, 80, 105, 135, 170)
"""How far away it may stand, in points; beyond the first two a line leads to it."""
NEAR = DISTANCES[1]
FONT_SIZE = 8


@dataclass(frozen=True, slots=True)
class Label:
    """A text for the point (x, y) of the data."""

    x: float
    y: float
    text: str
    colour: str
    bold: bool = False


@dataclass(frozen=True, slots=True)
class _Box:
    """A rectangle on the screen, in pixels."""

    left: float
    low: float
    right: float
    high: float

    def overlaps(self, other: _Box) -> bool:
        return self.left < other.right and other.left < self.right and self.low < other.high and other.low < self.high

    def within(self, other: _Box) -> bool:
        return (
            self.left >= other.left and self.right <= other.right and self.low >= other.low and self.high <= other.high
        )


def label_points(axes: Any, labels: Sequence[Label], look: Look, drawn: Iterable[tuple[float, float]] = ()) -> None:
    """Write each label near its point, the first ones first, where it covers no other label and no point.

    Nor does it cover what is `drawn` at other points, such as along a line, if another place is near. Everything else
    must be in the figure already. A label that finds no free place within the axes is put on the best one.
    """
    figure = axes.figure
    figure.draw_without_rendering()  # the layout is known now
    frame = _box(axes.get_window_extent())
    pixels = figure.dpi / 72
    points = [_around(axes, each.x, each.y, 5 * pixels) for each in labels]
    lines = [_around(axes, x, y, pixels) for x, y in drawn]
    placed: list[_Box] = []
    for at, label in enumerate(labels):
        x, y = axes.transData.transform((label.x, label.y))
        written = axes.annotate(
            drawable(label.text),
            (label.x, label.y),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=FONT_SIZE,
            color=label.colour,
            fontweight="bold" if label.bold else "normal",
            ha="left",
            va="bottom",
        )
        written.set_in_layout(False)
        extent = written.get_window_extent()
        others = [*points[:at], *points[at + 1 :]]

        def badness(place: tuple[float, _Box], others: Sequence[_Box] = others) -> float:
            distance, box = place
            return (
                1e6 * sum(map(box.overlaps, placed))
                + 1e5 * (not box.within(frame))
                + 60 * sum(map(box.overlaps, others))
                + 25 * any(map(box.overlaps, lines))
                + distance
            )

        distance, box = min(_places(x, y, extent.width, extent.height, pixels), key=badness)
        written.set_position(((box.left - x) / pixels, (box.low - y) / pixels))
        if distance > NEAR:
            _lead(axes, label, box, look)
        placed.append(box)


def label_ends(axes: Any, labels: Sequence[Label]) -> None:
    """Write labels at the right edge of the axes, each at its y, moved up or down as far as the others need it."""
    written = [_at_edge(axes, label) for label in sorted(labels, key=lambda label: label.y)]
    if not written:
        return
    axes.figure.draw_without_rendering()
    pixels, frame = axes.figure.dpi / 72, _box(axes.get_window_extent())
    wanted = [float(axes.transData.transform((0, text.xy[1]))[1]) for text in written]
    heights = [text.get_window_extent().height * 1.05 for text in written]
    for text, at, found in zip(written, wanted, _spread(wanted, heights, frame.low, frame.high), strict=True):
        text.set_position((4, (found - at) / pixels))


def label_rows(axes: Any, labels: Sequence[Label]) -> None:
    """Write labels at the right edge of the axes, each at its y, for rows that are far enough apart."""
    for label in labels:
        _at_edge(axes, label)


def _at_edge(axes: Any, label: Label) -> Any:
    return axes.annotate(
        drawable(label.text),
        (1.0, label.y),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        fontsize=FONT_SIZE,
        color=label.colour,
        fontweight="bold" if label.bold else "normal",
        va="center",
        annotation_clip=False,
    )


def _spread(wanted: Sequence[float], heights: Sequence[float], low: float, high: float) -> list[float]:
    """Return places in the order of the wanted ones, as far apart as the heights, within low..high if all fit."""
    places: list[float] = []
    for want, height in zip(wanted, heights, strict=True):
        least = low + height / 2 if not places else places[-1] + (heights[len(places) - 1] + height) / 2
        places.append(max(want, least))
    top = high
    for at in reversed(range(len(places))):
        places[at] = min(places[at], top - heights[at] / 2)
        top = places[at] - heights[at] / 2
    return places


def _places(x: float, y: float, width: float, height: float, pixels: float) -> Iterator[tuple[float, _Box]]:
    """Yield the places around a point: the distance, and the box of a text of this size there."""
    for distance, angle in product(DISTANCES, DIRECTIONS):
        across, up = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        middle_x = x + across * (distance * pixels + width / 2)
        middle_y = y + up * (distance * pixels + height / 2)
        yield distance, _Box(middle_x - width / 2, middle_y - height / 2, middle_x + width / 2, middle_y + height / 2)


def _lead(axes: Any, label: Label, box: _Box, look: Look) -> None:
    """Draw a thin line from a point to its label."""
    x, y = axes.transData.transform((label.x, label.y))
    near = min(max(x, box.left), box.right), min(max(y, box.low), box.high)
    (end_x, end_y), (start_x, start_y) = axes.transData.inverted().transform([near, (x, y)])
    (line,) = axes.plot(
        [start_x, end_x], [start_y, end_y], color=look.faint, lw=0.7, zorder=1, scalex=False, scaley=False
    )
    line.set_in_layout(False)


def _around(axes: Any, x: float, y: float, radius: float) -> _Box:
    across, up = axes.transData.transform((x, y))
    return _Box(across - radius, up - radius, across + radius, up + radius)


def _box(extent: Any) -> _Box:
    return _Box(extent.x0, extent.y0, extent.x1, extent.y1)
