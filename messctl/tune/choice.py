"""The choice: the cheapest setting that keeps the promise, and the front of cost against attainment.

A setting keeps the promise if α is met, with 95 % confidence over the seeds, on the selection requests, and in every
window of them within a quarter of a point. The requests held out take no part in that. With other prompts it must be
met, too, with 95 % confidence by `certainty`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from messctl.errors import UsageError
from messctl.policies import default_names, kind_of
from messctl.policies.base import Floats
from messctl.replay.play import replay
from messctl.replay.result import MET, Result
from messctl.tune.certainty import Sample
from messctl.tune.search import Scores, Search
from messctl.tune.windows import HELD_OUT, SELECTION, WHOLE, WINDOWS
from messctl.zoo import Settings

CONFIDENCE = 0.95
"""Of the one-sided lower bound of an attainment, over seeds."""

DRIFT = 0.0025
"""In a window, a setting may attain this much less than α, or than the best single model: a quarter of a point."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The attainment (0..1) and cost of one setting on one part of one trace: means and deviations over seeds.

    `attained_bound` is the lower bound of the mean over all possible seeds, with 95 % confidence. For a single seed
    the spreads are None, and the bound is the mean itself. `attained_low` to `attained_high` is the 95 % interval for
    other prompts. Costs are per request, in the trace's unit.
    """

    attained: float
    attained_spread: float | None
    attained_bound: float
    attained_low: float
    attained_high: float
    cost: float
    cost_spread: float | None


@dataclass(frozen=True, slots=True)
class Window:
    """The attainment (0..1) of one setting in one window: its mean and lower bound, and that of the best single model.

    `alone` is the attainment of the best single model.
    """

    attained: float
    attained_bound: float
    alone: float

    @property
    def attainable(self) -> float:
        """The highest α that is kept here; infinite if the setting is as good as the best single model."""
        most = self.attained_bound + DRIFT
        return math.inf if self.alone <= most + MET else most

    def below(self, alpha: float) -> float:
        """Return how far the bound is below α, or below the best single model if that attains less."""
        return min(alpha, self.alone) - self.attained_bound


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting and its figures by trace: on the selection requests, on those held out, and on all.

    `worst` is, by trace, the window in which it is furthest below. `debt` is Q/n at the end, by trace. `sure` is, by
    trace, the highest α that it keeps with confidence: on the selection requests, in every window, and with other
    prompts. `with_others` is the last of the three alone, and `needed` how many requests would show that it keeps its
    α with other prompts; None if no number would. `relative_cost` is the cost on the selection requests, divided by the
    mean cost of the costliest model; the mean over traces.
    """

    settings: Settings
    selection: tuple[Figures, ...]
    worst: tuple[Window, ...]
    held_out: tuple[Figures, ...]
    whole: tuple[Figures, ...]
    debt: tuple[float, ...]
    sure: tuple[float, ...]
    with_others: tuple[float, ...]
    needed: tuple[int | None, ...]
    relative_cost: float

    @property
    def attainable(self) -> float:
        """The highest α that it keeps with confidence on every trace."""
        return min(self.sure)

    def meets(self, slack: float = 0.0) -> bool:
        """Return whether it keeps at least α − `slack`."""
        return self.attainable >= self.settings.alpha - slack - MET

    @property
    def met_held_out(self) -> bool:
        """Whether the mean over seeds is at least α on the requests held out, on every trace."""
        return min(figures.attained for figures in self.held_out) >= self.settings.alpha - MET


@dataclass(frozen=True, slots=True)
class Choice:
    """The outcome for one α: all `trials`, the one `chosen`, and the `closest` to keeping the promise.

    `chosen` is None if no setting keeps the promise. `front` is sorted by the cost on the selection requests. It holds
    every trial that no cheaper one equals in attainment there, and the chosen one. `seeds` is the number of seeds that
    were played in full.
    """

    alpha: float
    trials: tuple[Trial, ...]
    chosen: Trial | None
    closest: Trial
    front: tuple[Trial, ...]
    seeds: int


def choose(found: Search, slack: float = 0.0) -> tuple[Choice, ...]:
    """Return the choice for every α of the settings, in their order; empty if no seed was completed.

    A setting may keep up to `slack` (0..1) less than α. Raises UsageError for a slack out of range.
    """
    check_slack(slack)
    seeds = found.complete_seeds()
    if not len(seeds):
        return ()
    samples = [_sample(found, trace.rounds.satisfied, len(seeds)) for trace in found.traces]
    trials = [_trial(found, samples, at, seeds) for at in range(len(found.settings))]
    choices = []
    for alpha in dict.fromkeys(settings.alpha for settings in found.settings):
        mine = [trial for trial in trials if trial.settings.alpha == alpha]
        meeting = [trial for trial in mine if trial.meets(slack)]
        # If costs are equal, the smaller V wins: it stays closer to α.
        chosen = min(meeting, key=lambda trial: (trial.relative_cost, trial.settings.weight), default=None)
        closest = max(mine, key=lambda trial: (trial.attainable, -trial.relative_cost))
        choices.append(Choice(alpha, tuple(mine), chosen, closest, _front(mine, chosen or closest), len(seeds)))
    return tuple(choices)


