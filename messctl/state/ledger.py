"""The ledger: how well the promise is kept so far, and what was spent, computed from the store."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from messctl.learning.certificate import certificate
from messctl.state.always_costliest import Bill
from messctl.state.outages import LostAttempts, RefusedPrompts
from messctl.state.pruned import Pruned
from messctl.state.store import Store
from messctl.state.sums import ANSWERS, EMPTY, SERVED
from messctl.zoo import CostPerToken

ROUNDING = 1e-9
"""An attainment that is below α by less than this is not below it: floats do not add up exactly."""
CONFIDENCE_Z = 1.959963984540054
"""The normal quantile of a 95 % interval."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How well the promise is kept: the mean satisfaction `attained` over the `judged` answers with feedback.

    `queue` is the virtual queue Q, the debt. `certificate` is the level that is attained for certain, mean α − Q/n.
    `attained` and `certificate` are in 0..1 (`certificate` may be less), and None before the first feedback.
    """

    judged: int
    attained: float | None
    queue: float
    certificate: float | None

    def meets(self, alpha: float) -> bool | None:
        """Return whether the attainment reaches α, 0..1; None without feedback."""
        return None if self.attained is None else self.attained >= alpha - ROUNDING

    @classmethod
    def of(cls, store: Store) -> Standing:
        """Compute it from one state of the store. Raises StoreError."""
        with store.unchanging():
            return cls.within(store, store.policy.queue())

    @classmethod
    def within(cls, store: Store, queue: float) -> Standing:
        """Compute it within a transaction of the store, in which the virtual queue is `queue`. Raises StoreError."""
        sums = store.requests.feedback_sums()
        if not sums.count:
            return cls(0, None, queue, None)
        level = certificate(sums.alpha / sums.count, queue, sums.count)
        return cls(sums.count, sums.satisfied / sums.count, queue, level)


@dataclass(frozen=True, slots=True)
class Ledger:
    """All that `status` shows. Counts are of requests; shares are of the answered requests.

    `interval` is the 95 % confidence interval of the mean satisfaction (Wilson's). `pending` requests have an answer
    and no feedback yet, `unanswered` requests have no answer. `asks` is the mean number of models that answered an
    answered request, None if there is none. `cost_total` includes exploration and empty answers; `cost_vs_costliest`
    is its ratio to the predicted cost of the model `costliest` for every request, with the same tokens. All are None if
    costs are in several units. `lost` are the failed attempts, and `refused` the prompts that did not suit, by model.
    `pruned` are the requests that are not in the log any more, None if all are; they are in every figure.
    """

    standing: Standing
    interval: tuple[float, float] | None
    answered: int
    pending: int
    unanswered: int
    explored: int
    forced: int
    asks: float | None
    cost_total: float | None
    cost_unit: str | None
    meters: tuple[str, ...]
    costliest: str | None
    cost_vs_costliest: float | None
    served: Mapping[str, int]
    model_share: Mapping[str, float]
    lost: Mapping[str, LostAttempts]
    refused: Mapping[str, RefusedPrompts]
    pruned: Pruned | None

    @classmethod
    def of(cls, store: Store, prices: Mapping[str, CostPerToken] | None = None) -> Ledger:
        """Compute it from one state of the store, and the `prices` of the models whose price is known.

        Raises StoreError.
        """
        with store.unchanging():
            return cls._of(store, prices or {})

    @classmethod
    def _of(cls, store: Store, prices: Mapping[str, CostPerToken]) -> Ledger:
        sums = store.requests.sums
        served, answers, empty = sums.rows(SERVED), sums.rows(ANSWERS), sums.rows(EMPTY)
        counts: Counter[str] = Counter()
        by_model: Counter[str] = Counter()
        for row in served:
            by_model[row["model"]] += row["requests"]
            counts.update({name: row[name] for name in ("requests", "pending", "explored", "forced")})
        bill = Bill.of(served, answers)
        units = {row["cost_unit"] for row in (*answers, *empty)}
        meters = {row["meter"] for row in (*answers, *empty)}
        total = math.fsum([*(row["cost"] for row in empty), *bill.cost.values()])
        known = {model: price for model, price in prices.items() if price.unit in units}
        costliest, alone = (bill.costliest(known) if len(units) < 2 else None) or (None, math.inf)
        standing = Standing.within(store, store.policy.queue())
        return cls(
            standing=standing,
            interval=wilson(standing.attained, standing.judged),
            answered=counts["requests"],
            pending=counts["pending"],
            unanswered=store.requests.count() - counts["requests"],
            explored=counts["explored"],
            forced=counts["forced"],
            asks=sum(row["answers"] for row in answers) / counts["requests"] if counts["requests"] else None,
            cost_total=total if len(units) < 2 else None,
            cost_unit=" and ".join(sorted(units)) or None,
            meters=tuple(sorted(meters)),
            costliest=costliest,
            cost_vs_costliest=None if costliest is None else total / alone,
            served=dict(sorted(by_model.items())),
            model_share={model: count / max(1, counts["requests"]) for model, count in sorted(by_model.items())},
            lost=store.outages.lost(),
            refused=store.outages.refused(),
            pruned=store.pruning.pruned(),
        )


def wilson(mean: float | None, count: int) -> tuple[float, float] | None:
    """Return Wilson's 95 % score interval of a share `mean`, 0..1, observed on `count` answers; None without any.

    For graded answers it is on the safe side: their variance is at most that of yes and no with the same mean.
    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22, 1927.
    """
    if mean is None or not count:
        return None
    z2 = CONFIDENCE_Z**2
    centre = (mean + z2 / (2 * count)) / (1 + z2 / count)
    half = CONFIDENCE_Z / (1 + z2 / count) * math.sqrt(mean * (1 - mean) / count + z2 / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)
