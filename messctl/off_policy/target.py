"""The target: with what probability a policy would have served each model, request by request along a log."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from messctl.errors import UsageError
from messctl.features import Encoder
from messctl.off_policy.log import Log
from messctl.policies import Rounds, build, kind_of, kinds
from messctl.policies.base import Floats, LiveBuild
from messctl.records import Feedback, Request
from messctl.snapshot import Snapshot
from messctl.zoo import Settings


@dataclass(frozen=True, slots=True)
class Target:
    """A policy along a log: `odds` (n, models) of being served, and the `weight` (n,) of each logged decision."""

    policy: str
    odds: Floats
    weight: Floats


def target_of(name: str, log: Log, settings: Settings, encoder: Encoder, satisfied: Floats, cost: Floats) -> Target:
    """Return a policy, by its name, along the log.

    `satisfied` and `cost` (n, models) stand for every model's outcome on every request, as far as their means go: by
    these `static-mix` is mixed. `logged` is the policy that made the log. Raises UnknownNameError, and UsageError for a
    policy that would have to know all outcomes.
    """
    kind = kind_of(name)
    if kind.name == "logged":
        return Target(name, np.eye(len(log.zoo.models))[log.served], np.ones(len(log)))
    if kind.live:
        odds = replayed(kind.live, log, settings, encoder)
    elif kind.streams:
        odds = _fixed(name, log, settings, satisfied, cost)
    else:
        able = ", ".join(each.name for each in kinds().values() if each.live or each.streams)
        raise UsageError(f"policy {name!r} knows outcomes that no log holds; --off-policy takes {able} and logged")
    return Target(name, odds, odds[np.arange(len(log)), log.served] / log.propensity)


def _fixed(name: str, log: Log, settings: Settings, satisfied: Floats, cost: Floats) -> Floats:
    """Return the odds of a policy that never learns, the same on every request."""
    heard = ~np.isnan(satisfied).any(axis=1)
    if name.partition(":")[0] == "static-mix" and not heard.any():
        raise UsageError(f"{log.path}: no answer got feedback, so nobody knows what to mix; use another --policy")
    means = [np.tile(table.mean(axis=0), (1, 1)) for table in (satisfied[heard], cost)] if heard.any() else [cost] * 2
    rounds = Rounds(
        zoo=log.zoo,
        request_ids=log.request_ids[:1],
        features=log.features.rows(np.zeros(1, dtype=np.int64)),
        satisfied=means[0],
        cost=means[1],
        order=np.zeros(1, dtype=np.int64),
        heard=np.ones(1, dtype=np.bool_),
    )
    decision = build(name, rounds, settings).decide(Request(log.request_ids[0], log.prompts[0]))
    return np.tile([decision.odds.get(model, 0.0) for model in log.zoo.models], (len(log), 1))


def replayed(live: LiveBuild, log: Log, settings: Settings, encoder: Encoder) -> Floats:
    """Return the odds, (n, models), with which a policy that learns would serve, replayed along the log."""
    policy = live(log.zoo, settings, Snapshot(), encoder)
    odds = np.zeros((len(log), len(log.zoo.models)))
    for row in range(len(log)):
        decision = policy.decide(Request(log.request_ids[row], log.prompts[row], gradable=False))
        for model, chance in decision.odds.items():
            odds[row, log.zoo.index(model)] = chance
        if decision.served != log.zoo.models[log.served[row]]:
            continue
        satisfied = float(log.satisfied[row])
        heard = {} if np.isnan(satisfied) else {decision.served: satisfied}
        policy.learn(decision, Feedback(costs={decision.served: float(log.cost[row])}, satisfied=heard))
    return odds