def check_slack(slack: float) -> None:
    """Raise UsageError if `slack` is not in 0..1."""
    if not 0.0 <= slack <= 1.0:
        raise UsageError(f"slack is {slack:g}; it must lie in 0..1")


def play_yardsticks(found: Search, alpha: float) -> tuple[tuple[Result, ...], ...]:
    """Return, by trace, the yardsticks' results on the requests held out; empty if none of them can attain α.

    If every seed holds out others, they are the results on all requests: over all possible seeds, what is held out has
    the same mean.
    """
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


def _sample(found: Search, satisfied: Floats, seeds: int) -> Sample:
    conditions, holdout = found.conditions, found.holdout
    varies = holdout.varies(conditions.shuffle)
    return Sample.of(satisfied, holdout.share, rate=conditions.feedback_rate, seeds=seeds, varies=varies)


def _trial(found: Search, samples: Sequence[Sample], at: int, seeds: npt.NDArray[np.intp]) -> Trial:
    settings, every = found.settings[at], list(zip(found.scores, samples, strict=True))
    selection, held_out, whole = (
        tuple(
            _figures(scores.attained[row, at, seeds], scores.cost[row, at, seeds], sample, row)
            for scores, sample in every
        )
        for row in (SELECTION, HELD_OUT, WHOLE)
    )
    windows = [_windows(scores, at, seeds) for scores in found.scores]
    ratios = [
        figures.cost / costliest if costliest > 0 else 1.0
        for figures, trace in zip(selection, found.traces, strict=True)
        for costliest in (float(trace.facts.mean_cost.max()),)
    ]
    others = [_with_others(scores, sample, settings, at, seeds) for scores, sample in every]
    return Trial(
        settings=settings,
        selection=selection,
        worst=tuple(max(each, key=lambda window: window.below(settings.alpha)) for each in windows),
        held_out=held_out,
        whole=whole,
        debt=tuple(float(scores.debt[at, seeds].mean()) for scores in found.scores),
        sure=tuple(
            min(figures.attained_bound, bound, *(window.attainable for window in mine))
            for figures, (bound, _), mine in zip(selection, others, windows, strict=True)
        ),
        with_others=tuple(bound for bound, _ in others),
        needed=tuple(needed for _, needed in others),
        relative_cost=float(np.mean(ratios)),
    )


def _with_others(
    scores: Scores, sample: Sample, settings: Settings, at: int, seeds: npt.NDArray[np.intp]
) -> tuple[float, int | None]:
    """Return what a setting keeps with other prompts, and how many requests would show that it keeps its α."""
    mine, best = scores.attained[WHOLE, at, seeds], scores.best_single[WHOLE, seeds]
    learns, gain = kind_of(settings.policy).learns, max(0.0, _bound(mine - best))
    mean = float(best.mean()) + gain if learns else float(mine.mean())
    return sample.bound(mine, best, learns=learns, gain=gain), sample.needed(mean, settings.alpha)


def _windows(scores: Scores, at: int, seeds: npt.NDArray[np.intp]) -> list[Window]:
    attained, single = scores.attained[WINDOWS:, at][:, seeds], scores.best_single[WINDOWS:, seeds]
    return [
        Window(float(mine.mean()), _bound(mine), float(best.mean()))
        for mine, best in zip(attained, single, strict=True)
    ]


def _figures(attained: Floats, cost: Floats, sample: Sample, row: int) -> Figures:
    several, mean = len(attained) > 1, float(attained.mean())
    low, high = sample.interval(row, mean)
    return Figures(
        attained=mean,
        attained_spread=float(attained.std(ddof=1)) if several else None,
        attained_bound=_bound(attained),
        attained_low=low,
        attained_high=high,
        cost=float(cost.mean()),
        cost_spread=float(cost.std(ddof=1)) if several else None,
    )


def _bound(values: Floats) -> float:
    """Return the 95 % lower bound of the mean over all possible seeds, by Student's t; the mean for a single seed."""
    n = len(values)
    if n == 1:
        return float(values[0])
    return float(values.mean() - _quantile(n - 1) * values.std(ddof=1) / n**0.5)


@cache
def _quantile(degrees: int) -> float:
    from scipy.special import stdtrit  # noqa: PLC0415  # half a second, for this alone

    return float(stdtrit(degrees, CONFIDENCE))


def _front(trials: list[Trial], chosen: Trial) -> tuple[Trial, ...]:
    front: list[Trial] = []
    highest = -np.inf
    for trial in sorted(trials, key=lambda trial: (trial.relative_cost, _shortfall(trial))):
        if -_shortfall(trial) > highest:
            highest = -_shortfall(trial)
            front.append(trial)
        elif trial is chosen:
            front.append(trial)
    return tuple(front)


def _shortfall(trial: Trial) -> float:
    return trial.settings.alpha - min(figures.attained for figures in trial.selection)
