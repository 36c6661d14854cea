"""Metrics in Prometheus' format. What requests do is counted as it happens; the promise is read when asked.

Every label has few values: tenants and models are those of the zoo, and outcomes are the words below.
Source: Prometheus' documentation, "Metric and label naming" and "Histograms and summaries".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from messctl.errors import BusyError, PromptError, RefusedError, UnfitError, UsageError
from messctl.live.router import Answered, Router
from messctl.records import Decision, LeftError
from messctl.state.ledger import Ledger

disable_created_metrics()  # type: ignore[no-untyped-call]  # a time beside every counter doubles their number

ANSWERED, INVALID, BUSY, FAILED, LEFT = "answered", "invalid", "busy", "failed", "left"
"""The outcomes: an answer; the request was at fault; too many waited; no model could; the client left."""
GOOD, BAD, BETWEEN = "good", "bad", "between"
"""Feedback: 1, 0, or something in between."""
NOBODY = ""
"""The model of a request that no model was asked for."""
DECISION_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.5)
FIRST_TOKEN_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a scrape says of one tenant: its α, its models, and the ledger in its state; None if that is away."""

    alpha: float
    ledger: Ledger | None
    models: tuple[str, ...]

    @classmethod
    def of(cls, router: Router) -> Reading:
        """Read it. Raises StoreError."""
        return cls(router.settings.alpha, router.ledger(), router.zoo.models)

    @classmethod
    def without_state(cls, router: Router) -> Reading:
        """Return what is known without the state."""
        return cls(router.settings.alpha, None, router.zoo.models)


Readings = Callable[[], Mapping[str, Reading]]
"""Returns the readings by tenant."""
Only = Mapping[str, Collection[str]]
"""By label: the values that are shown."""
Waiting = Callable[[], Mapping[str, int]]
"""Returns, by model, how many requests wait."""


class Metrics:
    """All metrics of a service. Thread-safe. `readings` and `waiting` are called at every scrape."""

    def __init__(self, readings: Readings, waiting: Waiting) -> None:
        self._registry = CollectorRegistry()
        counters: Mapping[str, tuple[str, tuple[str, ...]]] = {
            "requests": ("Requests, by the model that answered and the outcome.", ("tenant", "model", "outcome")),
            "attempts": ("Models that were asked, by what came of it.", ("tenant", "model", "outcome")),
            "tokens": ("Tokens of served answers, read and written.", ("tenant", "model", "kind")),
            "cost": ("What answers cost, all attempts together.", ("tenant", "model", "unit")),
            "feedback": ("Judgements of answers, corrections too.", ("tenant", "model", "outcome")),
            "explored": ("Requests for which several models answered, to learn.", ("tenant", "model")),
        }
        self._counters = {
            name: Counter(f"messctl_{name}", text, labels, registry=self._registry)
            for name, (text, labels) in counters.items()
        }
        self._first_token = Histogram(
            "messctl_first_token_seconds",
            "From a streamed request to the first token of its answer.",
            ("tenant", "model"),
            buckets=FIRST_TOKEN_S,
            registry=self._registry,
        )
        self._decision = Histogram(
            "messctl_decision_seconds",
            "How long the router takes to decide, with the write to disk.",
            ("tenant",),
            buckets=DECISION_S,
            registry=self._registry,
        )
        self._registry.register(_Standing(readings, waiting))
        ProcessCollector(registry=self._registry)

    def begin(self, tenant: str) -> MeasuredRequest:
        """Begin to measure a request."""
        return MeasuredRequest(self, tenant)

    def refused(self, tenant: str, status: int) -> None:
        """Count a request that is refused with an HTTP status before any model is asked."""
        self.count("requests", tenant, NOBODY, BUSY if status == 429 else INVALID if status < 500 else FAILED)

    def judged(self, tenant: str, model: str, value: float) -> None:
        """Count feedback, 0..1."""
        self.count("feedback", tenant, model, GOOD if value == 1 else BAD if value == 0 else BETWEEN)

    def count(self, name: str, *labels: str, by: float = 1.0) -> None:
        """Add to a counter."""
        self._counters[name].labels(*labels).inc(by)

    def decided(self, tenant: str, seconds: float) -> None:
        """Note how long a decision took."""
        self._decision.labels(tenant).observe(seconds)

    def first_token(self, tenant: str, model: str, seconds: float) -> None:
        """Note how long the first token took."""
        self._first_token.labels(tenant, model).observe(seconds)

    def exposition(self, accept: str, only: Only | None = None) -> tuple[bytes, str]:
        """Return the metrics in a format that a client accepts, and its content type.

        Of labels that `only` names, it has only these values; None: all of them.
        """
        encode, kind = choose_encoder(accept)
        return encode(self._registry if only is None else _Part(self._registry, only)), kind


