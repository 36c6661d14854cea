"""MESS+ with its state: it decides, learns, is saved, and plays recorded rounds."""

from __future__ import annotations

import numpy as np

from messctl.learning.features import Encoder, WordEncoder
from messctl.learning.features import width as features_width
from messctl.learning.mean_costs import AUTO_SCALE, observe, scale_of
from messctl.learning.predictor import Weights
from messctl.learning.random_streams import stream
from messctl.learning.snapshot import Arrays, ModelSnapshot, Snapshot, restore
from messctl.learning.virtual_queue import advance
from messctl.policies.base import Played, PolicyKind, Rounds, surcharges
from messctl.policies.messplus.rounds import (
    Terms,
    decide_along,
    empty_steps,
    exploit,
    explore_probabilities,
    explore_probability,
    learn_along,
)
from messctl.records import SURCHARGE, Decision, Feedback, Request, Weighed
from messctl.zoo import Settings, Zoo

STATE_VERSION = 1
"""Changes whenever stored arrays would mean something else."""

NOT_GRADABLE = "not exploring: nobody grades all answers"


class MessPlus:
    """MESS+ with its state: virtual queue, running mean costs, predictor and exploration coins.

    `width` is that of the encoder's features, and `snapshot` a state to go on from.
    """

    name = "messplus"

    def __init__(
        self,
        zoo: Zoo,
        width: int,
        settings: Settings,
        snapshot: Snapshot | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        self._zoo = zoo
        self._encoder = encoder or WordEncoder()
        self._settings = settings
        self._scale = settings.cost_scale or AUTO_SCALE
        self._coin = stream(settings.seed, "exploration")
        self._decided = 0
        self._queue = 0.0
        self._balance = 0.0
        self._mean_cost = np.zeros(len(zoo.models))
        self._cost_count = np.zeros(len(zoo.models), dtype=np.int64)
        self._weights = Weights.zero(len(zoo.models), width)
        if snapshot:
            self._restore(snapshot)

    @property
    def queue(self) -> float:
        """The virtual queue Q, ≥ 0."""
        return self._queue

    @property
    def weights(self) -> Weights:
        """The predictor's state, which changes as this policy learns."""
        return self._weights

    def decide(self, request: Request) -> Decision:
        """Flip the exploration coin, then explore or exploit."""
        settings, models = self._settings, self._zoo.models
        self._decided += 1
        # The coin is always flipped: so each request has its own, no matter what happened to those before it.
        coin = self._coin.random()
        p_explore = explore_probability(settings.c, settings.exponent, self._decided) if request.gradable else 0.0
        explored = coin < p_explore
        predicted = self._weights.predict(self._encoder.one(request.prompt))
        scale = float(scale_of(self._mean_cost, self._scale))
        extra = surcharges(self._zoo, request)
        best = models[exploit(settings.weight, settings.aim, self._queue, scale, self._mean_cost + extra, predicted)]
        askable = tuple(model for model, more in zip(models, extra, strict=True) if more < np.inf)
        # The reference is served when exploring, and otherwise only if it is also the best.
        teacher = self._zoo.reference if self._zoo.reference in askable else best
        served = teacher if explored else best
        chances = {model: p_explore * (model == teacher) + (1 - p_explore) * (model == best) for model in askable}
        return Decision(
            request=request,
            request_number=self._decided,
            served=served,
            queried=askable if explored else (served,),
            propensity=chances[served],
            explored=explored,
            p_explore=p_explore,
            queue=self._queue,
            predicted=dict(zip(models, predicted.tolist(), strict=True)),
            mean_cost={
                model: float(mean)
                for model, mean, count in zip(models, self._mean_cost, self._cost_count, strict=True)
                if count
            },
            weighed=self._weighed(predicted.tolist(), scale, request),
            odds={model: chance for model, chance in chances.items() if chance},
        )

    def _weighed(self, predicted: list[float], scale: float, request: Request) -> Weighed:
        settings, models = self._settings, self._zoo.models
        cost = [settings.weight * (mean / scale) for mean in self._mean_cost.tolist()]
        extra = {model: settings.weight * (request.surcharge.get(model, 0.0) / scale) for model in models}
        shortfall = [self._queue * (settings.aim - chance) for chance in predicted]
        return Weighed(
            terms={
                "V·cost": dict(zip(models, cost, strict=True)),
                **({SURCHARGE: extra} if request.surcharge else {}),
                "Q·(α − predicted)": dict(zip(models, shortfall, strict=True)),
            },
            figures={"Q": self._queue, "V": settings.weight, "α": settings.aim},
            note="" if request.gradable else NOT_GRADABLE,
        )

    def learn(self, decision: Decision, feedback: Feedback) -> None:
        """Learn costs in the means, feedback on the served answer in the queue, and labels in the weights.

        Labels are learned if the request was explored, or if it could not be explored.
        """
        for index, model in enumerate(self._zoo.models):
            if model in feedback.costs:
                observe(self._mean_cost, self._cost_count, index, feedback.costs[model])
        if decision.served in feedback.satisfied and not feedback.corrects:
            alpha, satisfied = self._settings.aim, feedback.satisfied[decision.served]
            self._queue = advance(self._queue, alpha, satisfied)
            self._balance += satisfied - alpha
        if feedback.satisfied and (decision.explored or not decision.request.gradable):
            features = self._encoder.one(decision.request.prompt)
            for index, model in enumerate(self._zoo.models):
                if model in feedback.satisfied:
                    self._weights.step(index, features, feedback.satisfied[model])

    def snapshot(self) -> Snapshot:
        """Return a copy of the state, for a later instance to go on from."""
        return Snapshot(
            decided=self._decided,
            queue=self._queue,
            balance=self._balance,
            policy=self.name,
            version=STATE_VERSION,
            encoder=self._encoder.version,
            models={
                model: ModelSnapshot(
                    mean_cost=float(self._mean_cost[index]),
                    cost_count=int(self._cost_count[index]),
                    arrays={name: part.copy() for name, part in self._parts(index).items()},
                )
                for index, model in enumerate(self._zoo.models)
            },
        )

    def _parts(self, index: int) -> Arrays:
        """Return one model's part of the weights, as views, under the names by which they are stored."""
        weights = self._weights
        return {"weight": weights.weight[index], "bias": weights.bias[index, ...], "steps": weights.steps[index, ...]}

    def _restore(self, snapshot: Snapshot) -> None:
        known = snapshot.learned_by(self.name, STATE_VERSION)
        self._decided, self._queue, self._balance = known.decided, known.queue, known.balance
        self._coin.bit_generator.advance(known.decided)  # type: ignore[attr-defined]  # PCG64 has it
        for index, name in enumerate(self._zoo.models):
            model = known.models.get(name, ModelSnapshot())
            self._mean_cost[index], self._cost_count[index] = model.mean_cost, model.cost_count
            if known.encoder == self._encoder.version:
                restore(model.arrays, self._parts(index))

    def play(self, rounds: Rounds) -> Played:
        """Start afresh and play all rounds in compiled loops."""
        return MessPlus(self._zoo, rounds.features.width, self._settings).play_on(rounds)

    def play_on(self, rounds: Rounds) -> Played:
        """Play rounds from where this instance is, and end with all feedback learned."""
        settings, features, n, models = self._settings, rounds.features, len(rounds), len(self._zoo.models)
        steps, predicted = empty_steps(n, models), np.empty((n, models))
        p_explore = explore_probabilities(settings.c, settings.exponent, self._decided + 1, n)
        explored = self._coin.random(n) < p_explore
        weights = (self._weights.weight, self._weights.bias, self._weights.steps)
        learn_along(rounds.arrivals, explored, features.sparse_rows, rounds.satisfied, weights, predicted)
        self._queue = decide_along(
            Terms(settings.aim, settings.weight, self._scale, self._zoo.index(self._zoo.reference)),
            rounds.arrivals,
            (rounds.satisfied, rounds.cost),
            explored,
            predicted,
            self._queue,
            (self._mean_cost, self._cost_count),
            steps,
        )
        self._decided += n
        self._balance += float(np.nansum(steps.satisfied - settings.aim))
        return Played(
            zoo=self._zoo,
            alpha=settings.aim,
            order=rounds.order,
            share=np.bincount(steps.served, minlength=models) / n,
            cost=steps.cost,
            satisfied=steps.satisfied,
            satisfied_all=rounds.satisfied[rounds.order, steps.served],
            queue_before=steps.queue_before,
            queue_after=steps.queue_after,
            served=steps.served,
            explored=explored,
            p_explore=p_explore,
            predicted=predicted,
            mean_cost=steps.mean_cost,
            cost_scale=scale_of(self._mean_cost, self._scale),
            weights=self._weights,
            latency_s=None if rounds.latency_s is None else rounds.latency_s[rounds.order, steps.served],
        )


def build(_argument: str | None, rounds: Rounds, settings: Settings) -> MessPlus:
    """Build the policy; of the rounds it uses the zoo and the width of the features alone."""
    return MessPlus(rounds.zoo, rounds.features.width, settings)


def live(zoo: Zoo, settings: Settings, snapshot: Snapshot, encoder: Encoder | None = None) -> MessPlus:
    """Build the policy to go on from a snapshot."""
    return MessPlus(zoo, features_width(), settings, snapshot, encoder)


POLICY = PolicyKind(
    "messplus",
    30,
    "MESS+: explores the whole zoo, then weighs cost against debt",
    build,
    learns=True,
    live=live,
    streams=True,
    by_mean_costs=True,
)
