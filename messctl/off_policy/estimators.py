"""The estimators: what a target policy would have attained or cost, from another policy's log.

With the target's probability π of the model that the log served, the propensity p, the observed value r and the
weight w = π/p, over the n rows with a value:

    IPS     mean of w·r                          Horvitz and Thompson (1952)
    SNIPS   Σ w·r / Σ w                          Swaminathan and Joachims (2015)
    DM      mean of Σ_m π_m·r̂_m                  the direct method: as good as the model r̂
    DR      DM + mean of w·(r − r̂)               Dudík, Langford and Li (2011)

Horvitz and Thompson, *A generalization of sampling without replacement from a finite universe* (1952); Swaminathan and
Joachims, *The self-normalized estimator for counterfactual learning* (2015); Dudík, Langford and Li, *Doubly robust
policy evaluation and learning* (2011).

IPS is unbiased where p > 0 for whatever the target serves, and DR too, whatever r̂ says of rows that it was not
fitted on; SNIPS is off by the order of 1/n, and varies less. All of that takes a π that no row's own outcome has
touched: with imputation, the odds of a target that learns depend on a model that was fitted on other rows, later ones
too, and IPS and DR are not exactly unbiased then. Whether feedback comes must not depend on how good the
answer was. Intervals are of 95 %, by the asymptotic variance; DM has none, since nobody knows how wrong r̂ is.
Where what the target serves is rare in the log, such an interval is too narrow, since the few large weights that would
widen it are not there: of costs from 2,000 requests that the bandit served, DR's held the truth in 61 to 91 % of logs
(`benchmarks/off_policy.py`). Those of attainment are widened, see `share_interval`, and held it in 95 to 100 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from messctl.policies.base import Floats
from messctl.state.ledger import CONFIDENCE_Z

Z2 = CONFIDENCE_Z**2
SURE_Z = 3.0
"""So many standard errors away is no luck: there are several models, and the weights of rare ones are skewed."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and its 95 % interval; None where nothing can be said."""

    mean: float | None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Overlap:
    """How much of the target the log holds.

    `effective` is the effective sample size (Σw)² / Σw², in rows. `mean_weight` is 1, but for luck, where the log could
    have taken whatever the target does, those with p > 0. `uncovered` (0..1) is the share of the target's decisions
    that the log does not cover, as far as that is sure: by model, the mean π less three standard errors above the mean
    weight on what that model served. Of a model that never served all π counts: either the log could not have taken
    it, or so seldom (p < 3/n, by the rule of three, at 95 %) that it tells nothing of it. `matched` is the mean π of
    what was served: the share of the log's decisions that the target would have taken too.
    """

    effective: float
    mean_weight: float
    uncovered: float
    matched: float

    @classmethod
    def of(cls, weight: Floats, served: npt.NDArray[np.int64], odds: Floats) -> Overlap:
        """Measure it on the weights (n,), the models served (n,), and the target's odds (n, models)."""
        n, models = odds.shape
        if not n:
            return cls(0.0, 0.0, 1.0, 0.0)
        by_model = np.where(served[:, None] == np.arange(models), weight[:, None], 0.0)
        high = by_model.mean(axis=0) + SURE_Z * by_model.std(axis=0) / np.sqrt(n)
        lacking = float(np.maximum(0.0, odds.mean(axis=0) - high).sum())
        matched = float(odds[np.arange(n), served].mean())
        return cls(effective_size(weight), float(weight.mean()), min(1.0, lacking), matched)


def effective_size(weight: Floats) -> float:
    """Return Kish's effective sample size, 0..n."""
    squares = float((weight**2).sum())
    return float(weight.sum()) ** 2 / squares if squares > 0 else 0.0


def ips(weight: Floats, value: Floats) -> Estimate:
    """Inverse propensity scores: weights and values are (n,)."""
    return _mean(weight * value, effective_size(weight))


def snips(weight: Floats, value: Floats) -> Estimate:
    """Self-normalised inverse propensity scores."""
    total = float(weight.sum())
    if not total > 0:
        return Estimate(None)
    mean = float((weight * value).sum() / total)
    variance = float((weight**2 * (value - mean) ** 2).sum()) / total**2
    return Estimate(mean, _interval(mean, variance, effective_size(weight)))


def direct(odds: Floats, expected: Floats) -> Estimate:
    """The direct method: the target's odds and the reward model's expectations are (n, models)."""
    return Estimate(float(_under(odds, expected).mean())) if len(odds) else Estimate(None)


def doubly_robust(
    weight: Floats, value: Floats, served: npt.NDArray[np.int64], odds: Floats, expected: Floats
) -> Estimate:
    """Doubly robust: the direct method, corrected by the weighed errors of its model on what was served, (n,)."""
    missed = value - expected[np.arange(len(served)), served]
    return _mean(_under(odds, expected) + weight * missed, effective_size(weight))


def _under(odds: Floats, expected: Floats) -> Floats:
    return np.asarray((odds * expected).sum(axis=1))


def _mean(terms: Floats, effective: float) -> Estimate:
    """Return the mean of the terms, (n,)."""
    if not len(terms):
        return Estimate(None)
    mean = float(terms.mean())
    return Estimate(mean, _interval(mean, float(terms.var()) / len(terms), effective))


def _interval(mean: float, variance: float, effective: float) -> tuple[float, float] | None:
    """Return the normal interval, its variance that of a sample: None where there is but one row to go by."""
    if effective <= 1.0 + 1e-9:
        return None
    half = CONFIDENCE_Z * float(np.sqrt(variance * effective / (effective - 1.0)))
    return mean - half, mean + half


def share_interval(estimate: Estimate, effective: float, below: float, above: float) -> Estimate:
    """Return the estimate of a mean of values in 0..1, with an interval that says no more than the log does.

    It reaches at least Z²/(n + Z²) to both sides, n the effective sample size, as Wilson's interval does where all
    values are alike: that none of few missed does not say that none will. And it reaches `below` and `above` further,
    for what the log never tried; both are in 0..1. A mean beyond 0..1, which heavy weights can give, is put to its end.
    """
    if estimate.mean is None:
        return estimate
    low, high = estimate.interval or (0.0, 1.0)
    mean, half = min(1.0, max(0.0, estimate.mean)), Z2 / (effective + Z2)
    low, high = min(low, mean - half) - below, max(high, mean + half) + above
    return Estimate(mean, (min(1.0, max(0.0, low)), max(0.0, min(1.0, high))))
