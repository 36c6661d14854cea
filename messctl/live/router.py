"""Live: a request goes through the policy to a model, and what comes of it back into the state.

    prompt → decide → complete → learn the costs → grade or wait for feedback → learn → store

Deciding and learning are transactions of the store, answering is not: two shells may ask at once.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from messctl.backends.answer_stream import AnswerStream
from messctl.backends.base import Backend, OnText
from messctl.backends.openai import patience_s
from messctl.costs.load_costs import Loads
from messctl.costs.meter import Meter
from messctl.costs.metered_backend import MeteredBackend, cost_of
from messctl.costs.prompt_cost import Forecast, characters
from messctl.errors import BackendError, StoreError, UnknownNameError, UsageError
from messctl.graders import Grader
from messctl.learning.features import Encoder
from messctl.learning.snapshot import Snapshot, cost_source
from messctl.live.stored_policy import StoredPolicy
from messctl.records import Completion, Decision, Feedback, Outcome, Quality, Question, Request
from messctl.state.ledger import Ledger, Standing
from messctl.state.request_log import Circumstances, LoggedRequest
from messctl.state.store import Store
from messctl.zoo import ModelSpec, Settings, Zoo, costliest

OnDecision = Callable[[Decision], None]


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of one request: its decision, the served `completion`, its cost, and its grade, if there is one.

    `cost` is everything that was paid for the request, loading models included. `failures` are the models that were
    asked and could not answer, and why: those that were to be served instead, and those queried beside the served one.
    `attempts` are the models that were to be served, one after the other; the last of them was. `cost_quality`
    says how the served answer's cost is known.
    """

    decision: Decision
    completion: Completion
    cost: float
    cost_unit: str
    meter: str
    cost_quality: Quality
    forced: bool
    satisfied: float | None
    standing: Standing
    failures: Mapping[str, str]
    attempts: tuple[str, ...]


