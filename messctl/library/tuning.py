"""Tuning: the cheapest setting that keeps the promise, found by replay."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from messctl.backends import encoder_of
from messctl.display.plotting import Look
from messctl.graders.equality import FORMS
from messctl.library.notebook import Shown, frame_of
from messctl.library.settings import settings_with
from messctl.library.trace import Trace, trace_of
from messctl.replay.holdout import Holdout
from messctl.replay.loading import load
from messctl.replay.result import Conditions
from messctl.trace import TraceFile
from messctl.tune import check_engine, check_slack, parse_space, report, search
from messctl.tune.plot import write_plot
from messctl.tune.space import SINGLE
from messctl.tune.tuning import Tuning, concluded
from messctl.zoo import Settings

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

Values = float | str | Sequence[float | str] | None


@dataclass(frozen=True, repr=False)
class Tuned(Shown):
    """A search and its choices. A notebook shows its table and its plot."""

    tuning: Tuning
    traces: tuple[Trace, ...] = ()

    @property
    def chosen(self) -> Settings | None:
        """The chosen settings for the first α; None if none keeps the promise."""
        return self.tuning.chosen.settings if self.tuning.chosen else None

    def document(self) -> dict[str, Any]:
        """Return what `messctl tune --json` prints; docs/json.md has its keys."""
        return report.document(self.tuning)

    def to_pandas(self) -> pd.DataFrame:
        """Return a data frame with a row per setting and trace. Raises UsageError without pandas."""
        return frame_of(report.as_csv(self.tuning))

    def _table(self, width: int) -> RenderableType:
        return report.table(self.tuning, width)

    def _draw(self, path: Path, warn: Callable[[str], None], look: Look) -> None:
        write_plot(self.tuning, path, warn, look)


def tune(
    traces: Trace | str | os.PathLike[str] | Sequence[Trace | str | os.PathLike[str]],
    *,
    alpha: Values = None,
    policies: Sequence[str] | str | None = None,
    margin: Values = None,
    v: Values = None,
    c: Values = None,
    exponent: Values = None,
    seeds: int = 10,
    shuffle: bool | None = None,
    feedback_rate: float = 1.0,
    feedback_delay: int = 0,
    holdout: float = 0.3,
    holdout_by: str = "time",
    slack: float = 0.0,
    engine: str = "threads",
    address: str | None = None,
    zoo: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Tuned:
    """Search the settings that keep the promise `alpha` at the least cost, on one or several traces.

    `alpha`, `margin`, `v`, `c` and `exponent` are a value or several, or a grid such as "0.1:10:5". The `settings` and
    the file `zoo` are as for `replay`; the other options are those of `messctl tune`. Raises UsageError, TraceError and
    ConfigError.
    """
    several = [traces] if isinstance(traces, Trace | str | os.PathLike) else list(traces)
    read = tuple(trace_of(trace) for trace in several)
    paths = [trace.path for trace in read]
    base = settings_with(None if zoo is None else Path(zoo), dict(settings))
    names = [policies] if isinstance(policies, str) else policies
    lists = {"alpha": alpha, "margin": margin, "v": v, "c": c, "exponent": exponent}
    space = parse_space(base, with_models(names, paths), **{name: _texts(values) for name, values in lists.items()})
    check_slack(slack)
    check_engine(engine, address)
    conditions = Conditions(seeds, untimed(paths) if shuffle is None else shuffle, feedback_rate, feedback_delay)
    zoo_path = None if zoo is None else Path(zoo)
    cache = not any(trace.is_temporary for trace in read)
    tuning = searched(
        paths, space.settings(base), conditions, Holdout(holdout, holdout_by), cache=cache, zoo=zoo_path, slack=slack,
        engine=engine, address=address,
    )  # fmt: skip
    return Tuned(tuning, read)


def _texts(values: Values) -> list[str] | None:
    if values is None:
        return None
    return [str(values)] if isinstance(values, float | int | str) else [str(value) for value in values]


def searched(
    traces: Sequence[Path],
    settings: Sequence[Settings],
    conditions: Conditions,
    holdout: Holdout,
    *,
    cache: bool,
    zoo: Path | None,
    slack: float,
    engine: str,
    address: str | None,
    status: Callable[[str], None] = lambda _: None,
    advance: Callable[[int, int], None] = lambda _, __: None,
) -> Tuning:
    """Search the settings, choose one for each α, and play the yardsticks.

    `address` is the engine's. With `cache`, the features of a large trace are stored beside it. `status` gets what is
    being done, `advance` the work done and all of it.
    """
    status("reading")
    first, encoder = settings[0], encoder_of(settings[0])
    reading = partial(load, reference=first.reference, cache=cache, encoder=encoder, equal=FORMS[first.equal])
    recordings = [reading(trace) for trace in dict.fromkeys(traces)]
    status(f"{len(settings):,} settings × {conditions.seeds} seeds")
    found = search(recordings, settings, conditions, holdout, engine=engine, address=address, progress=advance)
    return concluded(found, slack, zoo, status)


def with_models(policies: Sequence[str] | None, traces: Sequence[Path]) -> list[str]:
    """Return the policies, with one for each model that all traces have in place of `always`."""
    if SINGLE not in (policies or ()):
        return list(policies or ())
    models = [TraceFile(trace).models for trace in traces]
    singles = [f"{SINGLE}:{model}" for model in models[0] if all(model in each for each in models)]
    return [name for each in policies or () for name in (singles if each == SINGLE else [each])]


def untimed(traces: Sequence[Path]) -> bool:
    """Return whether some trace does not say when its requests arrived."""
    return not all(TraceFile(trace).timed for trace in traces)
