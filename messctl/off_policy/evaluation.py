"""The evaluation: what policies would have attained and cost on the requests of a log, by every estimator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from messctl.features import Encoder
from messctl.off_policy.estimators import Estimate, Overlap, direct, doubly_robust, ips, of_share, snips
from messctl.off_policy.log import Log
from messctl.off_policy.reward import RewardModel
from messctl.off_policy.target import Target, target_of
from messctl.policies import kind_of
from messctl.replay import MET
from messctl.zoo import Settings

JUDGE = "DR"
"""The estimator by which the promise is judged."""

UNCOVERED = 0.005
"""Where a larger share of a policy's decisions is foreign to the log, its cost is a guess."""


@dataclass(frozen=True, slots=True)
class Estimated:
    """What one estimator says: the attainment, over answers with feedback, and the mean cost of an answer."""

    estimator: str
    attained: Estimate
    cost: Estimate
    effective: float


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What is estimated of one policy. `overlap` is over all logged decisions, `judged` over those with feedback."""

    policy: str
    learns: bool
    overlap: Overlap
    judged: Overlap
    estimates: tuple[Estimated, ...]

    @property
    def attained(self) -> Estimate:
        """The attainment by which the promise is judged."""
        return next(each.attained for each in self.estimates if each.estimator == JUDGE)

    def sla_met(self, alpha: float) -> bool | None:
        """Tell whether the promise would be kept: None where α lies within the interval, or nothing was judged."""
        if self.attained.interval is None:
            return None
        low, high = self.attained.interval
        if low >= alpha - MET:
            return True
        return False if high < alpha - MET else None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that was estimated from one log, with what was asked."""

    log: Log
    settings: Settings
    imputed: bool
    results: tuple[Evaluated, ...]

    @property
    def judged(self) -> Evaluated:
        """The result that `--require-sla` is about: the policy of the settings where it is there, else the first."""
        return next((each for each in self.results if each.policy == self.settings.policy), self.results[0])


def evaluate(
    log: Log,
    policies: Sequence[str],
    settings: Settings,
    encoder: Encoder,
    *,
    impute: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Estimate what every policy would have attained and cost. `progress` hears which one is being played.

    With `impute`, a policy that learns does so where it chooses otherwise than the log did, too; see `target.replayed`.
    Raises UnknownNameError, UsageError for a policy that cannot be played on a log.
    """
    for name in policies:
        kind_of(name)
    reward = RewardModel.of(log)
    results = []
    for name in dict.fromkeys(policies):
        progress(name)
        target = target_of(name, log, settings, encoder, reward, impute=impute)
        results.append(estimated(log, target, reward))
    return Evaluation(log, settings, impute, tuple(results))


def estimated(log: Log, target: Target, reward: RewardModel) -> Evaluated:
    """Return what all estimators say of a target.

    What the log could not have taken may satisfy anybody or nobody, and the intervals of attainment allow for both;
    it may cost whatever it likes, and the cost has no interval.
    """
    heard = log.heard
    weight, served, odds = target.weight[heard], log.served[heard], target.odds[heard]
    overlap, judged = Overlap.of(target.weight, log.served, target.odds), Overlap.of(weight, served, odds)
    value, expected = log.satisfied[heard], reward.satisfied[heard]
    unknown = judged.uncovered

    def share(estimate: Estimate, below: float) -> Estimate:
        return of_share(estimate, judged.effective, below, unknown)

    def paid(estimate: Estimate) -> Estimate:
        if estimate.interval is None or overlap.uncovered >= UNCOVERED:
            return Estimate(estimate.mean)
        low, high = estimate.interval
        return Estimate(estimate.mean, (max(0.0, low), high))

    # What the log could not have taken counts nothing in IPS; SNIPS leaves it out, and DR guesses it.
    estimates = (
        Estimated("IPS", share(ips(weight, value), 0.0), paid(ips(target.weight, log.cost)), judged.effective),
        Estimated(
            "SNIPS", share(snips(weight, value), unknown), paid(snips(target.weight, log.cost)), judged.effective
        ),
        Estimated("DM", direct(odds, expected), direct(target.odds, reward.cost), float(len(value))),
        Estimated(
            JUDGE,
            share(doubly_robust(weight, value, served, odds, expected), unknown),
            paid(doubly_robust(target.weight, log.cost, log.served, target.odds, reward.cost)),
            judged.effective,
        ),
    )
    return Evaluated(target.policy, kind_of(target.policy).learns, overlap, judged, estimates)
