"""`messplus`: the router of MESS+ (arXiv:2505.19947).

With probability min(1, c / t^¼) it explores: every model is queried and paid for, each label is learned, and the
reference's answer is served. Otherwise it serves argmin V·Ē + Q·(α − ŝ).

A request whose answers nobody will grade cannot be explored. There, as live use often is, it learns from the
feedback on the served answer alone.

Ē is the running mean, as published: what is known of a request's cost beforehand (`Request.prompt_cost`) is not used.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from messctl.learning.compiled import compiled
from messctl.learning.features import Encoder, WordEncoder
from messctl.learning.features import width as features_width
from messctl.learning.mean_costs import AUTO_SCALE, observe, scale_of
from messctl.learning.predictor import Weights, predict, step
from messctl.learning.random_streams import stream
from messctl.learning.snapshot import Arrays, ModelSnapshot, Snapshot, restore
from messctl.learning.virtual_queue import advance
from messctl.policies.base import Floats, Played, PolicyKind, Rounds, surcharges
from messctl.records import SURCHARGE, Decision, Feedback, Request, Weighed
from messctl.zoo import Settings, Zoo

STATE_VERSION = 1
"""Changes whenever arrays that were saved would mean something else."""


class MessPlus:
    """MESS+ with its state: virtual queue, running mean costs, predictor and exploration coins."""

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
        """The predictor's state; it goes on changing as this policy learns."""
        return self._weights

    def decide(self, request: Request) -> Decision:
        """Flip the exploration coin, then explore or exploit."""
        settings, models = self._settings, self._zoo.models
        self._decided += 1
        # The coin is flipped in any case: every request has its own, whatever became of those before it.
        coin = self._coin.random()
        p_explore = explore_probability(settings.c, settings.exponent, self._decided) if request.gradable else 0.0
        explored = coin < p_explore
        predicted = self._weights.predict(self._encoder.one(request.prompt))
        scale = float(scale_of(self._mean_cost, self._scale))
        extra = surcharges(self._zoo, request)
        best = models[exploit(settings.weight, settings.aim, self._queue, scale, self._mean_cost + extra, predicted)]
        askable = tuple(model for model, more in zip(models, extra, strict=True) if more < np.inf)
        # The reference is served when exploring, and otherwise only where it is also the best.
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
            note="" if request.gradable else "not exploring: nobody grades all answers",
        )

    def learn(self, decision: Decision, feedback: Feedback) -> None:
        """Take costs into the means, the served answer's feedback into the queue, labels into the weights.

        Labels are learned where the request was explored, or where it could not be.
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
        """Return the state as it stands, for a later instance to go on from."""
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
        """Return one model's part of the weights, as views."""
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
        """Play rounds from where this instance stands, and stand where they end; all feedback is in by then."""
        settings, features, n = self._settings, rounds.features, len(rounds)
        shape = (n, len(self._zoo.models))
        served = np.empty(n, dtype=np.int64)
        paid, has_feedback, before, after = (np.empty(n) for _ in range(4))
        predicted, mean_cost = np.empty(shape), np.empty(shape)
        p_explore = explore_probabilities(settings.c, settings.exponent, self._decided + 1, n)
        explored = self._coin.random(n) < p_explore
        arrivals = (rounds.order, rounds.has_feedback, rounds.delay)
        learn_along(
            arrivals,
            explored,
            (features.starts, features.indices, features.values),
            rounds.satisfied,
            (self._weights.weight, self._weights.bias, self._weights.steps),
            predicted,
        )
        self._queue = _decide_along(
            (settings.aim, settings.weight, self._scale),
            self._zoo.index(self._zoo.reference),
            arrivals,
            (rounds.satisfied, rounds.cost),
            (explored, predicted),
            (self._queue, self._mean_cost, self._cost_count),
            (served, paid, has_feedback, before, after, mean_cost),
        )
        self._decided += n
        self._balance += float(np.nansum(has_feedback - settings.aim))
        return Played(
            zoo=self._zoo,
            alpha=settings.aim,
            order=rounds.order,
            share=np.bincount(served, minlength=shape[1]) / n,
            cost=paid,
            satisfied=has_feedback,
            satisfied_all=rounds.satisfied[rounds.order, served],
            queue_before=before,
            queue_after=after,
            served=served,
            explored=explored,
            p_explore=p_explore,
            predicted=predicted,
            mean_cost=mean_cost,
            cost_scale=scale_of(self._mean_cost, self._scale),
            weights=self._weights,
        )


