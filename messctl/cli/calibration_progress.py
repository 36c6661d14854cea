"""The progress of `messctl zoo calibrate`: the model, the widest interval so far, and the time that is left."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from messctl.cli.output import progress_console
from messctl.cli.progress import description

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from messctl.costs.calibration import Calibration


class CalibrationProgress:
    """A progress bar over the time that all models together may take."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task
        self._name = ""

    def begin(self, model: str, number: int, count: int) -> None:
        """Show that a model is measured now: the one with this number, from 0, of `count`."""
        self._name = f"{model} ({number + 1} of {count})"
        self._show(f"{self._name}: loading")

    def update(self, found: Calibration) -> None:
        """Show how well the costs are known after a round."""
        widest = max(found.widths.values())
        known = f"± {widest:.0%}".replace("%", " %") if math.isfinite(widest) else "first round"
        self._show(f"{self._name}: {known}")

    def _show(self, text: str) -> None:
        self._progress.update(self._task, description=text)


@contextmanager
def shown(limit_s: float) -> Iterator[CalibrationProgress]:
    """Show the progress on a terminal while the block runs, and remove it at the end."""
    from rich.progress import BarColumn, Progress, ProgressColumn, Task
    from rich.text import Text

    class TimeBar(BarColumn):
        def render(self, task: Task):  # type: ignore[no-untyped-def]  # as rich's own
            task.completed = min(task.elapsed or 0.0, limit_s)
            return super().render(task)

    class TimeLeft(ProgressColumn):
        def render(self, task: Task) -> Text:
            left = max(0, round(limit_s - (task.elapsed or 0.0)))
            return Text(f"at most {left // 60}:{left % 60:02d} left")

    screen = progress_console()
    columns = (description(), TimeBar(), TimeLeft())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        yield CalibrationProgress(progress, progress.add_task("", total=limit_s))
