"""The live router: a request goes through the policy to a model, and what it teaches goes back into the state.

    prompt → decide → complete → learn the costs → grade or wait for feedback → learn → store

Deciding and learning are transactions of the store, answering is not: two shells may ask at once.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from messctl.backends.base import Backend, OnText
from messctl.costs.load_costs import Loads
from messctl.costs.meter import Meter, prices_of
from messctl.costs.metered_backend import MeteredBackend, cost_of, outcome_of
from messctl.costs.prompt_cost import Forecast
from messctl.errors import GradeError, StoreError, UsageError
from messctl.graders import Grader
from messctl.graders.equality import FORMS
from messctl.learning.features import Encoder
from messctl.learning.snapshot import Snapshot, cost_source
from messctl.live.serving import OnDecision, Serving
from messctl.live.stored_policy import StoredPolicy
from messctl.records import Completion, Decision, Feedback, Quality, Question, Request
from messctl.state.ledger import Ledger, Standing
from messctl.state.place import Place
from messctl.state.pruned import Pruned
from messctl.state.request_log import Circumstances, LoggedRequest
from messctl.state.sqlite_file import MEMORY
from messctl.state.store import Store
from messctl.zoo import ModelSpec, Settings, Zoo, costliest


@dataclass(frozen=True, slots=True)
class Answered:
    """The outcome of one request: its decision, the served `completion`, its cost, and its grade, None without one.

    `cost` (≥ 0, in `cost_unit`) covers every model that was queried, loading them, and empty answers. `cost_quality`
    says how the served answer's cost is known. `failures` says, by name, why models could not answer: those that were
    to be served, and those queried beside the served one. `attempts` are the models that were to be served, in order;
    the last was. `policy` is the name of the policy. `degraded`: the state was away, so nothing is stored.
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
    policy: str
    degraded: bool = False


