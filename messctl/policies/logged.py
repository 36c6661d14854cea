"""`logged`: what was served live, row by row, as an exported log says.

Requests come in the order of their feedback, those without feedback last: the order in which the queue changed, under
the α of each request. Rows that hold the outcome of the served model alone are enough.
"""

from __future__ import annotations

import numpy as np

from messctl.errors import UsageError
from messctl.learning.virtual_queue import path
from messctl.policies.base import Played, PolicyKind, Rounds
from messctl.policies.lottery import Lottery
from messctl.zoo import Settings


class Logged(Lottery):
    """Serves what the log says was served."""

    def __init__(self, rounds: Rounds, settings: Settings) -> None:
        if rounds.served is None or (rounds.served < 0).any():
            raise UsageError("policy 'logged' needs an exported live log; this trace does not say what was served")
        models = len(rounds.zoo.models)
        super().__init__("logged", rounds, settings, np.eye(models)[rounds.served])
        self._served = rounds.served

    def play(self, rounds: Rounds) -> Played:
        """Score what was served; `order` is the order of the feedback."""
        rows = np.arange(len(rounds))
        judged = np.full(len(rounds), np.inf) if rounds.judged is None else np.nan_to_num(rounds.judged, nan=np.inf)
        order = np.lexsort((judged, np.isnan(rounds.satisfied[rows, self._served])))
        satisfied = rounds.satisfied[order, self._served[order]]
        alpha = np.full(len(rounds), np.nan) if rounds.alpha is None else rounds.alpha[order]
        alpha = np.where(np.isnan(alpha), self._alpha, alpha)
        has_feedback = ~np.isnan(satisfied)
        # Requests with feedback come first; after them the queue does not change.
        queue = path(satisfied[has_feedback], alpha[has_feedback])
        queue = np.append(queue, np.full(len(order) - int(has_feedback.sum()), queue[-1]))
        observed = ~np.isnan(rounds.cost[order])
        return Played(
            zoo=rounds.zoo,
            alpha=float(alpha[has_feedback].mean()) if has_feedback.any() else self._alpha,
            order=order,
            share=np.bincount(self._served, minlength=len(rounds.zoo.models)) / len(rounds),
            cost=np.where(observed, rounds.cost[order], 0.0).sum(axis=1),
            satisfied=satisfied,
            satisfied_all=satisfied,
            queue_before=queue[:-1],
            queue_after=queue[1:],
            served=self._served[order],
            explored=observed.sum(axis=1) > 1 if rounds.explored is None else rounds.explored[order] == 1.0,
        )


def build(_argument: str | None, rounds: Rounds, settings: Settings) -> Logged:
    """Build it. Raises UsageError if the trace is not an exported log."""
    return Logged(rounds, settings)


POLICY = PolicyKind("logged", 40, "what was served live, row by row, in an exported log", build, by_default=False)
