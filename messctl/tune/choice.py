"""The choice: the cheapest setting that keeps the promise for sure, and the front of cost against attainment."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from messctl.errors import UsageError
from messctl.policies import default_names, kind_of
from messctl.policies.base import Floats
from messctl.replay.play import MET, Result, replay
from messctl.tune.search import Scores, Search
from messctl.tune.windows import CHOSEN_ON, HELD_OUT, WHOLE, WINDOWS
from messctl.zoo import Settings

CONFIDENCE = 0.95

DRIFT = 0.0025
"""In a window a setting may stay so far below α, and below the best model there: a quarter of a point."""


@dataclass(frozen=True, slots=True)
class Level:
    """What one setting came to on one part of one trace: means over seeds, and their standard deviations.

    `attained_bound` is what the mean over all possible seeds is not below, with 95 % confidence. Spreads are None,
    and the bound is the mean itself, for a single seed. Costs are per request, in the trace's unit.
    """

    attained: float
    attained_spread: float | None
    attained_bound: float
    cost: float
    cost_spread: float | None


@dataclass(frozen=True, slots=True)
class Window:
    """What one setting attained in one window, for sure, and what the best model alone attains there."""

    attained: float
    attained_bound: float
    alone: float

    @property
    def promised(self) -> float:
        """The highest α that is kept here; any, where it is as good as the best model: nobody can ask for more."""
        most = self.attained_bound + DRIFT
        return math.inf if self.alone <= most + MET else most

    def below(self, alpha: float) -> float:
        """Return how far it stays below α, or below the best model where that is less."""
        return min(alpha, self.alone) - self.attained_bound


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting, with its levels by trace: on the requests to choose on, those held out, and all.

    `worst` is the window, by trace, in which it stays the furthest below. `debt` is Q/n at the end, by trace, and
    `promised` the highest α that it attains for sure on the requests to choose on, and in every window, on every
    trace. `relative_cost` is the mean over traces of what was paid on the requests to choose on, divided by the
    costliest model's mean cost.
    """

    settings: Settings
    chosen_on: tuple[Level, ...]
    worst: tuple[Window, ...]
    held_out: tuple[Level, ...]
    whole: tuple[Level, ...]
    debt: tuple[float, ...]
    promised: float
    relative_cost: float

    def keeps(self, slack: float = 0.0) -> bool:
        """Whether what it attains for sure is at most `slack` below α."""
        return self.promised >= self.settings.alpha - slack - MET

    @property
    def kept_held_out(self) -> bool:
        """Whether the mean over seeds kept the promise on the requests held out, on every trace."""
        return min(level.attained for level in self.held_out) >= self.settings.alpha - MET


@dataclass(frozen=True, slots=True)
class Choice:
    """For one α: all `trials`, the one `chosen`, None where none keeps the promise, and the one that comes `closest`.

    `front` holds, by rising cost on the requests to choose on, every trial that no other beats in both cost and
    attainment there, and the chosen one. `seeds` is how many are counted.
    """

    alpha: float
    trials: tuple[Trial, ...]
    chosen: Trial | None
    closest: Trial
    front: tuple[Trial, ...]
    seeds: int


def choose(found: Search, slack: float = 0.0) -> tuple[Choice, ...]:
    """Return the choice for every α of the settings, in their order; empty where no seed was completed.

    A setting keeps its promise where what it attains for sure is at most `slack` below α. Raises UsageError for a
    slack that is none.
    """
    check(slack)
    seeds = found.complete_seeds()
    if not len(seeds):
        return ()
    trials = [_trial(found, at, seeds) for at in range(len(found.settings))]
    choices = []
    for alpha in dict.fromkeys(settings.alpha for settings in found.settings):
        mine = [trial for trial in trials if trial.settings.alpha == alpha]
        keeping = [trial for trial in mine if trial.keeps(slack)]
        # Equal costs: the smaller V, which keeps closer to α.
        chosen = min(keeping, key=lambda trial: (trial.relative_cost, trial.settings.weight), default=None)
        closest = max(mine, key=lambda trial: (trial.promised, -trial.relative_cost))
        choices.append(Choice(alpha, tuple(mine), chosen, closest, _front(mine, chosen or closest), len(seeds)))
    return tuple(choices)


