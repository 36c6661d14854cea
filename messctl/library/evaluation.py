"""Evaluation: what another policy would have attained and cost, by a live log."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from messctl import off_policy
from messctl.backends import encoder_of
from messctl.display.plotting import look_of
from messctl.library.notebook import Picture, as_html, as_text, frame_of, picture_of, pictures_of
from messctl.library.settings import settings_with
from messctl.library.trace import Trace
from messctl.off_policy import Evaluation, report
from messctl.off_policy.evaluation import PolicyEstimates
from messctl.off_policy.plot import write_plot
from messctl.policies import kind_of
from messctl.state.place import Place, place_of
from messctl.zoo import Settings

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Evaluated:
    """The estimates of every policy. A notebook shows their table and plot."""

    evaluation: Evaluation

    @property
    def results(self) -> tuple[PolicyEstimates, ...]:
        """The estimates, by policy."""
        return self.evaluation.results

    def document(self) -> dict[str, Any]:
        """Return what `messctl evaluate --json` prints; docs/json.md has its keys."""
        return report.document(self.evaluation)

    def table(self, width: int = 120) -> str:
        """Return the table that `messctl evaluate` prints, for a width in characters."""
        return as_text(report.table(self.evaluation, width), width)

    def to_pandas(self) -> pd.DataFrame:
        """Return a data frame with a row per policy and estimator. Raises UsageError without pandas."""
        rows = ["policy,estimator,attained,attained_low,attained_high,cost,cost_low,cost_high"]
        for result in self.results:
            for each in result.estimates:
                bounds = [each.attained.mean, *(each.attained.interval or ("", ""))]
                bounds += [each.cost.mean, *(each.cost.interval or ("", ""))]
                name = result.policy.replace('"', '""')
                rows.append(",".join([f'"{name}"', each.estimator, *map(str, bounds)]))
        return frame_of("\n".join(rows))

    def plot(self, path: str | os.PathLike[str] | None = None, *, dark: bool = False) -> Picture:
        """Return the plot of the intervals as a picture, and write it to a .png or .svg file if there is a `path`.

        Raises UsageError, MissingExtraError without matplotlib, OutputError.
        """
        look = look_of(dark=dark)
        if path is not None:
            write_plot(self.evaluation, Path(path), warnings.warn, look)
        return picture_of(lambda file: write_plot(self.evaluation, file, look=look))

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        drawn = pictures_of(lambda file: write_plot(self.evaluation, file))
        return as_html(report.table(self.evaluation, 120), *drawn)


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