def build(_argument: str | None, rounds: Rounds, settings: Settings) -> MessPlus:
    """Build the policy; of the rounds it takes the zoo and the features' width, nothing that happened in them."""
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


@compiled
def explore_probability(c: float, exponent: float, request_number: int) -> float:
    """Return min(1, c / t^exponent), t counted from 1."""
    return min(1.0, c / request_number**exponent)


@compiled
def exploit(v: float, alpha: float, queue: float, scale: float, cost: Floats, predicted: Floats) -> int:
    """Return argmin over m of V·cost/scale + Q·(α − ŝ_m); a tie goes to the cheaper model, then to the name.

    `cost` (models,) is Ē_m and what m would cost now beyond its answer, infinitely much where it cannot be asked.
    """
    best = 0
    least = np.inf
    for model in range(len(cost)):
        if cost[model] == np.inf:  # with V = 0 the product would be no number
            continue
        score = v * (cost[model] / scale) + queue * (alpha - predicted[model])
        if score < least or (score == least and cost[model] < cost[best]):
            best = model
            least = score
    return best


@compiled
def explore_probabilities(c: float, exponent: float, first: int, requests: int) -> Floats:
    """Return the probabilities of so many requests in a row, the first of which is number `first`."""
    found = np.empty(requests)
    for t in range(requests):
        found[t] = explore_probability(c, exponent, first + t)
    return found


@compiled
def learn_along(
    arrivals: tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], int],
    explored: npt.NDArray[np.bool_],
    rows: tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float32]],
    satisfied: Floats,
    learned: tuple[Floats, Floats, npt.NDArray[np.int64]],
    predicted: Floats,
) -> None:
    """Predict every request and learn from those explored: what is known never depends on what V and α decide.

    `learned` changes in place; `predicted` (n, models), by arrival, is filled in.
    """
    order, has_feedback, delay = arrivals
    starts, indices, values = rows
    weight, bias, taken = learned
    n, models = predicted.shape
    for t in range(n + delay):
        if t < n:
            part = slice(starts[order[t]], starts[order[t] + 1])
            predict(weight, bias, indices[part], values[part], predicted[t])
        due = t - delay
        if due >= 0 and has_feedback[due] and explored[due]:
            row = order[due]
            part = slice(starts[row], starts[row + 1])
            for model in range(models):
                step(weight, bias, taken, model, indices[part], values[part], satisfied[row, model])


@compiled
def _decide_along(
    settings: tuple[float, float, float],
    reference: int,
    arrivals: tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], int],
    outcomes: tuple[Floats, Floats],
    foreseen: tuple[npt.NDArray[np.bool_], Floats],
    books: tuple[float, Floats, npt.NDArray[np.int64]],
    steps: tuple[npt.NDArray[np.int64], Floats, Floats, Floats, Floats, Floats],
) -> float:
    """Decide every request, given what explores and what is predicted; return the queue at the end.

    Mean costs and their counts change in place; `steps` are filled in.
    """
    alpha, v, fixed_scale = settings
    order, has_feedback, delay = arrivals
    satisfied, cost = outcomes
    explored, predicted = foreseen
    queue, mean_cost, cost_count = books
    served, paid, judged, before, after, mean_costs = steps
    n, models = predicted.shape
    for t in range(n + delay):
        if t < n:
            row = order[t]
            for model in range(models):
                mean_costs[t, model] = mean_cost[model] if cost_count[model] else np.nan
            before[t] = queue
            paid[t] = 0.0
            if explored[t]:
                served[t] = reference
                for model in range(models):
                    paid[t] += cost[row, model]
                    observe(mean_cost, cost_count, model, cost[row, model])
            else:
                scale = scale_of(mean_cost, fixed_scale)
                served[t] = exploit(v, alpha, queue, scale, mean_cost, predicted[t])
                paid[t] = cost[row, served[t]]
                observe(mean_cost, cost_count, served[t], paid[t])
            judged[t] = satisfied[row, served[t]] if has_feedback[t] else np.nan
        due = t - delay
        if due >= 0 and has_feedback[due]:
            queue = advance(queue, alpha, judged[due])
        after[min(t, n - 1)] = queue
    return queue
