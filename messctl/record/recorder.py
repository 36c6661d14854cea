"""Recording: every model of the zoo answers every prompt of a file, and the answers become a trace.

    prompts → each model answers → a meter measures the cost → a grader judges → journal → trace

Each answer is stored in the journal at once. The trace is written when all answers are there.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from messctl.backends.base import Backend
from messctl.backends.empty_answer import refuse_empty
from messctl.costs.meter import Meter
from messctl.costs.metered_backend import MeteredBackend, cost_of, outcome_of
from messctl.errors import BackendError, EmptyAnswerError, GradeError, PromptError
from messctl.inputs import open_plain
from messctl.record.jobs import results
from messctl.record.journal import Journal, Terms
from messctl.record.prompts import Prompt
from messctl.record.tally import Sums, Tally
from messctl.records import Completion, Question
from messctl.trace import Outcome, Row, TraceMetadata, TraceWriter
from messctl.zoo import ModelSpec

Grade = Callable[[Prompt, str], float | None]
"""Takes a prompt and an answer, and returns the answer's satisfaction, 0..1, or None if it is not judged."""
OnWarning = Callable[[str], None]
_Result = tuple[Outcome, str | None]
"""A graded outcome; or, for an empty answer, an outcome without answer and grade, and the reason."""

_NO_TERMS = frozenset({"name", "timeout_s", "deadline_s", "retries", "key_env", "isolate", "allow_http"})
"""Fields of a model that do not change its answers."""
CHUNK = 256
"""Prompts that one model answers before the next one's turn. Models are loaded rarely, yet rows fill up early."""
HOPELESS = 3
"""A model that has never answered is given up after this number of failures in a row."""
LOST = 20
"""The same for a model that has answered before."""
DOUBTFUL = 100
"""A warning about the grader is due if none of this number of answers satisfied."""
_SAMPLES = 16
_SAMPLE_BYTES = 2**16
FIELDS = (
    "satisfied",
    "cost",
    "latency_s",
    "tokens_in",
    "tokens_out",
    "answer",
    "logprob",
    "cost_quality",
    "finish",
    "thinking",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to record.

    prompts, models: every model answers every prompt.
    grading: the grader's name and settings, as stored in the trace. grade: the grader itself.
    seed: the seed of sampling.
    judge: the model that grades, if one does.
    grade_empty: an empty answer is graded like others. If not, it has no outcome but its cost, tokens and thinking.
    """

    prompts: Sequence[Prompt]
    models: Sequence[ModelSpec]
    grading: str
    grade: Grade
    seed: int = 0
    judge: ModelSpec | None = None
    grade_empty: bool = False

    @property
    def answers(self) -> int:
        """The number of answers of a complete recording."""
        return len(self.prompts) * len(self.models)

    def terms(self, meter: Meter) -> Terms:
        """Return the terms of the recording: all that its answers, costs and grades depend on."""
        digest = hashlib.blake2b(digest_size=16)
        for prompt in self.prompts:
            one = prompt.references[0] if len(prompt.references) == 1 else prompt.references or None
            digest.update(repr((prompt.request_id, prompt.prompt, one, prompt.source)).encode())
        return {
            "prompts": f"{len(self.prompts)} prompts, {digest.hexdigest()}",
            "models": {model.name: _terms_of(model) for model in self.models},
            "grader": self.grading,
            **({"judge": _terms_of(self.judge)} if self.judge else {}),
            "seed": self.seed,
            "cost": f"{meter.unit}, {meter.source}",
            **({"empty answers": "graded"} if self.grade_empty else {}),
        }


def record(
    plan: Plan,
    backend: Backend,
    meter: Meter,
    journal: Journal,
    progress: Callable[[int], None] = lambda _: None,
    on_warning: OnWarning = lambda _: None,
    jobs: int = 1,
) -> None:
    """Ask every model every prompt that the journal lacks. `progress` receives the number of stored answers.

    A model at a server gets `jobs` ≥ 1 prompts at once; then the backend must be thread-safe. A model on this machine
    gets one prompt at a time.

    A failed answer is stored with its error, and so is an empty one, unless empty answers are graded. An answer that
    cannot be graded is stored without a grade, and `on_warning` gets the reason of the first one. Raises
    BackendError for a model that never answers or stops answering, and for a judge that fails. The last failures in a
    row are then not stored, so that a resumed recording retries.
    """
    plan = replace(plan, grade=_forgiving(plan.grade, on_warning))
    store, asking = (
        _AnswerStore(plan, journal, progress, on_warning),
        _Asking(plan, MeteredBackend(backend, meter), jobs),
    )
    for first in range(0, len(plan.prompts), CHUNK):
        numbers = range(first, min(first + CHUNK, len(plan.prompts)))
        for model in plan.models:
            _record_model(asking, model, numbers, journal, store)


def _forgiving(grade: Grade, on_warning: OnWarning) -> Grade:
    """Return the grader without its GradeError: such an answer is not judged, and the first one is warned of."""
    warned: list[bool] = []

    def graded(prompt: Prompt, answer: str) -> float | None:
        try:
            return grade(prompt, answer)
        except GradeError as error:
            if not warned:
                warned.append(True)
                on_warning(f"an answer has no grade: {error}")
            return None

    return graded


class _AnswerStore:
    """Adds answers to the journal and reports progress.

    It warns once of a grader that no answer satisfies, and once of every model whose answers are empty.
    """

    def __init__(self, plan: Plan, journal: Journal, progress: Callable[[int], None], on_warning: OnWarning) -> None:
        self._plan, self._journal, self._progress, self._on_warning = plan, journal, progress, on_warning
        self._count = journal.count()
        self._grader_checked = False
        self._empty: Counter[str] = Counter()

    def add(self, number: int, model: ModelSpec, outcome: Outcome | None, failure: str | None) -> None:
        self._journal.add(number, model.name, outcome, failure)
        self._count += 1
        self._progress(self._count)
        if outcome is not None and failure is not None:
            self._empty[model.name] += 1
            if self._empty[model.name] == HOPELESS:
                self._on_warning(
                    f"{HOPELESS} answers of model {model.name!r} are empty so far; the last one: {failure}"
                )
        if not self._grader_checked and self._count >= DOUBTFUL:
            self._grader_checked = True
            if not self._journal.any_satisfied():
                self._on_warning(
                    f"the grader {self._plan.grading!r} accepted none of {self._count:,} answers so far; "
                    "check that it is the right one"
                )


@dataclass(frozen=True, slots=True)
class _Asking:
    """Asks a model the prompts of a plan, and grades its answers."""

    plan: Plan
    backend: MeteredBackend
    jobs: int

    def outcomes(self, model: ModelSpec, numbers: Iterable[int]) -> Iterator[tuple[int, _Result | BackendError]]:
        """Yield the number of each prompt with its result, or with why there is none, as soon as it is there."""
        return results(partial(self._outcome, model), numbers, 1 if model.url is None else self.jobs)

    def _outcome(self, model: ModelSpec, number: int) -> _Result | BackendError:
        prompt = self.plan.prompts[number]
        try:
            completion = _complete(self.plan, prompt, model, self.backend)
        except BackendError as error:
            return error
        return _result(self.plan, prompt, model, completion)


def _record_model(asking: _Asking, model: ModelSpec, numbers: range, journal: Journal, store: _AnswerStore) -> None:
    """Ask one model those prompts of `numbers` that it has not answered. Raises BackendError as `record` does."""
    done = journal.done(model.name, numbers)
    most_failures = LOST if journal.has_answers(model.name) else HOPELESS
    failed: list[tuple[int, BackendError]] = []  # in a row, and not the prompts' fault
    for number, found in asking.outcomes(model, [number for number in numbers if number not in done]):
        if isinstance(found, PromptError):
            store.add(number, model, None, str(found))
        elif isinstance(found, BackendError):
            failed.append((number, found))
            if len(failed) == most_failures:
                raise found
        else:
            most_failures = LOST
            for earlier, failure in failed:
                store.add(earlier, model, None, str(failure))
            failed.clear()
            store.add(number, model, *found)
    if failed and most_failures == HOPELESS:
        raise failed[-1][1]  # it answered none of these few prompts
    for earlier, failure in failed:
        store.add(earlier, model, None, str(failure))


def write_trace(plan: Plan, meter: Meter, journal: Journal, output: Path, source: str) -> dict[str, Tally]:
    """Write the trace of a complete journal, and return each model's results. Raises OutputError."""
    names = tuple(model.name for model in plan.models)
    metadata = TraceMetadata(
        models=names,
        cost_unit=meter.unit,
        meter=meter.source,
        source=source,
        extra={"recorded": {"by": f"messctl {version('messctl')}", **plan.terms(meter)}},
    )
    sums = {name: Sums() for name in names}
    with TraceWriter(output, metadata, FIELDS) as writer:
        for number, outcomes in _rows(journal, sums):
            prompt = plan.prompts[number]
            writer.append(Row(prompt.request_id, prompt.prompt, outcomes, source=prompt.source))
    return {name: sums[name].tally() for name in names}


def _rows(journal: Journal, sums: Mapping[str, Sums]) -> Iterator[tuple[int, dict[str, Outcome]]]:
    """Yield the number of every prompt with its outcomes, and add these to `sums`."""
    at, outcomes = -1, dict[str, Outcome]()
    for number, model, outcome, failure in journal.outcomes():
        if number != at and at >= 0:
            yield at, outcomes
            outcomes = {}
        at = number
        sums[model].add(outcome, failure)
        if outcome is not None:
            outcomes[model] = outcome
    if at >= 0:
        yield at, outcomes


def _complete(plan: Plan, prompt: Prompt, model: ModelSpec, backend: MeteredBackend) -> Completion:
    seed = seed_of(plan.seed, prompt.request_id, model.name)
    return backend.complete(model, Question(prompt.prompt, seed=seed, logprob=True))


def _result(plan: Plan, prompt: Prompt, model: ModelSpec, completion: Completion) -> _Result:
    """Return what is recorded of an answer. It is graded, unless it is empty."""
    outcome = replace(outcome_of(completion), cost=cost_of(completion).answer)
    if not plan.grade_empty:
        try:
            refuse_empty(model, Question(prompt.prompt), completion)
        except EmptyAnswerError as error:
            return replace(outcome, answer=None), str(error)
    return replace(outcome, satisfied=plan.grade(prompt, completion.answer)), None


def seed_of(seed: int, request_id: str, model: str) -> int:
    """Return the seed of a model's answer to a request. It does not depend on earlier requests."""
    digest = hashlib.blake2b(repr((seed, request_id, model)).encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


def _terms_of(model: ModelSpec) -> dict[str, object]:
    """Return all that a model's answers depend on: its settings, and its file's name, size and sampled bytes."""
    stated: dict[str, object] = {}
    for name, value in asdict(model).items():
        if isinstance(value, Path):
            stated[name] = value.name
            stated["bytes"] = value.stat().st_size if value.is_file() else None
            stated["sampled"] = _sampled(value) if value.is_file() else None
        elif value is not None and name not in _NO_TERMS:
            stated[name] = value
    return stated


def _sampled(path: Path) -> str:
    """Return a digest of bytes spread over a file. It differs after more training, although the size does not."""
    digest, size = hashlib.blake2b(digest_size=8), path.stat().st_size
    with open_plain(path) as file:
        for place in range(_SAMPLES):
            file.seek(max(0, size - _SAMPLE_BYTES) * place // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()