class _Part(CollectorRegistry):
    """The part of a registry whose labels have only some values."""

    def __init__(self, whole: CollectorRegistry, only: Only) -> None:
        super().__init__()
        self._whole = whole
        self._only = only

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        for family in self._whole.collect():
            part = Metric(family.name, family.documentation, family.type, family.unit)
            part.samples = [sample for sample in family.samples if self._has(sample.labels)]
            yield part

    def _has(self, labels: Mapping[str, str]) -> bool:
        return all(value == NOBODY or value in self._only.get(name, (value,)) for name, value in labels.items())


class MeasuredRequest:
    """One request as it is measured, by the thread that answers it."""

    def __init__(self, metrics: Metrics, tenant: str) -> None:
        self._metrics = metrics
        self._tenant = tenant
        self._came_at = self._since = time.perf_counter()
        self._model = NOBODY
        self._awaits_token = True

    def deciding(self) -> None:
        """Note that the router is about to decide."""
        self._since = time.perf_counter()

    def decided(self, decision: Decision) -> None:
        """Note which model is asked, or shown; an earlier one has failed, unless it answered."""
        if self._model == NOBODY:
            self._metrics.decided(self._tenant, time.perf_counter() - self._since)
        elif self._model not in decision.answers:
            self._metrics.count("attempts", self._tenant, self._model, FAILED)
        self._model = decision.served

    def token(self) -> None:
        """Note that a piece of the answer has come, as the client sees it."""
        if self._awaits_token:
            self._awaits_token = False
            self._metrics.first_token(self._tenant, self._model, time.perf_counter() - self._came_at)

    def answered(self, answered: Answered) -> None:
        """Note a complete answer."""
        count, tenant, model = self._metrics.count, self._tenant, answered.decision.served
        count("requests", tenant, model, ANSWERED)
        for name in answered.decision.queried:
            count("attempts", tenant, name, FAILED if name in answered.failures else ANSWERED)
        count("tokens", tenant, model, "read", by=answered.completion.tokens_in)
        count("tokens", tenant, model, "written", by=answered.completion.tokens_out)
        count("cost", tenant, model, answered.cost_unit, by=max(0.0, answered.cost))
        if answered.decision.explored:
            count("explored", tenant, model)
        if answered.satisfied is not None:
            self._metrics.judged(tenant, model, answered.satisfied)

    def failed(self, error: BaseException) -> None:
        """Note that there is no answer."""
        outcome = _outcome(error)
        self._metrics.count("requests", self._tenant, self._model, outcome)
        if self._model != NOBODY:
            self._metrics.count("attempts", self._tenant, self._model, outcome)


def _outcome(error: BaseException) -> str:
    if isinstance(error, LeftError):
        return LEFT
    if isinstance(error, BusyError):
        return BUSY
    return INVALID if isinstance(error, UnfitError | PromptError | RefusedError | UsageError) else FAILED


class _Standing(Collector):
    """The gauges: how well the promise to each tenant is kept, which models are out, and how many requests wait."""

    def __init__(self, readings: Readings, waiting: Waiting) -> None:
        self._readings = readings
        self._waiting = waiting

    def describe(self) -> list[Metric]:
        """Return nothing: the state is not to be read before the first scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges; of a state that is away, only that it is."""
        tenants, now = self._readings(), time.time()
        gauges = {
            name: GaugeMetricFamily(f"messctl_{name}", text, labels=labels)
            for name, text, labels in (
                (
                    "state_up",
                    "Whether the state can be used; what it holds is missing otherwise.",
                    ("tenant",),
                ),
                ("alpha", "The promise: the least share of satisfying answers.", ("tenant",)),
                ("attained", "The mean satisfaction of the answers with feedback.", ("tenant",)),
                ("certificate", "The level that is attained for certain.", ("tenant",)),
                ("debt", "The virtual queue Q: what the router owes, in satisfying answers.", ("tenant",)),
                ("pending", "Answers without feedback.", ("tenant",)),
                ("cost_vs_costliest", "The cost, divided by that of the costliest model alone.", ("tenant",)),
                ("model_out", "Whether a model is left alone, because it failed.", ("tenant", "model")),
                ("queue_length", "Requests that wait for a model in this process, or that it answers.", ("model",)),
            )
        }
        for tenant, reading in tenants.items():
            ledger = reading.ledger
            gauges["state_up"].add_metric((tenant,), float(ledger is not None))
            gauges["alpha"].add_metric((tenant,), reading.alpha)
            if ledger is None:
                continue
            for name, value in (
                ("attained", ledger.standing.attained),
                ("certificate", ledger.standing.certificate),
                ("debt", ledger.standing.queue),
                ("pending", ledger.pending),
                ("cost_vs_costliest", ledger.cost_vs_costliest),
            ):
                if value is not None:
                    gauges[name].add_metric((tenant,), value)
            for model in reading.models:
                lost = ledger.lost.get(model)
                out = lost is not None and lost.again_at is not None and lost.again_at > now
                gauges["model_out"].add_metric((tenant, model), float(out))
        waiting = self._waiting()
        for model in sorted({*waiting, *(name for reading in tenants.values() for name in reading.models)}):
            gauges["queue_length"].add_metric((model,), waiting.get(model, 0))
        yield from gauges.values()
