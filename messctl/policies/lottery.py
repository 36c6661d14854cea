"""Lotteries: policies that serve by fixed odds and never learn."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from messctl.learning.random_streams import stream
from messctl.learning.virtual_queue import advance, path
from messctl.policies.base import Floats, Played, Rounds
from messctl.records import Decision, Feedback, Request
from messctl.zoo import Settings


class Lottery:
    """A policy that serves by fixed odds and never learns: all yardsticks are lotteries.

    `odds` is (1, models), the same for every request, or (n, models), one row for each row of the trace. Over rounds it
    is scored by its expectation, so that a yardstick has no luck of its own. It knows everything in advance and needs
    no feedback, so every request counts.
    """

    def __init__(self, name: str, rounds: Rounds, settings: Settings, odds: Floats) -> None:
        self.name = name
        self._zoo = rounds.zoo
        self._alpha = settings.alpha
        self._odds = odds
        self._request_ids = rounds.request_ids
        self._coin = stream(settings.seed, "lottery")
        self._decided = 0
        self._queue = 0.0

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {request_id: row for row, request_id in enumerate(self._request_ids)}

    def decide(self, request: Request) -> Decision:
        """Draw the model to serve."""
        odds = self._odds[self._row_of[request.request_id] if len(self._odds) > 1 else 0]
        possible = np.flatnonzero(odds)
        drawn = int(np.searchsorted(np.cumsum(odds[possible]), self._coin.random(), side="right"))
        index = int(possible[min(drawn, len(possible) - 1)])
        self._decided += 1
        model = self._zoo.models[index]
        chances = {self._zoo.models[each]: float(odds[each]) for each in possible}
        return Decision(request, self._decided, model, (model,), chances[model], queue=self._queue, odds=chances)

    def learn(self, decision: Decision, feedback: Feedback) -> None:
        """Add the feedback to the queue; the odds do not change."""
        if decision.served in feedback.satisfied:
            self._queue = advance(self._queue, self._alpha, feedback.satisfied[decision.served])

    def play(self, rounds: Rounds) -> Played:
        """Score the odds by their expectation, from the first request on."""
        return self._score(rounds, 0.0)

    def play_on(self, rounds: Rounds) -> Played:
        """Score the odds by their expectation, starting with the present queue."""
        played = self._score(rounds, self._queue)
        self._queue = played.queue_final
        return played

    def _score(self, rounds: Rounds, start: float) -> Played:
        odds = np.broadcast_to(self._odds, (len(rounds), len(self._zoo.models)))[rounds.order]
        satisfied = _expected(odds, rounds.satisfied[rounds.order])
        queue = path(satisfied, np.full(len(satisfied), self._alpha), start)
        return Played(
            zoo=self._zoo,
            alpha=self._alpha,
            order=rounds.order,
            share=odds.mean(axis=0),
            cost=_expected(odds, rounds.cost[rounds.order]),
            satisfied=satisfied,
            satisfied_all=satisfied,
            queue_before=queue[:-1],
            queue_after=queue[1:],
            latency_s=None if rounds.latency_s is None else _expected(odds, rounds.latency_s[rounds.order]),
        )


def _expected(odds: Floats, values: Floats) -> Floats:
    # A certain choice gives the recorded value to the last bit, no matter what the other columns hold.
    certain = odds.max(axis=1) == 1.0
    return np.where(certain, values[np.arange(len(odds)), odds.argmax(axis=1)], (odds * values).sum(axis=1))
