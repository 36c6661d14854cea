"""The target: with what probability a policy would have served each model, request by request along a log.

Li, Chu, Langford and Wang, *Unbiased offline evaluation of contextual-bandit-based news article recommendation
algorithms* (2011).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from messctl.errors import UsageError
from messctl.learning.features import Encoder
from messctl.learning.random_streams import stream
from messctl.learning.snapshot import Snapshot
from messctl.off_policy.log import Log
from messctl.off_policy.reward import RewardModel
from messctl.policies import Rounds, build, kind_of, kinds
from messctl.policies.base import Floats, LiveBuild
from messctl.records import Feedback, Request
from messctl.zoo import Settings


@dataclass(frozen=True, slots=True)
class Target:
    """A policy along a log: `odds` (n, models) of being served, and the `weight` (n,) of each logged decision."""

    policy: str
    odds: Floats
    weight: Floats


def target_of(
    name: str, log: Log, settings: Settings, encoder: Encoder, reward: RewardModel, *, impute: bool = True
) -> Target:
    """Return a policy, by its name, along the log.

    `static-mix` is mixed by the models' means as the log tells them, by the corrected `reward`; `logged` is the policy
    that made the log. Raises UnknownNameError, and UsageError for a policy that would have to know all outcomes.
    """
    kind = kind_of(name)
    if kind.name == "logged":
        return Target(name, np.eye(len(log.zoo.models))[log.served], np.ones(len(log)))
    if kind.live:
        odds = replayed(kind.live, log, settings, encoder, reward if impute else None)
    elif kind.streams:
        odds = _fixed(name, log, settings, reward)
    else:
        able = ", ".join(each.name for each in kinds().values() if each.live or each.streams)
        raise UsageError(
            f"policy {name!r} knows outcomes that no log holds; `messctl evaluate` takes {able} and logged"
        )
    return Target(name, odds, odds[np.arange(len(log)), log.served] / log.propensity)


def _fixed(name: str, log: Log, settings: Settings, reward: RewardModel) -> Floats:
    """Return the odds of a policy that never learns, the same on every request."""
    has_feedback = log.has_feedback
    if name == "static-mix" and not has_feedback.any():
        raise UsageError(f"{log.path}: no answer got feedback, so nobody knows what to mix; choose another --policy")
    satisfied, cost = reward.corrected(log)
    # All that such a policy may look at are the means, which a single round tells as well.
    rounds = Rounds(
        zoo=log.zoo,
        request_ids=log.request_ids[:1],
        features=log.features.rows(np.zeros(1, dtype=np.int64)),
        satisfied=satisfied[has_feedback].mean(axis=0, keepdims=True)
        if has_feedback.any()
        else np.zeros_like(cost[:1]),
        cost=cost.mean(axis=0, keepdims=True),
        order=np.zeros(1, dtype=np.int64),
        has_feedback=np.ones(1, dtype=np.bool_),
    )
    decision = build(name, rounds, settings).decide(Request(log.request_ids[0], log.prompts[0]))
    return np.tile([decision.odds.get(model, 0.0) for model in log.zoo.models], (len(log), 1))


def replayed(
    live: LiveBuild, log: Log, settings: Settings, encoder: Encoder, imputing: RewardModel | None = None
) -> Floats:
    """Return the odds, (n, models), with which a policy that learns would serve, replayed along the log.

    The replay of Li et al. (2011): the policy decides on every request in turn, by its own coins, and where its choice
    is the logged one it learns the logged cost and feedback, at once. Any other request is rejected: for the policy it
    never came. What is estimated, then, is the mean over the log's requests of the policy *as it stood by then*, having
    learned from the requests accepted before. Where the log drew all models alike, these are a fair sample, and the
    policy is younger than it would have been: on 6,000 requests that random choice logged (`benchmarks/off_policy.py`),
    the bandit's cost comes out 11 % too high (± 2), its attainment right, about as in a run of a quarter of the
    requests (17 %, ± 4). Where the log favoured a model, what is accepted favours it too, and the policy learns of a
    world that there is not: on the log of a bandit that promised 0.75, one that promises 0.8 comes out 264 % too dear
    (± 15), attaining 0.87, and MESS+ 40 % (± 25), attaining 0.83.

    With a reward model for `imputing`, no request is rejected: the policy learns the cost that is expected of its
    choice, and a satisfaction of 0 or 1 drawn with the expected probability. It is then as old as it should be, and as
    wrong as the model: 4 % too dear (± 2) on the first log, 10 % (± 3) on the second, attaining 0.80 and 0.81. The odds
    then depend on a model fitted on other rows, later ones among them, so that IPS and DR, unbiased for odds that come
    of the past alone, are not exactly so.

    The policy explores nothing for which all answers would have to be graded (`Request.gradable`), knows neither loads
    nor what reading a prompt costs, and no model may be out; it has the models that ever answered.
    """
    policy = live(log.zoo, settings, Snapshot(), encoder)
    known = policy.snapshot()
    luck = stream(settings.seed, "feedback")
    odds = np.zeros((len(log), len(log.zoo.models)))
    for row in range(len(log)):
        decision = policy.decide(Request(log.request_ids[row], log.prompts[row], gradable=False))
        served = log.zoo.index(decision.served)
        for model, chance in decision.odds.items():
            odds[row, log.zoo.index(model)] = chance
        if served == log.served[row]:
            satisfied, cost = float(log.satisfied[row]), float(log.cost[row])
        elif imputing:
            likely = imputing.satisfied[row, served] if log.has_feedback[row] else np.nan
            satisfied = np.nan if np.isnan(likely) else float(luck.random() < likely)
            cost = float(imputing.cost[row, served])
        else:
            # It goes back to where it stood, as if the request had never come, but with another coin.
            policy = live(log.zoo, replace(settings, seed=_further_seed(settings.seed, row)), known, encoder)
            continue
        has_feedback = {} if np.isnan(satisfied) else {decision.served: satisfied}
        policy.learn(decision, Feedback(costs={decision.served: cost}, satisfied=has_feedback))
        known = policy.snapshot()
    return odds


def _further_seed(seed: int, row: int) -> int:
    """Return a seed for the coins after this row, independent of those of all other rows and seeds."""
    return int(np.random.SeedSequence(seed, spawn_key=(row,)).generate_state(1, np.uint64)[0])