class Router:
    """The live router over a zoo of models, a backend that runs them, a meter, and a store of its state.

    `grader` judges every answer, unless a request brings one of its own; the policy sees prompts as the `encoder` does,
    by default by their words. `loads` tells what it costs to load a model.
    """

    def __init__(
        self,
        models: Mapping[str, ModelSpec],
        settings: Settings,
        backend: Backend,
        meter: Meter,
        store: Store,
        grader: Grader | None = None,
        encoder: Encoder | None = None,
        loads: Loads | None = None,
    ) -> None:
        self._loads = loads or Loads()
        self._encoder = encoder
        self._models = models
        self._settings = settings
        self._backend = MeteredBackend(backend, meter, self._loads)
        self._meter = meter
        self._forecast = Forecast(models.values(), meter)
        self._store = store
        self._places = {name: model.place for name, model in models.items()}
        self._grader = grader
        self._zoo = Zoo.of(models, settings.reference or _costliest(models, meter))
        self._policy = StoredPolicy(self._zoo, settings, store, self.cost_source, encoder)

    @property
    def settings(self) -> Settings:
        """What is promised, and how it is kept."""
        return self._settings

    @property
    def zoo(self) -> Zoo:
        """The models' names, and the reference among them."""
        return self._zoo

    @property
    def state_path(self) -> Path:
        """Where the state is kept."""
        return self._store.path

    @property
    def encoder(self) -> Encoder | None:
        """What the policy sees of prompts; None: their words."""
        return self._encoder

    @property
    def grades(self) -> bool:
        """Whether every answer is judged, whoever asks."""
        return self._grader is not None

    @property
    def cost_source(self) -> str:
        """Where costs come from: the unit, and the meter."""
        return cost_source(self._meter.unit, self._meter.source)

    def ask(
        self,
        question: Question,
        *,
        model: str | None = None,
        grader: Grader | None = None,
        on_text: OnText | None = None,
        on_decision: OnDecision | None = None,
        request_id: str | None = None,
    ) -> Answered:
        """Route one question, have it answered, and learn what it cost, and how good it was where `grader` tells.

        `model` overrides the policy. `on_decision` hears the decision before any model runs, `on_text` the served
        answer as it comes. A model that cannot answer is left alone for a while (see `messctl.state.outages`), and the
        request goes to the next best, unless part of an answer has been told, or `model` was wanted. Raises
        BackendError where no model answers, StoreError, UsageError.
        """
        grader = grader or self._grader
        gradable = grader is not None and model is None
        request = Request(request_id or secrets.token_hex(6), question.prompt, gradable)
        decision, served, lost = self._serve(request, question, model, on_text, on_decision)
        answered = {decision.served: served}
        failures = dict(lost)
        if len(decision.queried) > 1:
            # What somebody has seen already is kept before the others are asked, which may take long.
            self._settle(decision, answered, {})
            answered, others = self._complete_others(decision, question)
            failures |= others
        grades = (
            {name: grader(got.answer) for name, got in ({decision.served: served} | answered).items()} if grader else {}
        )
        costs = self._settle(decision, answered, grades)
        if len(decision.queried) > 1:
            costs[decision.served] = cost_of(served).amount
        return Answered(
            decision=decision,
            completion=served,
            cost=sum(costs[name] for name in sorted(costs)),
            cost_unit=self._meter.unit,
            meter=self._loads.with_meter(self._meter.source),
            cost_quality=cost_of(served).quality,
            forced=model is not None,
            satisfied=grades.get(decision.served),
            standing=self.standing(),
            failures=failures,
            attempts=(*lost, decision.served),
        )

    def feedback(self, request_id: str, satisfied: float) -> tuple[LoggedRequest, float | None]:
        """Take a user's judgement, 0..1, of the answer served to a request: an id, the start of one, or `last`.

        Returns the request, and the earlier judgement that this one corrects. A correction keeps the earlier one's
        place in the order, and queue and balance are recomputed from there; the policy, which cannot unlearn, learns
        the new judgement as one more label. Raises UsageError, StoreError.
        """
        if not 0.0 <= satisfied <= 1.0:
            raise UsageError(f"feedback is {satisfied:g}; it must lie in 0..1")
        with self._store.transaction(synced=True):
            logged = self._store.find(request_id)
            if not logged.answers:
                raise UsageError(f"request {logged.decision.request.request_id} was never answered; nothing to judge")
            judged = {logged.decision.served: satisfied}
            corrected = self._store.set_feedback(logged.decision.request.request_id, judged, logged.decision.served)
            self._policy.judge(logged, satisfied, corrected)
        return logged, corrected

    def start_from(self, learned: Snapshot, *, overwrite: bool = False) -> None:
        """Take what was learned elsewhere in place of what was learned here.

        Requests, judgements and the debt stay as they are. Raises UsageError where there are requests already, unless
        `overwrite` is wanted.
        """
        with self._store.transaction(synced=True):
            if not overwrite:
                self.check_unused()
            self._policy.start_from(learned)

    def check_unused(self) -> None:
        """Raise UsageError where there are requests already."""
        if self._store.newest(1):
            raise UsageError(f"{self._store.path}: has requests, and has learned from them; give --overwrite")

    def standing(self) -> Standing:
        """Return where the promise stands now."""
        return Standing.of(self._store)

    def ledger(self) -> Ledger:
        """Return where the promise and the spending stand now."""
        return Ledger.of(self._store)

    def _serve(
        self,
        request: Request,
        question: Question,
        model: str | None,
        on_text: OnText | None,
        on_decision: OnDecision | None,
    ) -> tuple[Decision, Completion, dict[str, str]]:
        """Have the model answer that is decided on, or else the next; return those that could not, and why, too."""
        stream = AnswerStream(on_text)
        lost: dict[str, str] = {}
        before: Decision | None = None
        while True:
            if before is None:
                decision = self._decide(request, question, model)
            else:
                decision = self._decide_again(before, frozenset(lost))
            if on_decision:
                on_decision(decision)
            began = time.time()
            try:
                completion = self._backend.complete(self._models[decision.served], question, stream.listener)
            except BackendError as error:
                self._lose(decision, decision.served, error, began)
                if stream.started:
                    raise BackendError(f"{error}; part of its answer was told, so no other model was asked") from error
                lost[decision.served] = str(error)
                if model is not None or len(lost) == len(self._models):
                    if len(lost) == 1:
                        raise
                    raise BackendError(f"no model could answer: {'; '.join(lost.values())}") from error
                before = decision
            except BaseException:  # Ctrl-C, or a listener that has heard enough
                self._give_up(decision.queried, answering=decision.served if stream.started else None)
                raise
            else:
                return decision, completion, lost

    def _decide(self, request: Request, question: Question, model: str | None) -> Decision:
        if model is not None and model not in self._models:
            raise UnknownNameError("model", model, self._zoo.models)
        length = characters(question)
        ratios = self._store.tokens_per_character(self._models)
        request = replace(request, prompt_cost=self._forecast.of_characters(length, ratios))
        with self._store.transaction():
            if model is None:
                decision = self._policy.decide(self._now(request, self._store.down(self._places)))
                self._loads.regret(decision)
            else:
                decision = self._policy.overridden(request, model)
            alone = None if question.history else length
            self._store.add_request(decision, self._circumstances(alone, forced=model is not None))
            self._claim(decision)
        return decision

    def _decide_again(self, lost: Decision, failed: frozenset[str]) -> Decision:
        """Decide on a request whose model failed, without those that `failed` at it."""
        with self._store.transaction():
            excluded = failed | self._store.down(self._places)
            if excluded.issuperset(self._models):
                excluded = failed
            decision = self._policy.decide_again(lost, self._now(lost.request, excluded))
            self._store.revise(decision)
            self._claim(decision)
        return decision

    def _claim(self, decision: Decision) -> None:
        """Have nobody else try a model that is out for as long as all that are asked may take, one by one."""
        self._store.try_again(decision.queried, sum(patience_s(self._models[name]) for name in decision.queried))

    def _give_up(self, models: Iterable[str], answering: str | None = None) -> None:
        """Have others try models again soon that were not waited for; the one that was `answering` is in use."""
        with self._store.transaction():
            self._store.give_back(models)
            if answering is not None:
                self._store.answers_again(answering)

    def _now(self, request: Request, excluded: frozenset[str]) -> Request:
        """Return the request with what now holds: which models are `excluded`, and what loading the others costs."""
        cold = (spec for spec in self._models.values() if not self._backend.resident(spec))
        return replace(request, excluded=excluded, surcharge=self._loads.surcharge(cold))

    def _lose(self, decision: Decision, model: str, error: BackendError, began: float) -> None:
        """Log that a model could not answer."""
        with self._store.transaction():
            self._store.add_lost(decision.request.request_id, model, self._places[model], error, began)

    def _complete_others(self, decision: Decision, question: Question) -> tuple[dict[str, Completion], dict[str, str]]:
        """Have the models answer that were queried beside the served one; one that fails is left out."""
        completions: dict[str, Completion] = {}
        failures: dict[str, str] = {}
        for name in decision.queried:
            if name != decision.served:
                began = time.time()
                try:
                    completions[name] = self._backend.complete(self._models[name], question)
                except BackendError as error:
                    self._lose(decision, name, error, began)
                    failures[name] = str(error)
                except BaseException:
                    self._give_up(set(decision.queried) - {decision.served} - set(completions) - set(failures))
                    raise
        return completions, failures

    def _settle(
        self, decision: Decision, completions: Mapping[str, Completion], grades: Mapping[str, float]
    ) -> dict[str, float]:
        """Log answers, learn what they cost and how they were graded, and return what was paid, all at once.

        What a load cost is paid, and not learned as the cost of an answer: a model is not dear for having been cold.
        """
        spent = {name: cost_of(got) for name, got in completions.items()}
        costs = {name: cost.answer for name, cost in spent.items()}
        counted = {name: got.tokens_in for name, got in completions.items() if got.tokens_in > 0}
        read = self._forecast.of_tokens(counted)
        told = replace(decision.request, prompt_cost={**decision.request.prompt_cost, **read})
        decision = replace(decision, request=told)
        request_id = decision.request.request_id
        outcomes = {
            name: Outcome(
                None,
                spent[name].amount,
                got.latency_s,
                got.tokens_in,
                got.tokens_out,
                got.answer,
                cost_quality=spent[name].quality,
            )
            for name, got in completions.items()
        }
        with self._store.transaction(synced=bool(grades)):
            if not self._store.has(request_id):
                raise StoreError(f"{self._store.path}: was reset meanwhile; the answer is not kept, ask again for that")
            self._store.add_answers(request_id, outcomes)
            feedback = [Feedback(costs=costs)]
            if grades:
                self._store.set_feedback(request_id, grades, decision.served)
                feedback.append(Feedback(satisfied=grades))
            self._policy.learn(decision, *feedback)
        return {name: cost.amount for name, cost in spent.items()}

    def _circumstances(self, length: int | None, *, forced: bool) -> Circumstances:
        meter = self._meter
        return Circumstances(
            self._settings.policy, self._settings.aim, meter.unit, self._loads.with_meter(meter.source), forced, length
        )


def _costliest(models: Mapping[str, ModelSpec], meter: Meter) -> str:
    """Return the model with the dearest tokens; if the price of none is known, the one with the largest file."""
    prices: dict[str, float] = {}
    for name, model in models.items():
        with suppress(BackendError):  # its file cannot be read; the error comes if the model is to answer
            per_token = meter.per_token(model)
            prices[name] = per_token.prompt + per_token.generated
    return costliest(prices or {name: _file_size(model) for name, model in models.items()})


def _file_size(model: ModelSpec) -> float:
    """Return the size of a model's file in bytes, 0 if it has none."""
    return model.path.stat().st_size if model.path is not None and model.path.is_file() else 0
