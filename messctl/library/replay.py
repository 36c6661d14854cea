"""Replay: a trace is played through the router and its rivals."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from messctl.display.plotting import Look
from messctl.library.notebook import Shown, frame_of
from messctl.library.settings import settings_with
from messctl.library.trace import Trace
from messctl.replay import report
from messctl.replay.holdout import Holdout
from messctl.replay.plot import write_plot
from messctl.replay.result import Conditions, Replay, Result
from messctl.replay.run import Plan, run

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType


@dataclass(frozen=True, repr=False)
class Replayed(Shown):
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

    def to_pandas(self) -> pd.DataFrame:
        """Return a data frame with a row per policy. Raises UsageError without pandas."""
        return frame_of(report.as_csv(self.replay))

    def _table(self, width: int) -> RenderableType:
        return report.table(self.replay, width)

    def _draw(self, path: Path, warn: Callable[[str], None], look: Look) -> None:
        write_plot(self.replay, path, warn, look)

    @property
    def _has_plot(self) -> bool:
        return not self.replay.streamed


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