class Router:
    """The live router over a zoo of models, a backend that runs them, a meter, and a store of its state.

    `grader` grades every answer, unless a request brings its own. An empty answer is a lost one, unless `accept_empty`
    makes it an answer like others. The policy sees prompts through the `encoder`, by default their words. `loads` knows
    what loading a model costs, and `full` for which models too many requests wait. What is learned of models goes into
    the store `shared`, too, if there is one, from which the routers of other promises learn.
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
        *,
        accept_empty: bool = False,
        full: Callable[[], Iterable[str]] = tuple,
        shared: Store | None = None,
    ) -> None:
        loads = loads or Loads()
        self._again = partial(
            Router, models, settings, backend, meter, grader=grader, encoder=encoder, loads=loads,
            accept_empty=accept_empty, full=full,
        )  # fmt: skip
        self._settings = settings
        self._meter = meter
        self._store = store
        self._grader = grader
        self._encoder = encoder
        self._zoo = Zoo.of(models, settings.reference or _costliest(models, meter))
        self._policy = StoredPolicy(self._zoo, settings, store, self.cost_source, encoder, shared)
        self._forecast = Forecast(models.values(), meter)
        self._circumstances = Circumstances(settings.policy, settings.aim, meter.unit, loads.with_meter(meter.source))
        self._serving = Serving(
            models,
            self._policy,
            MeteredBackend(backend, meter, loads),
            self._forecast,
            loads,
            store,
            self._circumstances,
            accept_empty,
            full,
            FORMS[settings.equal],
        )

    @property
    def settings(self) -> Settings:
        """The promise, and how it is kept."""
        return self._settings

    @property
    def zoo(self) -> Zoo:
        """The models' names, and the reference among them."""
        return self._zoo

    @property
    def state_path(self) -> Place:
        """Where the state is stored."""
        return self._store.path

    @property
    def encoder(self) -> Encoder | None:
        """How the policy sees prompts; None: by their words."""
        return self._encoder

    @property
    def grades(self) -> bool:
        """Whether every answer is graded, whoever asks."""
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
        on_thinking: OnText | None = None,
        on_decision: OnDecision | None = None,
        request_id: str | None = None,
        warm: str | None = None,
        lenient: bool = False,
    ) -> Answered:
        """Route one question, get it answered, and learn what the answer cost and, with a `grader`, how good it is.

        `model` overrides the policy. `on_decision` gets each decision: before a model runs, and before an answer is
        shown that was held back. `on_text` gets the served answer as it comes, `on_thinking` what its model thinks
        before it. If a model cannot answer, the request goes to the next best, unless part of the answer was shown or
        `model` is given. The model is then left alone for a while, see `messctl.state.outages`. Every answer is stored
        before it is graded. The model `warm` remembers the earlier turns. If `lenient`, an answer that cannot be
        graded stays without a grade.

        Raises BackendError if no model answers, UnfitError if none can serve such a request, GradeError if the answer
        cannot be graded, StoreError, UsageError, and LeftError if whoever waits has left.
        """
        grader = grader or self._grader
        gradable = grader is not None and model is None
        request = Request(request_id or secrets.token_hex(6), question.prompt, gradable)
        served = self._serving.serve(request, question, model, on_text, on_thinking, on_decision, warm)
        decision, failures = served.decision, dict(served.failures)
        # The user has seen this answer, and paid for it: it is stored before what may take long, or may fail.
        unlearned = dict(served.completions)
        if not unlearned.keys() >= set(decision.queried):
            self._learn(decision, unlearned)
            unlearned, more_failures = self._serving.query_others(decision, question)
            failures |= more_failures
        completions = dict(served.completions) | unlearned
        grades = standing = None
        try:
            grades = self._graded(decision, unlearned, completions, grader) if grader else None
        except GradeError:  # what the answers cost is learned
            if not lenient:
                raise
        else:
            standing = self._learn(decision, unlearned, grades)
        return Answered(
            decision=decision,
            completion=served.completion,
            cost=sum(cost_of(completions[name]).amount for name in sorted(completions))
            + sum(failures[name].paid for name in sorted(failures)),
            cost_unit=self._circumstances.cost_unit,
            meter=self._circumstances.meter,
            cost_quality=cost_of(served.completion).quality,
            forced=model is not None,
            satisfied=grades[decision.served] if grades else None,
            standing=standing or self.standing(),
            failures={name: str(error) for name, error in failures.items()},
            attempts=(*served.failures, decision.served),
            policy=self._settings.policy,
        )

    def feedback(
        self, request_id: str, satisfied: float, comment: str | None = None, source: str | None = None
    ) -> tuple[LoggedRequest, float | None]:
        """Take a user's feedback, 0..1, on the answer to a request: an id, the start of one, or `last`.

        Returns the request, and the earlier feedback that this one corrects, None if it is the first. A correction
        keeps the earlier one's place in the order, and queue and balance are computed anew from there. The policy
        cannot unlearn: it learns the correction as one more label. A `comment`, and the `source` of the feedback, are
        stored with it. Raises UsageError, StoreError.
        """
        if not 0.0 <= satisfied <= 1.0:
            raise UsageError(f"feedback is {satisfied:g}; it must lie in 0..1")

        def take() -> tuple[LoggedRequest, float | None]:
            logged = self._store.requests.find(request_id)
            name, served = logged.decision.request.request_id, logged.decision.served
            if not logged.answers:
                raise UsageError(f"request {name} has no answer to give feedback on; wait for it, or ask again")
            corrected = self._store.requests.set_feedback(name, {served: satisfied}, served)
            if comment is not None or source is not None:
                self._store.requests.remark(name, comment, source)
            self._policy.learn_feedback(logged, satisfied, corrected)
            return logged, corrected

        return self._store.together(take, synced=True)

    def knows(self, request_id: str) -> bool:
        """Return whether a request is logged. Raises StoreError."""
        with self._store.unchanging():
            return self._store.requests.has(request_id)

    def pruned(self) -> Pruned | None:
        """Return what is not in the log any more; None if all is. Raises StoreError."""
        with self._store.unchanging():
            return self._store.pruning.pruned()

    def prepare(self) -> None:
        """Load all that deciding and learning need: a second, or a minute after installing. Raises StoreError."""
        self._policy.rehearse()

    def check_state(self) -> None:
        """Raise StoreError if nothing could be stored now; nothing is."""
        self._store.database.check_usable()

    def in_memory(self) -> Router:
        """Return a router that knows what this one read or saved last, over an empty state in memory."""
        store, known = Store(MEMORY), self._policy.last_known
        if known.policy:
            with store.transaction():
                store.policy.save(known)
        return self._again(store=store)

    def start_from(self, learned: Snapshot, *, overwrite: bool = False) -> None:
        """Replace what was learned here by what was learned elsewhere.

        Requests, feedback and the debt stay. Raises UsageError if there are requests already, unless `overwrite`.
        """
        with self._store.transaction(synced=True):
            if not overwrite:
                self.check_unused()
            self._policy.start_from(learned)

    def check_unused(self) -> None:
        """Raise UsageError if there are requests already."""
        if self._store.requests.count():
            raise UsageError(f"{self._store.path}: has requests, and has learned from them; give --overwrite")

    def standing(self) -> Standing:
        """Return how well the promise is kept so far."""
        return Standing.of(self._store)

    def ledger(self) -> Ledger:
        """Return how well the promise is kept so far, and what was spent."""
        return Ledger.of(self._store, prices_of(self._serving.models.values(), self._meter))

    def _graded(
        self,
        decision: Decision,
        unstored: Mapping[str, Completion],
        completions: Mapping[str, Completion],
        grader: Grader,
    ) -> dict[str, float]:
        """Store answers, then return the grade of every answer. If one cannot be graded, learn what they cost."""
        self._store.together(lambda: self._store_answers(decision, unstored), about=decision.request.request_id)
        try:
            return {name: grader(each.answer) for name, each in completions.items()}
        except BaseException as error:
            self._learn(decision, unstored)
            if isinstance(error, GradeError):
                what = "the answer is stored without a grade: judge it with `messctl feedback`"
                raise GradeError(f"{error}; {what}") from None
            raise

    def _learn(
        self, decision: Decision, completions: Mapping[str, Completion], grades: Mapping[str, float] | None = None
    ) -> Standing:
        """Learn what answers cost and how they were graded, in one transaction. Without grades, store them, too.

        Returns how well the promise is kept then.

        The cost of a load is stored with the answer, but it is not learned as a cost of the answer: a model is not
        costlier because it was not loaded. A grade corrects the feedback that a user gave in the meantime.
        """
        costs = {name: cost_of(completion).answer for name, completion in completions.items()}

        def learn() -> Standing | StoreError:
            feedback, earlier = [Feedback(costs=costs)], None
            if grades:
                try:
                    earlier = self._store.requests.set_feedback(decision.request.request_id, grades, decision.served)
                except UsageError:
                    self._serving.check_logged(logged=False)
                feedback.append(Feedback(satisfied=grades, corrects=earlier is not None))
            else:
                self._store_answers(decision, completions)
            known = self._forecast.corrected(decision, completions)
            self._policy.learn(known, *feedback, corrected=earlier is not None)
            try:
                return Standing.within(self._store, self._policy.queue())
            except StoreError as error:  # raised below: damaged sums must not undo what was learned
                return error

        standing = self._store.together(learn, synced=bool(grades), about=decision.request.request_id)
        if isinstance(standing, StoreError):
            raise standing
        return standing

    def _store_answers(self, decision: Decision, completions: Mapping[str, Completion]) -> None:
        """Store answers, within a transaction. Raises StoreError if the request is not in the log any more."""
        outcomes = {name: outcome_of(completion) for name, completion in completions.items()}
        self._serving.check_logged(logged=self._store.requests.add_answers(decision.request.request_id, outcomes))
        self._store.outages.end(outcomes)


def _costliest(models: Mapping[str, ModelSpec], meter: Meter) -> str:
    """Return the model with the dearest tokens; if the price of none is known, the one with the largest file."""
    prices = {name: price.prompt + price.generated for name, price in prices_of(models.values(), meter).items()}
    return costliest(prices or {name: _file_size(model) for name, model in models.items()})


def _file_size(model: ModelSpec) -> float:
    """Return the size of a model's file in bytes, 0 if it has none."""
    return model.path.stat().st_size if model.path is not None and model.path.is_file() else 0
