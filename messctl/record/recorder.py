"""Recording: the whole zoo answers every prompt of a file, and the answers become a trace.

    prompts → each model answers → its cost is metered → a grader judges → journal → trace

Every answer is kept in the journal as soon as it is there; the trace appears when all are.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from messctl.backends.base import Backend
from messctl.costs.meter import Meter
from messctl.costs.metered_backend import MeteredBackend, cost_of
from messctl.errors import BackendError, PromptError
from messctl.record.journal import Journal, Terms
from messctl.record.prompts import Prompt
from messctl.records import Completion, Question
from messctl.trace import Outcome, Row, TraceMetadata, TraceWriter
from messctl.zoo import ModelSpec

Judged = Callable[[Prompt, str], float | None]
"""Takes a prompt and an answer, and returns the answer's satisfaction, 0..1, or None where nobody judges."""
OnWarning = Callable[[str], None]

_NO_TERMS = frozenset({"name", "timeout_s", "retries", "key_env", "isolate"})
"""Fields of a model on which no answer depends."""
CHUNK = 256
"""So many prompts are asked of one model before the next one's turn: models are loaded seldom, rows fill up soon."""
HOPELESS = 3
"""A model that never answered and fails this often in a row, whatever the prompt, is not there."""
LOST = 20
"""Nor is one any more that has answered."""
DOUBTFUL = 100
"""After so many answers without a single satisfying one, the grader is doubted."""
_SAMPLES = 16
_SAMPLE_BYTES = 2**16
FIELDS = ("satisfied", "cost", "latency_s", "tokens_in", "tokens_out", "answer", "logprob", "cost_quality")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be recorded: the prompts, the models that answer, how answers are graded, and the seed of sampling.

    `grading` names the grader, and what it goes by; `judged` is what it does, and `judge` the model that it asks.
    """

    prompts: Sequence[Prompt]
    models: Sequence[ModelSpec]
    grading: str
    judged: Judged
    seed: int = 0
    judge: ModelSpec | None = None

    @property
    def answers(self) -> int:
        """How many answers there will be."""
        return len(self.prompts) * len(self.models)

    def terms(self, meter: Meter) -> Terms:
        """Return all that the answers, costs and grades depend on."""
        digest = hashlib.blake2b(digest_size=16)
        for prompt in self.prompts:
            digest.update(repr((prompt.request_id, prompt.prompt, prompt.reference, prompt.source)).encode())
        return {
            "prompts": f"{len(self.prompts)} prompts, {digest.hexdigest()}",
            "models": {model.name: _terms_of(model) for model in self.models},
            "grader": self.grading,
            **({"judge": _terms_of(self.judge)} if self.judge else {}),
            "seed": self.seed,
            "cost": f"{meter.unit}, {meter.source}",
        }


@dataclass(frozen=True, slots=True)
class Tally:
    """What a model came to: its answers and failures, and means over the answers; None where there is nothing."""

    answered: int
    failed: int
    failure: str | None
    satisfied: float | None
    cost: float | None
    latency_s: float | None
    tokens_out: float | None


@dataclass(slots=True)
class _Sums:
    answered: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    graded: int = 0
    totals: dict[str, float] = field(default_factory=dict)

    def add(self, outcome: Outcome | None, failure: str | None) -> None:
        if outcome is None:
            self.failures[failure or ""] += 1
            return
        self.answered += 1
        self.graded += outcome.satisfied is not None
        for name in ("satisfied", "cost", "latency_s", "tokens_out"):
            self.totals[name] = self.totals.get(name, 0.0) + float(getattr(outcome, name) or 0.0)

    def tally(self) -> Tally:
        means = {name: self.totals[name] / self.answered if self.answered else None for name in self.totals}
        satisfied = self.totals["satisfied"] / self.graded if self.graded else None
        often = self.failures.most_common(1)
        return Tally(
            self.answered,
            self.failures.total(),
            often[0][0] if often else None,
            satisfied,
            *(means.get(name) for name in ("cost", "latency_s", "tokens_out")),
        )


def record(
    plan: Plan,
    backend: Backend,
    meter: Meter,
    journal: Journal,
    progress: Callable[[int], None] = lambda _: None,
    on_warning: OnWarning = lambda _: None,
) -> None:
    """Have every model answer every prompt that the journal lacks. `progress` hears how many answers are kept.

    An answer that fails is kept as such. Raises BackendError for a model that does not answer, or does not any more,
    and for a judge; of the failures that told so, none is kept, so that who goes on asks again.
    """
    kept, trusted, metered = journal.count(), False, MeteredBackend(backend, meter)

    def keep(number: int, model: ModelSpec, outcome: Outcome | None, failure: str | None) -> None:
        nonlocal kept, trusted
        journal.add(number, model.name, outcome, failure)
        kept += 1
        progress(kept)
        if not trusted and kept >= DOUBTFUL:
            trusted = True
            if not journal.satisfied():
                on_warning(
                    f"the grader {plan.grading!r} has not been satisfied by any of {kept:,} answers so far; "
                    "does it judge what was meant?"
                )

    for first in range(0, len(plan.prompts), CHUNK):
        numbers = range(first, min(first + CHUNK, len(plan.prompts)))
        for model in plan.models:
            done = journal.done(model.name, numbers)
            patience = LOST if journal.answered(model.name) else HOPELESS
            failed: list[tuple[int, BackendError]] = []  # since the last answer, by no fault of the prompts
            for number in numbers:
                if number in done:
                    continue
                prompt = plan.prompts[number]
                try:
                    got = _ask(plan, prompt, model, metered)
                except PromptError as error:
                    keep(number, model, None, str(error))
                except BackendError as error:
                    failed.append((number, error))
                    if len(failed) == patience:
                        raise
                else:
                    patience = LOST
                    for one, failure in failed:
                        keep(one, model, None, str(failure))
                    failed.clear()
                    keep(number, model, _outcome(plan, prompt, got), None)
            if failed and patience == HOPELESS:
                raise failed[-1][1]  # of so few prompts it has answered none
            for one, failure in failed:
                keep(one, model, None, str(failure))


def write(plan: Plan, meter: Meter, journal: Journal, output: Path, source: str) -> dict[str, Tally]:
    """Write the trace of a complete journal, and return what each model came to."""
    names = tuple(model.name for model in plan.models)
    metadata = TraceMetadata(
        models=names,
        cost_unit=meter.unit,
        meter=meter.source,
        source=source,
        extra={"recorded": {"by": f"messctl {version('messctl')}", **plan.terms(meter)}},
    )
    sums = {name: _Sums() for name in names}
    with TraceWriter(output, metadata, FIELDS) as writer:
        for number, outcomes in _rows(journal, sums):
            prompt = plan.prompts[number]
            writer.append(Row(prompt.request_id, prompt.prompt, outcomes, source=prompt.source))
    return {name: sums[name].tally() for name in names}


def _rows(journal: Journal, sums: Mapping[str, _Sums]) -> Iterator[tuple[int, dict[str, Outcome]]]:
    """Yield every prompt's number with the outcomes that there are."""
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


