"""`always:<model>`: one model serves everything.

Live it is a choice like any router: if a single model keeps the promise for less than a router does, `messctl tune`
and `messctl replay` say so. It learns nothing, but the debt and the mean costs are kept.
"""

from __future__ import annotations

import numpy as np

from messctl.errors import UnknownNameError, UsageError
from messctl.learning.features import Encoder
from messctl.learning.mean_costs import observe
from messctl.learning.snapshot import ModelSnapshot, Snapshot
from messctl.learning.virtual_queue import advance
from messctl.policies.base import PolicyKind, Rounds, surcharges
from messctl.policies.lottery import Lottery
from messctl.records import Decision, Feedback, Request
from messctl.zoo import Settings, Zoo


class Always:
    """The policy live. If its model cannot be asked, the reference serves, or else the first model that can."""

    def __init__(self, zoo: Zoo, settings: Settings, snapshot: Snapshot) -> None:
        self.name = settings.policy
        self._zoo = zoo
        self._alpha = settings.aim
        self._model = _checked(settings.policy.partition(":")[2], zoo)
        known = snapshot.learned_by(self.name, 1)
        self._decided, self._queue, self._balance = known.decided, known.queue, known.balance
        models = [known.models.get(model, ModelSnapshot()) for model in zoo.models]
        self._mean_cost = np.array([model.mean_cost for model in models])
        self._cost_count = np.array([model.cost_count for model in models], dtype=np.int64)

    @property
    def queue(self) -> float:
        """The virtual queue Q, ≥ 0."""
        return self._queue

    def decide(self, request: Request) -> Decision:
        """Serve the model."""
        self._decided += 1
        askable = np.isfinite(surcharges(self._zoo, request))
        wanted = (self._model, self._zoo.reference, *self._zoo.models)
        served = next((model for model in wanted if askable[self._zoo.index(model)]), self._model)
        return Decision(request, self._decided, served, (served,), 1.0, queue=self._queue, odds={served: 1.0})

    def learn(self, decision: Decision, feedback: Feedback) -> None:
        """Add the feedback to the queue, and the costs to the means."""
        for index, model in enumerate(self._zoo.models):
            if model in feedback.costs:
                observe(self._mean_cost, self._cost_count, index, feedback.costs[model])
        if decision.served in feedback.satisfied and not feedback.corrects:
            satisfied = feedback.satisfied[decision.served]
            self._queue = advance(self._queue, self._alpha, satisfied)
            self._balance += satisfied - self._alpha

    def snapshot(self) -> Snapshot:
        """Return a copy of the state, for a later instance to go on from."""
        models = {
            model: ModelSnapshot(mean_cost=float(mean), cost_count=int(count))
            for model, mean, count in zip(self._zoo.models, self._mean_cost, self._cost_count, strict=True)
        }
        return Snapshot(self._decided, self._queue, self._balance, self.name, 1, models=models)


def build(argument: str | None, rounds: Rounds, settings: Settings) -> Lottery:
    """Build it for the model `argument`. Raises UsageError without one, UnknownNameError if it is not in the zoo."""
    model = _checked(argument, rounds.zoo)
    odds = np.zeros((1, len(rounds.zoo.models)))
    odds[0, rounds.zoo.index(model)] = 1.0
    return Lottery(f"always:{model}", rounds, settings, odds)


def live(zoo: Zoo, settings: Settings, snapshot: Snapshot, _encoder: Encoder | None = None) -> Always:
    """Build the policy to go on from a snapshot. Raises the same errors as `build`."""
    return Always(zoo, settings, snapshot)


def _checked(model: str | None, zoo: Zoo) -> str:
    if not model:
        raise UsageError(f"policy 'always' needs a model: always:{zoo.models[0]}")
    if model not in zoo.models:
        raise UnknownNameError("model in policy", f"always:{model}", [f"always:{each}" for each in zoo.models])
    return model


POLICY = PolicyKind("always", 0, "one model serves everything", build, lambda models: models, live=live, streams=True)
