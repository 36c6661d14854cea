"""The evaluation: the attainment and cost of policies on the requests of a log, by every estimator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from messctl.learning.features import Encoder
from messctl.off_policy.estimators import Estimate, Overlap, direct, doubly_robust, ips, share_interval, snips
from messctl.off_policy.log import Log
from messctl.off_policy.reward import RewardModel
from messctl.off_policy.target import Target, target_of
from messctl.policies import kind_of
from messctl.replay.result import MET, judged_of
from messctl.zoo import Settings

DECIDING = "DR"
"""The estimator that decides whether the promise is kept."""

UNCOVERED = 0.005
"""If a larger share of a policy's decisions is not covered by the log, its cost has no interval."""


@dataclass(frozen=True, slots=True)
class EstimatorResult:
    """The estimates of one estimator: the attainment over answers with feedback, and the mean cost over all.

    `attained_ess` and `cost_ess` are the effective sample sizes of both, ≥ 0: Kish's, from the weights. DM has no
    weights; there they are the numbers of rows.
    """

    estimator: str
    attained: Estimate
    cost: Estimate
    attained_ess: float
    cost_ess: float


@dataclass(frozen=True, slots=True)
class PolicyEstimates:
    """The estimates of one policy. `overlap` counts all logged decisions, `feedback_overlap` those with feedback."""

    policy: str
    learns: bool
    overlap: Overlap
    feedback_overlap: Overlap
    estimates: tuple[EstimatorResult, ...]

    @property
    def attained(self) -> Estimate:
        """The attainment that decides whether the promise is kept."""
        return next(each.attained for each in self.estimates if each.estimator == DECIDING)

    def sla_met(self, alpha: float) -> bool | None:
        """Return whether the promise would be kept; None if α lies within the interval, or there is no interval."""
        if self.attained.interval is None:
            return None
        low, high = self.attained.interval
        if low >= alpha - MET:
            return True
        return False if high < alpha - MET else None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The results for one log, with the settings, and whether feedback was imputed."""

    log: Log
    settings: Settings
    imputed: bool
    results: tuple[PolicyEstimates, ...]

    @property
    def decisive(self) -> PolicyEstimates:
        """The result on which `--require-sla` decides; see `judged_of`."""
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
    """Estimate the attainment and cost of every policy. `progress` gets the name of the policy being replayed.

    With `impute`, a policy that learns also learns from requests on which it chooses another model than the log; see
    `target.replay_odds`. Raises UnknownNameError for an unknown policy or model, and UsageError for a policy that
    cannot be evaluated on a log.
    """
    learners = {name: kind_of(name).learns for name in policies}
    reward = RewardModel.of(log)
    targets = {}
    # The policies that need no replay come first, so that an unknown model is an error before a long replay.
    for name in sorted(learners, key=learners.__getitem__):
        progress(name)
        targets[name] = target_of(name, log, settings, encoder, reward, impute=impute)
    return Evaluation(log, settings, impute, tuple(estimate_target(log, targets[name], reward) for name in learners))


def estimate_target(log: Log, target: Target, reward: RewardModel) -> PolicyEstimates:
    """Return the estimates of all estimators for a target.

    Decisions that the log does not cover may satisfy all requests or none: the intervals of attainment allow for both.
    Their cost may be anything: then the cost has no interval.
    """
    has_feedback = log.has_feedback
    weight, served, odds = target.weight[has_feedback], log.served[has_feedback], target.odds[has_feedback]
    overlap = Overlap.of(target.weight, log.served, target.odds)
    feedback_overlap = Overlap.of(weight, served, odds)
    value, expected = log.satisfied[has_feedback], reward.satisfied[has_feedback]
    unknown = feedback_overlap.uncovered

    def share_estimate(estimate: Estimate, below: float) -> Estimate:
        return share_interval(estimate, feedback_overlap.effective, below, unknown)

    def cost_estimate(estimate: Estimate) -> Estimate:
        if estimate.interval is None or overlap.uncovered >= UNCOVERED:
            return Estimate(estimate.mean)
        low, high = estimate.interval
        return Estimate(estimate.mean, (max(0.0, low), high))

    def weighted(estimator: str, attained: Estimate, cost: Estimate) -> EstimatorResult:
        return EstimatorResult(estimator, attained, cost_estimate(cost), feedback_overlap.effective, overlap.effective)

    # A decision that the log does not cover counts as 0 in IPS; SNIPS leaves it out, and DR takes the prediction.
    estimates = (
        weighted("IPS", share_estimate(ips(weight, value), 0.0), ips(target.weight, log.cost)),
        weighted("SNIPS", share_estimate(snips(weight, value), unknown), snips(target.weight, log.cost)),
        EstimatorResult(
            "DM", direct(odds, expected), direct(target.odds, reward.cost), float(len(value)), float(len(log))
        ),
        weighted(
            DECIDING,
            share_estimate(doubly_robust(weight, value, served, odds, expected), unknown),
            doubly_robust(target.weight, log.cost, log.served, target.odds, reward.cost),
        ),
    )
    return PolicyEstimates(target.policy, kind_of(target.policy).learns, overlap, feedback_overlap, estimates)
