"""The policy with its state: it decides, looks at answers, learns, is saved, and plays recorded rounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from messctl.learning.features import Encoder
from messctl.learning.snapshot import Arrays, ModelSnapshot, Snapshot, restore
from messctl.policies.bandit.calls import record_balance
from messctl.policies.bandit.choice import Prices
from messctl.policies.bandit.policy import Bandit
from messctl.policies.bandit.prompt import features_of
from messctl.policies.bandit.rounds import Outcomes, empty_steps
from messctl.policies.bandit.tuning import Tuning as BanditTuning
from messctl.policies.base import Floats, Played, Rounds, reading_costs, surcharges
from messctl.policies.cascade.beliefs import fresh, stored_arrays
from messctl.policies.cascade.calls import choose, learn_shown, look, record_shown, settle
from messctl.policies.cascade.choice import Way
from messctl.policies.cascade.difficulty import MOST
from messctl.policies.cascade.look import Seen, nothing_seen
from messctl.policies.cascade.rounds import Asks, empty_asks, play
from messctl.policies.cascade.rules import Rules
from messctl.policies.cascade.tuning import Tuning, constants_of
from messctl.records import TRIED, Course, Decision, Evidence, Feedback, Request, Weighed
from messctl.zoo import Settings, Zoo

SHARED = (
    "shared_weight",
    "shared_covariance",
    "agree_weight",
    "agree_covariance",
    "curve",
    "tally",
)
"""The arrays that all models share; the others have a part for each model."""


class Cascade(Bandit):
    """The bandit that may ask `settings.asks` models for one request; see `Bandit` for the rest."""

    def __init__(
        self,
        zoo: Zoo,
        settings: Settings,
        snapshot: Snapshot | None = None,
        tuning: BanditTuning | None = None,
        encoder: Encoder | None = None,
        looks: Tuning | None = None,
    ) -> None:
        super().__init__(zoo, settings, snapshot, tuning, encoder)
        self._looks = looks or Tuning()
        self._all_constants = (self._constants, constants_of(self._looks))
        promise = self._promise
        self._beliefs = fresh(len(zoo.models), promise.reference, promise.alpha, self._tuning.hope, self._looks)
        self._stored = stored_arrays(self._beliefs)
        if snapshot and snapshot.encoder == self._encoder.version:
            self._restore_beliefs(snapshot)

    def decide(self, request: Request) -> Decision:
        """Choose the model to ask first."""
        state, models = self._state, self._zoo.models
        mean_cost = {
            model: float(mean)
            for model, mean, count in zip(models, state.mean_cost, state.cost_count, strict=True)
            if count
        }
        first = choose(
            self._memory,
            self._beliefs,
            self._promise,
            self._all_constants,
            self._settings.asks if request.looks else 1,
            self._wide(request),
            self._prices(request),
            float(self._coin.random()),
        )
        served = models[first.model]
        way = first.way
        return Decision(
            request=request,
            request_number=self._decided,
            served=served,
            queried=(served,),
            propensity=float(way.alone_chance + (way.planned_chance if way.planned else 0.0)),
            queue=self.queue,
            predicted=dict(zip(models, first.predicted.tolist(), strict=True)),
            mean_cost=mean_cost,
            weighed=Weighed(
                terms={"expected cost": dict(zip(models, first.cost.tolist(), strict=True))},
                figures={"λ": float(way.price), "balance": float(first.balance), "Q": self.queue},
                note=TRIED if first.model != first.best else "",
            ),
            course=Course(
                price=float(way.price),
                alone=bool(way.alone),
                planned=bool(way.planned),
                alone_chance=float(way.alone_chance),
                planned_chance=float(way.planned_chance),
            ),
        )

    def look(self, decision: Decision, answers: Mapping[str, Evidence]) -> Decision:
        """Return how a request goes on after `answers`, in the order in which they were asked.

        `served` is then another model to ask, or, if it is among them, the one whose answer is shown.
        """
        course = decision.course
        if course is None:
            return replace(decision, answers=answers)
        request, models = decision.request, self._zoo.models
        seen = self._seen(answers)
        way = Way(course.price, course.alone, course.planned, course.alone_chance, course.planned_chance)
        step = look(
            self._memory,
            self._beliefs,
            self._promise,
            self._all_constants,
            self._settings.asks,
            self._wide(request),
            self._prices(request),
            way,
            seen,
            len(answers),
        )
        asked = tuple(answers)
        course = replace(course, believed=None if math.isnan(step.believed) else float(step.believed))
        if step.next >= 0:
            following = models[step.next]
            return replace(decision, served=following, queried=(*asked, following), answers=answers, course=course)
        record_shown(self._memory, int(seen.model[0]), int(seen.model[step.shown]))
        shown, chance = asked[step.shown], float(step.chance)
        return replace(decision, served=shown, queried=asked, propensity=chance, answers=answers, course=course)

    def learn(self, decision: Decision, feedback: Feedback) -> None:
        """Learn what all answers cost, and the feedback on the shown one."""
        satisfied = feedback.satisfied.get(decision.served)
        if satisfied is not None and not feedback.corrects:
            number = max(0, decision.request_number - int(self._state.tally.elsewhere))
            record_balance(self._memory, self._constants, self._promise.alpha, number, satisfied)
        models = self._zoo.models
        answers = {
            model: decision.answers.get(model, Evidence(place))
            for place, model in enumerate(decision.answers or decision.queried)
            if model in models
        }
        wide, seen = self._wide(decision.request), self._seen(answers)
        if answers and set(answers) <= set(feedback.costs):
            cost = np.array([feedback.costs.get(model, 0.0) for model in models])
            reading = reading_costs(self._zoo, decision.request)
            settle(self._memory, self._beliefs, self._constants, seen, len(answers), wide, reading, cost)
        if satisfied is not None and decision.served in answers:
            learn_shown(
                self._memory,
                self._beliefs,
                self._promise,
                self._all_constants,
                seen,
                len(answers),
                list(answers).index(decision.served),
                decision.course is None or decision.course.alone,
                satisfied,
                wide,
            )

    def snapshot(self) -> Snapshot:
        """Return a copy of the state, for a later instance to go on from."""
        known = super().snapshot()
        models = {
            name: replace(model, arrays={**model.arrays, **_copies(self._stored_parts(index))})
            for index, (name, model) in enumerate(known.models.items())
        }
        return replace(known, shared={**known.shared, **_copies(self._stored_parts())}, models=models)

    def _stored_parts(self, index: int | None = None) -> Arrays:
        """Return the stored arrays that all models share, or the parts of one model, as views."""
        shared = {f"look_{name}" for name in SHARED}
        return {
            name: array if index is None else array[index, ...]
            for name, array in self._stored.items()
            if (name in shared) == (index is None)
        }

    def _restore_beliefs(self, known: Snapshot) -> None:
        """Go on with what is believed of answers, as far as it is stored."""
        restore(known.shared, self._stored_parts())
        for index, name in enumerate(self._zoo.models):
            restore(known.models.get(name, ModelSnapshot()).arrays, self._stored_parts(index))

    def _wide(self, request: Request) -> Floats:
        return np.append(features_of(self._encoder.one(request.prompt)), 1.0)

    def _prices(self, request: Request) -> Prices:
        return Prices(reading_costs(self._zoo, request), surcharges(self._zoo, request))

    def _seen(self, answers: Mapping[str, Evidence]) -> Seen:
        seen, groups = nothing_seen(), dict[int, int]()
        for at, (model, evidence) in enumerate(list(answers.items())[:MOST]):
            seen.model[at] = self._zoo.index(model)
            seen.group[at] = groups.setdefault(evidence.group, len(groups))
            seen.logprob[at] = math.nan if evidence.logprob is None else evidence.logprob
        return seen

    def play(self, rounds: Rounds) -> Played:
        """Start afresh and play all rounds in one compiled loop."""
        return Cascade(self._zoo, self._settings, tuning=self._tuning, looks=self._looks).play_on(rounds)

    def play_on(self, rounds: Rounds) -> Played:
        """Play rounds from where this instance is, and end with all feedback learned. Without answers it asks once."""
        if rounds.answers is None:
            return super().play_on(rounds)
        n, models = len(rounds), len(self._zoo.models)
        reading = np.empty((0, models)) if rounds.prompt_cost is None else rounds.prompt_cost
        steps, asks = empty_steps(n, models), empty_asks(n)
        play(
            self._state,
            self._beliefs,
            Rules(self._promise, self._tuning, self._looks, self._settings.asks),
            rounds.arrivals,
            self._coin.random(n),
            rounds.features.sparse_rows,
            Outcomes(rounds.satisfied, rounds.cost, reading),
            rounds.answers,
            steps,
            asks,
        )
        return replace(
            self._played(rounds, steps),
            cost=_summed(rounds.cost, rounds, asks),
            asks=asks.number,
            latency_s=None if rounds.latency_s is None else _summed(rounds.latency_s, rounds, asks),
        )


def _summed(table: Floats, rounds: Rounds, asks: Asks) -> Floats:
    """Return the sum, (n,), over the models asked, of a `table` in the trace's order, (n, models)."""
    total = np.zeros(len(rounds))
    for place in range(MOST):
        total += np.where(place < asks.number, table[rounds.order, asks.model[:, place]], 0.0)
    return total


def _copies(arrays: Arrays) -> Arrays:
    return {name: array.copy() for name, array in arrays.items()}
