"""What results look like in a notebook: their tables as HTML, and their plots as pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

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


def as_text(table: RenderableType, width: int = WIDTH) -> str:
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


def picture_of(write: Callable[[Path], None]) -> Picture:
    """Return the picture that `write` draws into a file. Raises MissingExtraError without matplotlib."""
    with TemporaryDirectory(prefix="messctl-") as folder:
        path = Path(folder) / "plot.png"
        write(path)
        return Picture(path.read_bytes())


def pictures_of(write: Callable[[Path], None]) -> list[Picture]:
    """Return the picture that `write` draws, in a list; an empty list without matplotlib."""
    try:
        return [picture_of(write)]
    except MissingExtraError:
        return []


def frame_of(csv: str) -> pd.DataFrame:
    """Return a text of CSV as a data frame. Raises UsageError without pandas."""
    try:
        import pandas as pd  # noqa: PLC0415  # only for who asks for a frame
    except ImportError:
        raise UsageError("a data frame needs pandas: pip install pandas") from None
    return pd.read_csv(io.StringIO(csv))
