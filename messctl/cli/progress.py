"""Progress on stderr: a spinner, and a progress bar, each with a text. Names in it are data.

Rich reads the text of a spinner and of a bar as markup, whatever its console says. So `[/b]` in a model's name would be
an error, and an escape sequence would reach the terminal. Use what is here instead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from messctl.cli.output import progress_console
from messctl.display.text import plain

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

Update = Callable[..., None]
"""Changes a progress bar, by the keywords of Rich's `Progress.update`: `completed`, `total`, `description`."""


@contextmanager
def spinner(text: str) -> Iterator[Callable[[str], None]]:
    """Show a spinner with a text on stderr, if that is a terminal; yield the function that replaces the text."""
    from rich.text import Text

    with progress_console().status(Text(plain(text))) as status:
        yield lambda changed: status.update(Text(plain(changed)))


@contextmanager
def progress_bar(text: str, *, total: int | None = None, done: int = 0, share: bool = False) -> Iterator[Update]:
    """Show a progress bar with a text on stderr, if that is a terminal; yield the function that changes it.

    It counts what is done, or shows the `share` of it.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (description(), BarColumn(), percentage() if share else MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=progress_console(), transient=True, disable=not sys.stderr.isatty()) as bar:
        yield partial(bar.update, bar.add_task(text, total=total, completed=done))


def description() -> ProgressColumn:
    """Return the column of a progress bar that shows the description of its task."""
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Description(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(plain(task.description))

    return Description()


def percentage() -> ProgressColumn:
    """Return the column of a progress bar that shows how much is done."""
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Percentage(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.percentage:>3.0f} %")

    return Percentage()
