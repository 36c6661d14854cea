"""Replay: a trace is played through the router and its rivals."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from messctl.display.plotting import look_of
from messctl.library.notebook import Picture, as_html, as_text, frame_of, picture_of, pictures_of
from messctl.library.settings import settings_with
from messctl.library.trace import Trace
from messctl.replay import report
from messctl.replay.holdout import Holdout
from messctl.replay.plot import write_plot
from messctl.replay.result import Conditions, Replay, Result
from messctl.replay.run import Plan, run

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Replayed:
    """What every policy attained and cost. A notebook shows its table and its plot.

    `replay` has all of it. `trace` is what was played, which keeps a temporary file.
    """

    replay: Replay
    trace: Trace | None = None

    @property
    def results(self) -> tuple[Result, ...]:
        """The results, one per policy."""
        return self.replay.results

    @property
    def judged(self) -> Result:
        """The result of the policy whose promise counts."""
        return self.replay.judged

    def __getitem__(self, policy: str) -> Result:
        """Return the result of a policy. Raises KeyError."""
        return {result.policy: result for result in self.results}[policy]

    def document(self) -> dict[str, Any]:
        """Return what `messctl replay --json` prints; docs/json.md has its keys."""
        return report.document(self.replay)

    def table(self, width: int = 120) -> str:
        """Return the table that `messctl replay` prints, for a width in characters."""
        return as_text(report.table(self.replay, width), width)

    def to_pandas(self) -> pd.DataFrame:
        """Return a data frame with a row per policy. Raises UsageError without pandas."""
        return frame_of(report.as_csv(self.replay))

    def plot(self, path: str | os.PathLike[str] | None = None, *, dark: bool = False) -> Picture:
        """Return the plot as a picture, and write it to a .png or .svg file if there is a `path`.

        Raises UsageError if the replay was streamed, MissingExtraError without matplotlib, OutputError.
        """
        look = look_of(dark=dark)
        if path is not None:
            write_plot(self.replay, Path(path), warnings.warn, look)
        return picture_of(lambda file: write_plot(self.replay, file, look=look))

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        drawn = [] if self.replay.streamed else pictures_of(lambda file: write_plot(self.replay, file))
        return as_html(report.table(self.replay, 120), *drawn)


def replay(
    trace: Trace | str | os.PathLike[str],
    policies: Sequence[str] | str | None = None,
    *,
    alpha: float | None = None,
    seeds: int = 1,
    shuffle: bool = False,
    feedback_rate: float = 1.0,
    feedback_delay: int = 0,
    replicas: int = 1,
    holdout: float | None = None,
    holdout_by: str = "time",
    prompt_costs: bool = False,
    stream: bool | None = None,
    zoo: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Replayed:
    """Play a trace, or the one in a file, through policies; without any, through all.

    `alpha` (0..1) is the promised share of satisfied answers. `settings` are those of `messctl.zoo.Settings`, such as
    `margin`, `v` or `seed`; the rest of them come from the file `zoo`, or are the defaults. The other options are those
    of `messctl replay`. Raises UsageError, ConfigError and TraceError.
    """
    read = trace if isinstance(trace, Trace) else None
    path = trace.path if isinstance(trace, Trace) else Path(trace)
    names = (policies,) if isinstance(policies, str) else tuple(policies) if policies is not None else None
    plan = Plan(
        path,
        names,
        settings_with(None if zoo is None else Path(zoo), {"alpha": alpha, **settings}),
        Conditions(seeds, shuffle, feedback_rate, feedback_delay, replicas),
        None if holdout is None else Holdout(holdout, holdout_by),
        prompt_costs,
        None if zoo is None else Path(zoo),
        stream,
        cache=read is None or not read.is_temporary,
    )
    return Replayed(run(plan, lambda text: warnings.warn(text, stacklevel=3)), read)
