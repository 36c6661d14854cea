"""`hindsight-cascade`: what a second look could have done with full information.

The beliefs of the cascade are fitted to all answers of other requests, each with its satisfaction, out of fold. Each
request is then served by plans at one price λ, the same for all: the one that meets α at the least cost. Between two
prices it is mixed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from messctl.errors import UsageError
from messctl.learning.cross_fit import folds
from messctl.learning.virtual_queue import path
from messctl.policies.base import Answers, Floats, Played, Rounds
from messctl.policies.cascade.beliefs import Beliefs, fresh
from messctl.policies.cascade.difficulty import MOST
from messctl.policies.cascade.full_information import first_asks, fit, walk
from messctl.policies.cascade.tuning import Tuning
from messctl.records import Decision, Feedback, Request
from messctl.zoo import Settings

NAME = "hindsight-cascade"
PRICES = np.exp(np.linspace(np.log(1e-3), np.log(1e2), 24))
"""[largest mean costs] λ is one of these, or between two."""


class Outcome(NamedTuple):
    """What plans at one price bring, (n,) in the trace's order; `share` is (models,)."""

    satisfied: Floats
    cost: Floats
    asks: Floats
    latency_s: Floats
    share: Floats

    def mixed(self, other: Outcome, weight: float) -> Outcome:
        """Return the expectation if each request goes by the `other` plan with probability `weight`."""
        return Outcome(*((1.0 - weight) * one + weight * two for one, two in zip(self, other, strict=True)))


class HindsightCascade:
    """Plans with beliefs that were fitted to all answers of other rows; it is scored by its expectation."""

    name = NAME

    def __init__(self, rounds: Rounds, settings: Settings, answers: Answers) -> None:
        self._rounds, self._answers = rounds, answers
        self._alpha, self._asks, self._tuning = settings.alpha, max(2, settings.asks), Tuning()
        self._parts = [(rows, self._fitted(others)) for rows, others in folds(len(rounds.satisfied))]
        self._mean_cost = rounds.cost.mean(axis=0)
        self._prices = PRICES * max(1e-300, self._mean_cost.max())
        self._first = np.zeros((len(rounds.satisfied), len(PRICES)), dtype=np.int64)
        for rows, beliefs in self._parts:
            sparse = rounds.features.sparse_rows
            first_asks(beliefs, self._tuning, self._asks, rows, sparse, self._mean_cost, self._prices, self._first)

    def _fitted(self, rows: np.ndarray) -> Beliefs:
        """Return beliefs that were fitted to all answers of some rows."""
        rounds, zoo = self._rounds, self._rounds.zoo
        beliefs = fresh(len(zoo.models), zoo.index(zoo.reference), self._alpha, 0.0, self._tuning)
        fit(beliefs, self._tuning, rows, rounds.features.sparse_rows, self._answers, rounds.satisfied)
        return beliefs

    def _at(self, price: int) -> Outcome:
        """Return what plans bring at the price in this place."""
        rounds, n = self._rounds, len(self._rounds.satisfied)
        asked, shown = np.full((n, MOST), -1, dtype=np.int64), np.zeros(n, dtype=np.int64)
        for rows, beliefs in self._parts:
            first = np.ascontiguousarray(self._first[:, price])
            walk(
                beliefs,
                self._tuning,
                self._asks,
                rows,
                rounds.features.sparse_rows,
                self._mean_cost,
                float(self._prices[price]),
                first,
                self._answers,
                asked,
                shown,
            )
        every, ran = np.arange(n)[:, None], asked >= 0
        latency = np.zeros_like(rounds.cost) if rounds.latency_s is None else rounds.latency_s
        return Outcome(
            satisfied=rounds.satisfied[every[:, 0], shown],
            cost=np.where(ran, rounds.cost[every, asked], 0.0).sum(axis=1),
            asks=ran.sum(axis=1).astype(float),
            latency_s=np.where(ran, latency[every, asked], 0.0).sum(axis=1),
            share=np.bincount(shown, minlength=rounds.cost.shape[1]) / n,
        )

    def _around(self) -> Outcome:
        """Return what is brought at α: at the price just below it and the one just above, mixed."""
        low, high = 0, len(PRICES) - 1
        below, above = self._at(low), self._at(high)
        while high - low > 1:
            middle = (low + high) // 2
            found = self._at(middle)
            if found.satisfied.mean() < self._alpha:
                low, below = middle, found
            else:
                high, above = middle, found
        gained = float(above.satisfied.mean() - below.satisfied.mean())
        weight = (self._alpha - float(below.satisfied.mean())) / gained if gained > 0.0 else 1.0
        return below.mixed(above, min(1.0, max(0.0, weight)))

    def play(self, rounds: Rounds) -> Played:
        """Serve all rows at the least cost that meets α, in expectation."""
        found, order = self._around(), rounds.order
        satisfied = found.satisfied[order]
        queue = path(satisfied, np.full(len(order), self._alpha), 0.0)
        return Played(
            zoo=rounds.zoo,
            alpha=self._alpha,
            order=order,
            share=found.share,
            cost=found.cost[order],
            satisfied=satisfied,
            satisfied_all=satisfied,
            queue_before=queue[:-1],
            queue_after=queue[1:],
            asks=found.asks[order],
            latency_s=None if rounds.latency_s is None else found.latency_s[order],
        )

    def decide(self, request: Request) -> Decision:
        """Raise UsageError: it needs all answers at once."""
        raise UsageError(f"policy {NAME!r} plays whole traces only; it cannot decide on {request.request_id}")

    def learn(self, decision: Decision, feedback: Feedback) -> None:
        """Learn nothing."""
