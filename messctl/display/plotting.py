"""Plots as files: which formats there are, how names are drawn, and how a figure is saved."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from messctl.display.text import plain
from messctl.errors import MissingExtraError, UsageError
from messctl.outputs import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg")
WIDE = 10.0
"""Costs that span more than this factor are drawn on a logarithmic axis."""


@dataclass(frozen=True, slots=True)
class Look:
    """The colours of a plot: of its `paper`, of text (`ink`), of what stays behind (`faint`), and of curves.

    `colours` are Okabe and Ito's: colour-blind readers can tell them apart, and so can readers of a print. `scale` is
    the name of a colour map from little to much, which they can read, too.
    """

    paper: str
    ink: str
    faint: str
    good: str
    colours: tuple[str, ...]
    scale: str = "viridis"


OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LIGHT = Look("#ffffff", "#1a1a1a", "#8a8a8a", "#009E73", (*OKABE_ITO, "#000000", "#999999", "#B8A800"))
BRIGHTER = ("#4aa8e0", "#f08a4b", "#2fc49a", "#e0a0c6", "#f0b840", "#8fd0f5")
DARK = Look("#14171c", "#e8e8e8", "#8d939c", "#2fc49a", (*BRIGHTER, "#ffffff", "#b0b0b0", "#f0e442"))


def look_of(*, dark: bool) -> Look:
    """Return the look on a dark or a light ground."""
    return DARK if dark else LIGHT


def check_format(path: Path) -> None:
    """Raise UsageError for an ending other than .png or .svg, MissingExtraError without matplotlib."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: a plot is written as .png or .svg; change the ending")
    try:
        _load()
    except ImportError:
        raise MissingExtraError("matplotlib", "plot", "--plot") from None


def _load() -> None:
    """Load matplotlib as it is without anybody's settings, and let it keep to itself that there is no home folder."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import_module("matplotlib").rcdefaults()  # a matplotlibrc in the current folder may be somebody else's


def new_figure(width: float, height: float, look: Look = LIGHT) -> Figure:
    """Return an empty figure of this size, in inches, that needs no screen."""
    _load()
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  # matplotlib is an extra, and slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415  # see above

    figure = Figure(figsize=(width, height), layout="constrained", facecolor=look.paper)
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Any, look: Look = LIGHT) -> None:
    """Draw axes in the colours of a look: a faint grid, and no frame at the top and the right."""
    axes.set_facecolor(look.paper)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(look.faint)
    axes.tick_params(which="both", colors=look.ink, labelcolor=look.ink)
    axes.xaxis.label.set_color(look.ink)
    axes.yaxis.label.set_color(look.ink)
    axes.set_axisbelow(True)
    axes.grid(alpha=0.25, color=look.faint)


def name_panel(axes: Any, title: str, look: Look) -> None:
    """Write a panel's title above its left edge."""
    axes.set_title(title, loc="left", fontsize=11, color=look.ink)


def scale_costs(axis: Any, costs: Iterable[float], unit: str) -> None:
    """Let an axis of costs be logarithmic if the positive ones span a factor of WIDE, with plain numbers at its ticks.

    `axis` is one of matplotlib's two axes of a panel.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: PLC0415  # matplotlib is an extra

    positive = [cost for cost in costs if cost > 0]
    if positive and max(positive) >= WIDE * min(positive):
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})
        subs = (1.0, 2.0, 5.0) if max(positive) < 100 * min(positive) else (1.0,)
        axis.set_major_locator(LogLocator(subs=subs))
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    axis.set_label_text(drawable(unit))


def limits_around(values: Sequence[float], *, log: bool) -> tuple[float, float]:
    """Return the limits of an axis with room around values."""
    low, high = min(values), max(values)
    if log:
        room = (high / low) ** 0.08
        return low / room, high * room
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return low - room, high + room


def drawable(text: str) -> str:
    """Return a name that is drawn as it is: no formula, no control characters."""
    return plain(text).replace("$", r"\$")


def write_figure(figure: Figure, path: Path, warn: Callable[[str], None]) -> None:
    """Write a figure to a file; `warn` gets a line if the font lacks characters of its texts. Raises OutputError."""
    with atomic_write(path) as aside:
        complete = save(figure, aside, path.suffix)
    if not complete:
        warn(f"{path}: the font lacks some characters of the names; the plot shows boxes instead")


def save(figure: Figure, file: Path, ending: str) -> bool:
    """Save a figure to `file`, in the format of the `ending`; the same figure gives the same bytes.

    Returns whether the font has all characters of the texts. Boxes are drawn instead of those that it lacks.
    """
    from matplotlib import rc_context  # noqa: PLC0415  # matplotlib is an extra

    kind = ending.lower()[1:]
    # An SVG would hold today's date, and random names.
    metadata = {"Date": None} if kind == "svg" else {}
    with rc_context({"svg.hashsalt": "messctl"}), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(file, format=kind, dpi=130, metadata=metadata)
    return not any(str(each.message).startswith("Glyph") for each in caught)
