"""The evaluation: what policies would have attained and cost on the requests of a log, by every estimator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from messctl.learning.features import Encoder
from messctl.off_policy.estimators import Estimate, Overlap, direct, doubly_robust, ips, share_interval, snips
from messctl.off_policy.log import Log
from messctl.off_policy.reward import RewardModel
from messctl.off_policy.target import Target, target_of
from messctl.policies import kind_of
from messctl.replay.play import MET, judged_of
from messctl.zoo import Settings

JUDGE = "DR"
"""The estimator by which the promise is judged."""

UNCOVERED = 0.005
"""Where a larger share of a policy's decisions is foreign to the log, its cost is a guess."""


@dataclass(frozen=True, slots=True)
class Estimated:
    """What one estimator says: the attainment, over answers with feedback, and the mean cost of an answer, over all.

    `attained_ess` and `cost_ess` are how many rows either goes by, ≥ 0: Kish's effective sample size of the weights of
    those with feedback and of all; for DM, which has no weights, their number.
    """

    estimator: str
    attained: Estimate
    cost: Estimate
    attained_ess: float
    cost_ess: float


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What is estimated of one policy. `overlap` is over all logged decisions, `heard` over those with feedback."""

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
    def decisive(self) -> Evaluated:
        """The result that `--require-sla` is about; see `replay.judged_of`."""
        policies = [each.policy for each in self.results]
        return self.results[policies.index(judged_of(policies, self.settings))]


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
    learners = {name: kind_of(name).live is not None for name in policies}
    reward = RewardModel.of(log)
    targets = {}
    # Those that take no time come first, so that a name that is wrong is told before any other is replayed.
    for name in sorted(learners, key=learners.__getitem__):
        progress(name)
        targets[name] = target_of(name, log, settings, encoder, reward, impute=impute)
    return Evaluation(log, settings, impute, tuple(estimated(log, targets[name], reward) for name in learners))


def estimated(log: Log, target: Target, reward: RewardModel) -> Evaluated:
    """Return what all estimators say of a target.

    What the log could not have taken may satisfy anybody or nobody, and the intervals of attainment allow for both;
    it may cost whatever it likes, and the cost has no interval.
    """
    has_feedback = log.has_feedback
    weight, served, odds = target.weight[has_feedback], log.served[has_feedback], target.odds[has_feedback]
    overlap, judged = Overlap.of(target.weight, log.served, target.odds), Overlap.of(weight, served, odds)
    value, expected = log.satisfied[has_feedback], reward.satisfied[has_feedback]
    unknown = judged.uncovered

    def share_estimate(estimate: Estimate, below: float) -> Estimate:
        return share_interval(estimate, judged.effective, below, unknown)

    def cost_estimate(estimate: Estimate) -> Estimate:
        if estimate.interval is None or overlap.uncovered >= UNCOVERED:
            return Estimate(estimate.mean)
        low, high = estimate.interval
        return Estimate(estimate.mean, (max(0.0, low), high))

    def weighted(estimator: str, attained: Estimate, cost: Estimate) -> Estimated:
        return Estimated(estimator, attained, cost_estimate(cost), judged.effective, overlap.effective)

    # What the log could not have taken counts nothing in IPS; SNIPS leaves it out, and DR guesses it.
    estimates = (
        weighted("IPS", share_estimate(ips(weight, value), 0.0), ips(target.weight, log.cost)),
        weighted("SNIPS", share_estimate(snips(weight, value), unknown), snips(target.weight, log.cost)),
        Estimated("DM", direct(odds, expected), direct(target.odds, reward.cost), float(len(value)), float(len(log))),
        weighted(
            JUDGE,
            share_estimate(doubly_robust(weight, value, served, odds, expected), unknown),
            doubly_robust(target.weight, log.cost, log.served, target.odds, reward.cost),
        ),
    )
    return Evaluated(target.policy, kind_of(target.policy).learns, overlap, judged, estimates)
