"""The ledger: where the promise and the spending stand, from what is stored."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from messctl.learning.virtual_queue import certificate
from messctl.state.outages import Lost, Refused
from messctl.state.store import Store

CONFIDENCE_Z = 1.959963984540054
"""The normal quantile of a 95 % interval."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the promise stands: over `judged` answers with feedback, the mean satisfaction `attained`.

    `queue` is the debt; `certificate` the level that is attained for certain, mean α − Q/n. None before any feedback.
    """

    judged: int
    attained: float | None
    queue: float
    certificate: float | None

    @classmethod
    def of(cls, store: Store) -> Standing:
        """Read it from the store."""
        with store.unchanging():
            return cls._of(store)

    @classmethod
    def _of(cls, store: Store) -> Standing:
        sums, queue = store.requests.feedback_sums(), store.policy.snapshot().queue
        if not sums.count:
            return cls(0, None, queue, None)
        level = certificate(sums.alpha / sums.count, queue, sums.count)
        return cls(sums.count, sums.satisfied / sums.count, queue, level)


@dataclass(frozen=True, slots=True)
class Ledger:
    """All that `status` tells. Counts are of requests; shares are of those that were answered.

    `interval` is the 95 % confidence interval of the satisfaction of answers like those judged so far (Wilson's,
    for a mean of values in 0..1). `pending` were answered and not judged, `unanswered` never got an answer.
    `cost_total` is what was paid, exploration included; `cost_vs_costliest` compares it with having the costliest
    model, at its mean observed cost, answer everything. Both are None where the costs are in several units. `lost` are
    the attempts that failed, and `refused` the prompts that did not suit, by model.
    """

    standing: Standing
    interval: tuple[float, float] | None
    answered: int
    pending: int
    unanswered: int
    explored: int
    forced: int
    cost_total: float | None
    cost_unit: str | None
    meters: tuple[str, ...]
    cost_vs_costliest: float | None
    served: Mapping[str, int]
    model_share: Mapping[str, float]
    lost: Mapping[str, Lost]
    refused: Mapping[str, Refused]

    @classmethod
    def of(cls, store: Store) -> Ledger:
        """Read it from the store."""
        with store.unchanging():
            return cls._of(store)

    @classmethod
    def _of(cls, store: Store) -> Ledger:
        served: Counter[str] = Counter()
        costs: dict[str, list[float]] = {}
        meters: Counter[str] = Counter()
        counts: Counter[str] = Counter()
        units: Counter[str] = Counter()
        for logged in store.requests:
            if not logged.answers:
                counts["unanswered"] += 1
                continue
            counts["answered"] += 1
            counts["pending"] += logged.satisfied is None
            counts["explored"] += logged.decision.explored
            counts["forced"] += logged.circumstances.forced
            served[logged.decision.served] += 1
            meters[logged.circumstances.meter] += 1
            units[logged.circumstances.cost_unit] += 1
            for model, outcome in logged.answers.items():
                costs.setdefault(model, []).append(outcome.cost or 0.0)
        total = math.fsum(cost for each in costs.values() for cost in each)
        dearest = max((fmean(each) for each in costs.values()), default=0.0) * counts["answered"]
        standing = Standing._of(store)
        return cls(
            standing=standing,
            interval=wilson(standing.attained, standing.judged),
            answered=counts["answered"],
            pending=counts["pending"],
            unanswered=counts["unanswered"],
            explored=counts["explored"],
            forced=counts["forced"],
            cost_total=total if len(units) < 2 else None,
            cost_unit=" and ".join(sorted(units)) or None,
            meters=tuple(sorted(meters)),
            cost_vs_costliest=total / dearest if dearest > 0 and len(units) < 2 else None,
            served=dict(sorted(served.items())),
            model_share={model: count / counts["answered"] for model, count in sorted(served.items())},
            lost=store.outages.lost(),
            refused=store.outages.refused(),
        )


def wilson(mean: float | None, count: int) -> tuple[float, float] | None:
    """Return Wilson's 95 % score interval of a share `mean` observed on `count` answers, or None without any.

    For graded answers, whose variance is at most that of yes and no with the same mean, it is on the safe side.
    """
    if mean is None or not count:
        return None
    z2 = CONFIDENCE_Z**2
    centre = (mean + z2 / (2 * count)) / (1 + z2 / count)
    half = CONFIDENCE_Z / (1 + z2 / count) * math.sqrt(mean * (1 - mean) / count + z2 / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)
