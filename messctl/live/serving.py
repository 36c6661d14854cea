"""Serving: a model is decided on and answers; if it cannot, the next one does."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from messctl.backends.answer_stream import AnswerStream
from messctl.backends.base import OnText
from messctl.backends.empty_answer import refuse_empty
from messctl.backends.patience import patience_s
from messctl.costs.load_costs import Loads
from messctl.costs.metered_backend import MeteredBackend, cost_of, outcome_of
from messctl.costs.prompt_cost import Forecast, characters, is_alone
from messctl.errors import (
    BackendError,
    BusyError,
    PromptError,
    PromptTooLongError,
    RefusedError,
    StoreError,
    UnfitError,
    UnknownNameError,
)
from messctl.graders.equality import Form, text
from messctl.live.fitness import Unfit, misfit, unfit
from messctl.live.second_look import UnshownRecipient, evidence_of, may_go_on, may_look, unseen
from messctl.live.stored_policy import StoredPolicy
from messctl.records import Completion, Decision, Feedback, Question, Request
from messctl.state.request_log import Circumstances
from messctl.state.store import Store
from messctl.zoo import ModelSpec

REMEMBERED = 0.5
"""The part of the cost of reading a prompt that a server saves if it remembers the earlier turns."""
OnDecision = Callable[[Decision], None]


@dataclass(frozen=True, slots=True)
class Served:
    """The decision that stood in the end, and the answers, by name. `failures` holds the errors of others, by name."""

    decision: Decision
    completions: Mapping[str, Completion]
    failures: Mapping[str, BackendError]

    @property
    def completion(self) -> Completion:
        """The answer that is shown."""
        return self.completions[self.decision.served]


@dataclass(frozen=True, slots=True)
class Serving:
    """Decides on a model of `models`, by name, and lets the `backend` run it. What happens goes to the `store`.

    `forecast` predicts what reading a prompt costs, `loads` what loading a model costs. `circumstances` is logged with
    every decision. An empty answer is a failure, unless `accept_empty`; its cost is logged and learned all the same.
    `full` returns the models for which too many requests wait already. Answers are compared by the form `equal`.
    """

    models: Mapping[str, ModelSpec]
    policy: StoredPolicy
    backend: MeteredBackend
    forecast: Forecast
    loads: Loads
    store: Store
    circumstances: Circumstances
    accept_empty: bool = False
    full: Callable[[], Iterable[str]] = tuple
    equal: Form = text

    def serve(
        self,
        request: Request,
        question: Question,
        model: str | None,
        on_text: OnText | None,
        on_thinking: OnText | None,
        on_decision: OnDecision | None,
        warm: str | None = None,
    ) -> Served:
        """Answer a question; `model`, if it is not None, overrides the policy. See `Router.ask`."""
        if model is not None and model not in self.models:
            raise UnknownNameError("model", model, sorted(self.models))
        stream, thoughts, recipient = AnswerStream(on_text), AnswerStream(on_thinking), question.recipient
        completions: dict[str, Completion] = {}
        failures: dict[str, BackendError] = {}
        self._read_ahead(question)
        request, unfit, decision = self._begin(replace(request, looks=may_look(question)), question, model, warm)
        while True:
            if on_decision:
                on_decision(decision)
            try:
                completions[decision.served] = self._answer(decision, question, stream.listener, thoughts.listener)
            except BackendError as error:
                if stream.started or (recipient is not None and recipient.shown):
                    raise BackendError(f"{error}; part of its answer was shown, so no other model was asked") from error
                failures[decision.served] = error
                if thoughts.listener and thoughts.started:
                    thoughts.listener("\n\n")  # the next model's thinking is another one
                if not completions and (model is not None or unfit.union(failures).issuperset(self.models)):
                    if len(failures) == 1:
                        raise
                    raise _of_all(list(failures.values())) from error
            except BaseException:  # Ctrl-C, or a listener that wants no more
                waiting = set(decision.queried) - set(completions)
                self._learn_costs(decision, completions)
                self._give_up(waiting, answering=decision.served if stream.started else None)
                raise
            decision = self._go_on(decision, request, completions, unfit.union(failures))
            if decision.served in completions:
                served = Served(decision, completions, failures)
                if may_go_on(decision):
                    if on_decision:
                        on_decision(decision)
                    _show(served.completion, stream.listener, thoughts.listener)
                return served

    def query_others(
        self, decision: Decision, question: Question
    ) -> tuple[dict[str, Completion], dict[str, BackendError]]:
        """Return the answers, by name, of the other models queried, and the errors of those that failed."""
        completions: dict[str, Completion] = {}
        failures: dict[str, BackendError] = {}
        question = replace(question, recipient=question.recipient and UnshownRecipient(question.recipient))
        for name in decision.queried:
            if name != decision.served:
                try:
                    completions[name] = self._attempt(decision, name, question)
                except BackendError as error:
                    failures[name] = error
                except BaseException:
                    self._give_up(set(decision.queried) - {decision.served} - set(completions) - set(failures))
                    raise
        return completions, failures

    def check_logged(self, *, logged: bool) -> None:
        """Raise StoreError if a request is not in the log any more."""
        if not logged:
            raise StoreError(
                f"{self.store.path}: was reset or pruned while the model answered, "
                "so the answer is not stored; ask again"
            )

    def _answer(
        self, decision: Decision, question: Question, on_text: OnText | None, on_thinking: OnText | None
    ) -> Completion:
        """Return the answer of the model to be asked. It is held back if another one may be shown instead."""
        if may_go_on(decision):
            return self._attempt(decision, decision.served, unseen(question))
        if decision.course is not None:
            question = replace(question, logprob=True)
        return self._attempt(decision, decision.served, question, on_text, on_thinking)

    def _attempt(
        self,
        decision: Decision,
        name: str,
        question: Question,
        on_text: OnText | None = None,
        on_thinking: OnText | None = None,
    ) -> Completion:
        """Return the answer of one model. Raises BackendError, after the failure is logged."""
        started_at, completion = time.time(), None
        try:
            completion = self.backend.complete(self.models[name], question, on_text, on_thinking)
            if not self.accept_empty:
                refuse_empty(self.models[name], question, completion)
        except BusyError:
            raise
        except BackendError as error:
            self._log_failure(decision, name, error, started_at, completion)
            raise
        return completion

    def _read_ahead(self, question: Question) -> None:
        """Read what a question needs of the models' files before the transaction, in which others would wait for it."""
        length = characters(question)
        if not self.forecast.ready(length):
            with self.store.unchanging():
                ratios = self.store.requests.lengths.tokens_per_character(self.models)
            self.forecast.of_characters(length, ratios)

    def _begin(
        self, request: Request, question: Question, model: str | None, warm: str | None
    ) -> tuple[Request, frozenset[str], Decision]:
        """Return the request as it is known now, the models that cannot serve it, and the first decision.

        Raises UnfitError if no model can serve it.
        """

        def begin() -> tuple[Request, frozenset[str], Decision | UnfitError]:
            self.store.requests.judgements.read_ahead()
            prepared, found = self._prepared(request, question, warm)
            unfit = frozenset(found)
            first = misfit(self.models, found, model) or self._decide(prepared, question, model, unfit)
            return prepared, unfit, first

        prepared, unfit, first = self.store.together(begin)
        if isinstance(first, UnfitError):  # raised here, so that nothing is undone, and read again for the next request
            raise first
        if model is None:
            self.loads.add_regret(first)  # once, though the decision may have been undone and made again
        return prepared, unfit, first

    def _prepared(self, request: Request, question: Question, warm: str | None) -> tuple[Request, dict[str, Unfit]]:
        """Return the request with what reading it will cost, and why models cannot serve it. In a transaction.

        If the model `warm` remembers the earlier turns, the others cost more.
        """
        length = characters(question)
        ratios = self.store.requests.lengths.tokens_per_character(self.models)
        found = {}
        for name, spec in self.models.items():
            tokens = length * ratios[name]
            reason = unfit(spec, question, tokens, self.forecast.context(spec, tokens))
            if reason is not None:
                found[name] = reason
        costs = self.forecast.of_characters(length, ratios)
        request = replace(request, prompt_cost=costs)
        if warm in costs and self.models[warm].url is not None:  # a model in this process reads all of it again
            others = (name for name in self.models if name != warm)
            request = replace(request, surcharge=dict.fromkeys(others, REMEMBERED * costs[warm]))
        return request, found

    def _decide(self, request: Request, question: Question, model: str | None, unfit: frozenset[str]) -> Decision:
        """Decide on a request, and log the decision, within a transaction."""
        if model is None:
            excluded = unfit | self._down() | frozenset(self.full())
            decision = self.policy.decide(self._as_of_now(request, self._possible(excluded, unfit)))
        else:
            decision = self.policy.overridden(request, model)
        alone = characters(question) if is_alone(question) else None
        self.store.requests.add(decision, replace(self.circumstances, forced=model is not None, characters=alone))
        self._claim(decision)
        return decision

    def _decide_again(self, lost: Decision, request: Request, failed: frozenset[str]) -> Decision:
        """Decide without the models that `failed`, since the model of the decision `lost` did."""
        with self.store.transaction():
            self.check_logged(logged=self.store.requests.has(request.request_id))
            excluded = self._possible(failed | self._down() | frozenset(self.full()), failed)
            decision = self.policy.decide_again(lost, self._as_of_now(request, excluded))
            self.store.requests.revise(decision)
            self._claim(decision)
        return decision

    def _go_on(
        self, decision: Decision, request: Request, completions: Mapping[str, Completion], failed: frozenset[str]
    ) -> Decision:
        """Return the decision on what comes next: without answers, or with those that are there."""
        if not completions:
            return self._decide_again(decision, request, failed)
        return decision if decision.course is None else self._look(decision, request, completions, failed)

    def _look(
        self, decision: Decision, request: Request, completions: Mapping[str, Completion], failed: frozenset[str]
    ) -> Decision:
        """Decide what follows from the answers so far: to show one, or to ask another model. Store them first."""
        request_id, outcomes = request.request_id, {name: outcome_of(each) for name, each in completions.items()}
        with self.store.transaction():
            self.check_logged(logged=self.store.requests.add_answers(request_id, outcomes))
            self.store.outages.end(outcomes)
            excluded = (failed | self._down() | frozenset(self.full())) - completions.keys()
            present = replace(decision, request=self._as_of_now(request, excluded))
            decision = self.policy.look(present, evidence_of(completions, self.equal))
            shown = decision.served if decision.served in completions else next(iter(completions))
            self.store.requests.revise(replace(decision, served=shown))
            if decision.served not in completions:
                self._claim(decision)
        return decision

    def _possible(self, excluded: frozenset[str], never: frozenset[str]) -> frozenset[str]:
        """Return the models to exclude: those that can `never` serve if nothing else would be left."""
        return never if excluded.issuperset(self.models) else excluded

    def _down(self) -> frozenset[str]:
        """Return the models that are left alone now, because they failed."""
        return self.store.outages.down({name: model.place for name, model in self.models.items()})

    def _as_of_now(self, request: Request, excluded: frozenset[str]) -> Request:
        """Return the request with the models that are `excluded` now, and with what loading the others now costs."""
        cold = (spec for spec in self.models.values() if not self.backend.resident(spec))
        surcharge = Counter(request.surcharge)
        surcharge.update(self.loads.surcharge(cold))
        return replace(request, excluded=excluded, surcharge=surcharge)

    def _claim(self, decision: Decision) -> None:
        """Keep others from trying a queried model that is out, for as long as all queried may take, one by one."""
        within_s = sum(patience_s(self.models[name]) for name in decision.queried)
        self.store.outages.claim(decision.queried, within_s)

    def _learn_costs(self, decision: Decision, completions: Mapping[str, Completion]) -> None:
        """Learn what answers cost after which another one was to come, and did not."""
        if completions:
            with self.store.transaction():
                if self.store.requests.has(decision.request.request_id):
                    costs = {name: cost_of(each).answer for name, each in completions.items()}
                    self.policy.learn(self.forecast.corrected(decision, completions), Feedback(costs=costs))

    def _give_up(self, models: Iterable[str], answering: str | None = None) -> None:
        """Let others try soon the models whose answers were not waited for. The one that was `answering` is not out."""
        with self.store.transaction():
            self.store.outages.give_back(models)
            if answering is not None:
                self.store.outages.end([answering])

    def _log_failure(
        self, decision: Decision, model: str, error: BackendError, started_at: float, empty: Completion | None
    ) -> None:
        """Log a failure; if the answer was `empty`, learn what it cost."""
        request_id, place = decision.request.request_id, self.models[model].place
        with self.store.transaction():
            outcome = None if empty is None else outcome_of(empty)
            self.store.outages.fail(request_id, model, place, error, started_at, outcome)
            if empty is not None and self.store.requests.has(request_id):
                attempt = self.forecast.corrected(replace(decision, served=model), {model: empty})
                self.policy.learn(attempt, Feedback(costs={model: cost_of(empty).answer}))


def _show(completion: Completion, on_text: OnText | None, on_thinking: OnText | None) -> None:
    """Pass on an answer that was held back until it was chosen."""
    if on_thinking and completion.thinking:
        on_thinking(completion.thinking)
    if on_text:
        on_text(completion.answer)


def _of_all(errors: Sequence[BackendError]) -> BackendError:
    """Return the error of all models together: of a kind that all share, if it tells what the request lacks."""
    kinds = (PromptTooLongError, PromptError, RefusedError, BusyError)
    kind = next((kind for kind in kinds if all(isinstance(error, kind) for error in errors)), BackendError)
    error = kind(f"no model could answer: {'; '.join(map(str, errors))}")
    error.again_after_s = min((each.again_after_s for each in errors), default=0.0)
    return error