def _ask(plan: Plan, prompt: Prompt, model: ModelSpec, backend: MeteredBackend) -> Completion:
    seed = seed_of(plan.seed, prompt.request_id, model.name)
    return backend.complete(model, Question(prompt.prompt, seed=seed, logprob=True))


def _outcome(plan: Plan, prompt: Prompt, got: Completion) -> Outcome:
    cost = cost_of(got)
    return Outcome(
        satisfied=plan.judged(prompt, got.answer),
        cost=cost.answer,
        latency_s=got.latency_s,
        tokens_in=got.tokens_in,
        tokens_out=got.tokens_out,
        answer=got.answer,
        logprob=got.logprob,
        cost_quality=cost.quality,
    )


def seed_of(seed: int, request_id: str, model: str) -> int:
    """Return the seed by which a model draws its answer to a request: always the same, whatever came before."""
    digest = hashlib.blake2b(repr((seed, request_id, model)).encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


def _terms_of(model: ModelSpec) -> dict[str, object]:
    """Return what a model's answers depend on: its settings, and its file by name, size and samples of its bytes."""
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
    """Return a digest of bytes spread over a file: a model that was trained further has others, and the same size."""
    digest, size = hashlib.blake2b(digest_size=8), path.stat().st_size
    with path.open("rb") as file:
        for place in range(_SAMPLES):
            file.seek(max(0, size - _SAMPLE_BYTES) * place // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()