def check(slack: float) -> None:
    """Raise UsageError for a slack that is none."""
    if not 0.0 <= slack <= 1.0:
        raise UsageError(f"slack is {slack:g}; it must lie in 0..1")


def yardsticks(found: Search, alpha: float) -> tuple[tuple[Result, ...], ...]:
    """Return, by trace, what the yardsticks come to on the requests held out; none where α is beyond all of them."""
    settings = replace(found.settings[0], alpha=alpha)
    conditions = replace(found.conditions, seeds=1)
    results = []
    for trace in found.traces:
        names = [name for name in default_names(trace.rounds.zoo.models) if not kind_of(name).learns]
        try:
            results.append(replay(trace, names, settings, conditions, holdout=found.holdout).results)
        except UsageError:
            results.append(())
    return tuple(results)


def _trial(found: Search, at: int, seeds: npt.NDArray[np.intp]) -> Trial:
    settings = found.settings[at]
    chosen_on, held_out, whole = (
        tuple(_level(scores.attained[row, at, seeds], scores.cost[row, at, seeds]) for scores in found.scores)
        for row in (CHOSEN_ON, HELD_OUT, WHOLE)
    )
    windows = [_windows(scores, at, seeds) for scores in found.scores]
    ratios = [
        level.cost / costliest if costliest > 0 else 1.0
        for level, trace in zip(chosen_on, found.traces, strict=True)
        for costliest in (float(trace.mean_cost.max()),)
    ]
    return Trial(
        settings=settings,
        chosen_on=chosen_on,
        worst=tuple(max(each, key=lambda window: window.below(settings.alpha)) for each in windows),
        held_out=held_out,
        whole=whole,
        debt=tuple(float(scores.debt[at, seeds].mean()) for scores in found.scores),
        promised=min(
            *(level.attained_bound for level in chosen_on), *(window.promised for each in windows for window in each)
        ),
        relative_cost=float(np.mean(ratios)),
    )


def _windows(scores: Scores, at: int, seeds: npt.NDArray[np.intp]) -> list[Window]:
    attained, alone = scores.attained[WINDOWS:, at][:, seeds], scores.alone[WINDOWS:, seeds]
    return [
        Window(float(mine.mean()), _bound(mine), float(best.mean())) for mine, best in zip(attained, alone, strict=True)
    ]


def _level(attained: Floats, cost: Floats) -> Level:
    several = len(attained) > 1
    return Level(
        attained=float(attained.mean()),
        attained_spread=float(attained.std(ddof=1)) if several else None,
        attained_bound=_bound(attained),
        cost=float(cost.mean()),
        cost_spread=float(cost.std(ddof=1)) if several else None,
    )


def _bound(values: Floats) -> float:
    """Return what the mean over all possible seeds is not below, with 95 % confidence; the mean, for a single one."""
    many = len(values)
    if many == 1:
        return float(values[0])
    return float(values.mean() - _quantile(many - 1) * values.std(ddof=1) / many**0.5)


@cache
def _quantile(degrees: int) -> float:
    from scipy.special import stdtrit  # noqa: PLC0415  # half a second, for this alone

    return float(stdtrit(degrees, CONFIDENCE))


def _front(trials: list[Trial], chosen: Trial) -> tuple[Trial, ...]:
    front: list[Trial] = []
    highest = -np.inf
    for trial in sorted(trials, key=lambda trial: (trial.relative_cost, _margin(trial))):
        if -_margin(trial) > highest:
            highest = -_margin(trial)
            front.append(trial)
        elif trial is chosen:
            front.append(trial)
    return tuple(front)


def _margin(trial: Trial) -> float:
    return trial.settings.alpha - min(level.attained for level in trial.chosen_on)
