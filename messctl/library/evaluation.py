"""Evaluation: what another policy would have attained and cost, by a live log."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from messctl import off_policy
from messctl.backends import encoder_of
from messctl.display.plotting import Look
from messctl.display.tables import csv_of
from messctl.library.notebook import Shown, frame_of
from messctl.library.settings import settings_with
from messctl.library.trace import Trace
from messctl.off_policy import Evaluation, report
from messctl.off_policy.estimators import Estimate
from messctl.off_policy.evaluation import PolicyEstimates
from messctl.off_policy.plot import write_plot
from messctl.policies import kind_of
from messctl.state.place import Place, place_of
from messctl.zoo import Settings

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType


@dataclass(frozen=True, repr=False)
class Evaluated(Shown):
    """The estimates of every policy. A notebook shows their table and plot."""

    evaluation: Evaluation

    @property
    def results(self) -> tuple[PolicyEstimates, ...]:
        """The estimates, by policy."""
        return self.evaluation.results

    def document(self) -> dict[str, Any]:
        """Return what `messctl evaluate --json` prints; docs/json.md has its keys."""
        return report.document(self.evaluation)

    def to_pandas(self) -> pd.DataFrame:
        """Return a data frame with a row per policy and estimator. Raises UsageError without pandas."""
        rows = [
            {
                "policy": result.policy,
                "estimator": each.estimator,
                **_with_bounds("attained", each.attained),
                **_with_bounds("cost", each.cost),
            }
            for result in self.results
            for each in result.estimates
        ]
        return frame_of(csv_of(rows, rows[0]))

    def _table(self, width: int) -> RenderableType:
        return report.table(self.evaluation, width)

    def _draw(self, path: Path, warn: Callable[[str], None], look: Look) -> None:
        write_plot(self.evaluation, path, warn, look)


def _with_bounds(name: str, estimate: Estimate) -> dict[str, float | None]:
    low, high = estimate.interval or (None, None)
    return {name: estimate.mean, f"{name}_low": low, f"{name}_high": high}


def evaluate(
    log: Trace | str | os.PathLike[str],
    policies: Sequence[str] | str | None = None,
    *,
    alpha: float | None = None,
    skip_forced: bool = False,
    impute: bool = True,
    zoo: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Evaluated:
    """Estimate from a live log what policies would have attained and cost; without any, the settings' policy.

    `log` is a trace that `messctl export` wrote, or a state. `settings` and `zoo` are as for `replay`; the other
    options are those of `messctl evaluate`. Raises UsageError, TraceError, StoreError and ConfigError.
    """
    place = log.path if isinstance(log, Trace) else place_of(os.fspath(log))
    names = [policies] if isinstance(policies, str) else policies
    known = settings_with(None if zoo is None else Path(zoo), {"alpha": alpha, **settings})
    return Evaluated(estimate(place, names, known, skip_forced=skip_forced, impute=impute))


def estimate(
    log: Place,
    policies: Sequence[str] | None,
    settings: Settings,
    *,
    skip_forced: bool,
    impute: bool,
    progress: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Evaluate the policies on the log; without any, the policy of the settings. `progress` gets what is being done."""
    policies = policies or [settings.policy]
    for name in policies:
        kind_of(name)  # an unknown name is an error before the log is read
    encoder = encoder_of(settings)
    return off_policy.evaluate(
        off_policy.read(log, encoder, settings.reference, skip_forced=skip_forced),
        policies,
        settings,
        encoder,
        impute=impute,
        progress=lambda name: progress(f"replaying {name}"),
    )
