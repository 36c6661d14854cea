"""Plots as files: which formats there are, how names are drawn, and how a figure is saved."""

from __future__ import annotations

import logging
import warnings
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from messctl.display.text import plain
from messctl.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg")
# Okabe and Ito's colours: colour-blind readers can tell them apart, and so can readers of a print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999", "#F0E442")


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


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size, in inches, that needs no screen."""
    _load()
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  # matplotlib is an extra, and slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415  # see above

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Any) -> None:
    """Draw a faint grid, and no frame at the top and the right."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def drawable(text: str) -> str:
    """Return a name that is drawn as it is: no formula, no control characters."""
    return plain(text).replace("$", r"\$")


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
