"""The estimators: the attainment or cost of a target policy, from the log of another policy.

For each of the n rows with a value r, p is the propensity of the model that the log served, π the probability with
which the target serves it, and w = π/p the weight. r̂ is the reward model's prediction.

    IPS     mean of w·r                          Horvitz and Thompson (1952)
    SNIPS   Σ w·r / Σ w                          Swaminathan and Joachims (2015)
    DM      mean of Σ_m π_m·r̂_m                  the direct method; it is as good as the model r̂
    DR      DM + mean of w·(r − r̂)               Dudík, Langford and Li (2011)

Horvitz and Thompson, *A generalization of sampling without replacement from a finite universe* (1952); Swaminathan and
Joachims, *The self-normalized estimator for counterfactual learning* (2015); Dudík, Langford and Li, *Doubly robust
policy evaluation and learning* (2011).

IPS is unbiased if p > 0 for everything that the target serves. So is DR, for any r̂ that was not fitted on the row
itself. SNIPS has a bias of the order of 1/n, and varies less. All three need a π that does not depend on the row's own
outcome. With imputation, the odds of a target that learns depend on a model of other rows, later ones among them; then
IPS and DR are not exactly unbiased. Whether an answer gets feedback must not depend on how good it was.

Intervals are of 95 %, from the asymptotic variance. DM has none, because the error of r̂ is unknown. If the log rarely
serves what the target serves, such an interval is too narrow: the few large weights that would widen it are missing.
In logs of 2,000 requests of the bandit, DR's interval of the cost held the truth in 61 to 91 % of the logs
(`benchmarks/off_policy.py`). The intervals of attainment are widened, see `share_interval`; they held it in 95 to
100 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from messctl.policies.base import Floats
from messctl.state.ledger import CONFIDENCE_Z

Z2 = CONFIDENCE_Z**2
SURE_Z = 3.0
"""Standard errors beyond which a difference is no chance. It is above 1.96 because there are several models, and
because the weights of rare ones are skewed."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and its 95 % interval; each is None if the log does not determine it."""

    mean: float | None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Overlap:
    """How well the log covers the target.

    `effective` is the effective sample size (Σw)² / Σw², in rows. `mean_weight` is 1 on average if the log could have
    made every decision of the target (p > 0). `matched` (0..1) is the mean π of the models served: the share of the
    log's decisions that the target would make too.

    `uncovered` (0..1) is the share of the target's decisions that the log surely does not cover. For each model it is
    the mean π minus the mean weight on that model's rows and three standard errors of it. For a model that never
    served, it is all of π: the log served it never, or too rarely to tell anything (p < 3/n by the rule of three, at
    95 %).
    """

    effective: float
    mean_weight: float
    uncovered: float
    matched: float

    @classmethod
    def of(cls, weight: Floats, served: npt.NDArray[np.int64], odds: Floats) -> Overlap:
        """Measure the overlap from the weights (n,), the models served (n,), and the target's odds (n, models)."""
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
    """Estimate by inverse propensity scores, from weights and values, (n,)."""
    return _mean(weight * value, effective_size(weight))


def snips(weight: Floats, value: Floats) -> Estimate:
    """Estimate by self-normalised inverse propensity scores, from weights and values, (n,)."""
    total = float(weight.sum())
    if not total > 0:
        return Estimate(None)
    mean = float((weight * value).sum() / total)
    variance = float((weight**2 * (value - mean) ** 2).sum()) / total**2
    return Estimate(mean, _interval(mean, variance, effective_size(weight)))


def direct(odds: Floats, expected: Floats) -> Estimate:
    """Estimate by the direct method, from the target's odds and the reward model's predictions, (n, models)."""
    return Estimate(float(_under(odds, expected).mean())) if len(odds) else Estimate(None)


def doubly_robust(
    weight: Floats, value: Floats, served: npt.NDArray[np.int64], odds: Floats, expected: Floats
) -> Estimate:
    """Estimate doubly robustly: by the direct method, corrected by the weighted errors on what was served, (n,)."""
    error = value - expected[np.arange(len(served)), served]
    return _mean(_under(odds, expected) + weight * error, effective_size(weight))


def _under(odds: Floats, expected: Floats) -> Floats:
    return np.asarray((odds * expected).sum(axis=1))


def _mean(terms: Floats, effective: float) -> Estimate:
    """Return the mean of the terms, (n,)."""
    if not len(terms):
        return Estimate(None)
    mean = float(terms.mean())
    return Estimate(mean, _interval(mean, float(terms.var()) / len(terms), effective))


def _interval(mean: float, variance: float, effective: float) -> tuple[float, float] | None:
    """Return the normal interval, with the variance of a sample; None if the effective sample is a single row."""
    if effective <= 1.0 + 1e-9:
        return None
    half = CONFIDENCE_Z * float(np.sqrt(variance * effective / (effective - 1.0)))
    return mean - half, mean + half


def share_interval(estimate: Estimate, effective: float, below: float, above: float) -> Estimate:
    """Return the estimate of a mean of values in 0..1, with an interval as wide as the log requires.

    The interval reaches at least Z²/(n + Z²) to both sides, with n the effective sample size. Wilson's interval does so
    if all values are equal: a few successes do not show that there is no failure. It reaches `below` and `above`, both
    0..1, further, for what the log never tried. A mean beyond 0..1, which heavy weights can give, is clipped.
    """
    if estimate.mean is None:
        return estimate
    low, high = estimate.interval or (0.0, 1.0)
    mean, half = min(1.0, max(0.0, estimate.mean)), Z2 / (effective + Z2)
    low, high = min(low, mean - half) - below, max(high, mean + half) + above
    return Estimate(mean, (min(1.0, max(0.0, low)), max(0.0, min(1.0, high))))
