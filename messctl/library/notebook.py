"""What results look like in a notebook: their tables as HTML, and their plots as pictures."""

from __future__ import annotations

import base64
import io
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from messctl.display.plotting import LIGHT, Look, look_of
from messctl.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

WIDTH = 120
"""The width of a table, in characters."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A plot that a notebook shows. `png` are the bytes of its file."""

    png: bytes = field(repr=False)

    def _repr_png_(self) -> bytes:
        return self.png


def as_text(table: RenderableType, width: int) -> str:
    """Return a table as plain text."""
    from rich.console import Console  # noqa: PLC0415  # a program that shows no table needs none

    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False, markup=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def as_html(table: RenderableType, *pictures: Picture) -> str:
    """Return a table and pictures as HTML."""
    from rich.console import Console  # noqa: PLC0415  # see above

    console = Console(file=io.StringIO(), width=WIDTH, record=True, highlight=False, markup=False)
    console.print(table)
    style = "font-family:monospace;line-height:1.2;white-space:pre"
    text = console.export_html(inline_styles=True, code_format=f'<pre style="{style}">{{code}}</pre>')
    images = (base64.b64encode(picture.png).decode() for picture in pictures)
    return text + "".join(f'<img style="max-width:100%" src="data:image/png;base64,{image}">' for image in images)


class Shown(ABC):
    """A result with a table, and with a plot that a notebook shows below it."""

    @abstractmethod
    def _table(self, width: int) -> RenderableType:
        """Return the table, for a width in characters."""

    @abstractmethod
    def _draw(self, path: Path, warn: Callable[[str], None], look: Look) -> None:
        """Write the plot to a file. Raises UsageError, MissingExtraError, OutputError."""

    @property
    def _has_plot(self) -> bool:
        return True

    def table(self, width: int = WIDTH) -> str:
        """Return the table that the command prints, for a width in characters."""
        return as_text(self._table(width), width)

    def plot(self, path: str | os.PathLike[str] | None = None, *, dark: bool = False) -> Picture:
        """Return the plot as a picture, and write it to a .png or .svg file if there is a `path`.

        Raises UsageError if there is nothing to draw, MissingExtraError without matplotlib, OutputError.
        """
        look = look_of(dark=dark)
        if path is not None:
            self._draw(Path(path), warnings.warn, look)
        return self._picture(look)

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        pictures = []
        if self._has_plot:
            with suppress(MissingExtraError):
                pictures.append(self._picture(LIGHT))
        return as_html(self._table(WIDTH), *pictures)

    def _picture(self, look: Look) -> Picture:
        with TemporaryDirectory(prefix="messctl-") as folder:
            path = Path(folder) / "plot.png"
            self._draw(path, lambda _: None, look)
            return Picture(path.read_bytes())


def frame_of(csv: str) -> pd.DataFrame:
    """Return a text of CSV as a data frame. Raises UsageError without pandas."""
    try:
        import pandas as pd  # noqa: PLC0415  # only for who asks for a frame
    except ImportError:
        raise UsageError("a data frame needs pandas: pip install pandas") from None
    return pd.read_csv(io.StringIO(csv))
