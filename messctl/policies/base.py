"""What a policy is, what it is built from, and what playing it over recorded requests returns.

A policy has two verbs, `decide` and `learn`; nothing else changes its state. Over recorded requests the same arithmetic
also runs as one compiled loop, `play`, which takes exactly the same decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from messctl.learning.certificate import certificate
from messctl.learning.features import Encoder, Features
from messctl.learning.predictor import Weights
from messctl.learning.random_streams import stream
from messctl.learning.snapshot import Snapshot
from messctl.records import Decision, Evidence, Feedback, Request
from messctl.zoo import Settings, Zoo

Floats = npt.NDArray[np.float64]


class Arrivals(NamedTuple):
    """How requests arrive, for compiled loops: `order` and `has_feedback` (n,), and `delay`, as in Rounds."""

    order: npt.NDArray[np.int64]
    has_feedback: npt.NDArray[np.bool_]
    delay: int


class Answers(NamedTuple):
    """What a second look sees of each answer in a trace, (n, models): equal answers of a row share a `group`.

    `logprob` is an answer's mean log-probability, NaN if that is unknown.
    """

    group: npt.NDArray[np.int64]
    logprob: Floats


@dataclass(frozen=True, slots=True)
class Rounds:
    """Recorded requests in the order in which they arrive, with everything that can be observed of them.

    In the trace's order: `request_ids`, `features`, and `satisfied` and `cost`, both (n, models) with the models as in
    `zoo`. `prompt_cost` has the same shape: what reading each prompt will cost, which a policy knows before it decides;
    None if that is unknown.

    By arrival: `order` (n,) is the row that arrives t-th, and `has_feedback` (n,) tells which requests get feedback.
    Feedback comes after `delay` further requests have been decided.

    In an exported live log, in the trace's order and (n,): `served` is the model's index, −1 if unknown; `judged` is
    the place of the feedback among all, NaN without feedback; `alpha` is the promise; `explored` is 0 or 1. The last
    two are NaN if unknown.

    `answers` is what a second look sees, and `latency_s` (n, models) how long each answer took, both in the trace's
    order; None if the trace does not have them.
    """

    zoo: Zoo
    request_ids: Sequence[str]
    features: Features
    satisfied: Floats
    cost: Floats
    order: npt.NDArray[np.int64]
    has_feedback: npt.NDArray[np.bool_]
    delay: int = 0
    served: npt.NDArray[np.int64] | None = None
    judged: Floats | None = None
    alpha: Floats | None = None
    explored: Floats | None = None
    prompt_cost: Floats | None = None
    answers: Answers | None = None
    latency_s: Floats | None = None

    def __len__(self) -> int:
        return len(self.order)

    @property
    def arrivals(self) -> Arrivals:
        """How the requests arrive, for compiled loops."""
        return Arrivals(self.order, self.has_feedback, self.delay)

    def rows(self, rows: npt.NDArray[np.int64]) -> Rounds:
        """Return these rows of the trace as a trace of their own, arriving in this order, all with feedback."""
        part: dict[str, Any] = {
            name: None if table is None else table[rows]
            for name in ("satisfied", "cost", "served", "judged", "alpha", "explored", "prompt_cost", "latency_s")
            for table in (getattr(self, name),)
        }
        return replace(
            self,
            request_ids=[self.request_ids[row] for row in rows],
            features=self.features.rows(rows),
            order=np.arange(len(rows)),
            has_feedback=np.ones(len(rows), dtype=np.bool_),
            answers=self.answers and Answers(self.answers.group[rows], self.answers.logprob[rows]),
            **part,
        )

    def arranged(self, *, seed: int, shuffle: bool, feedback_rate: float, feedback_delay: int) -> Rounds:
        """Return the same requests in the order, and with the feedback, that one seed draws."""
        n = len(self)
        order = stream(seed, "shuffle").permutation(n) if shuffle else np.arange(n)
        has_feedback = stream(seed, "feedback").random(n) < feedback_rate
        # Feedback that would come after the last request comes at the end, however late it is.
        return replace(self, order=order, has_feedback=has_feedback, delay=min(feedback_delay, n))


_BY_REQUEST = (
    "order",
    "cost",
    "satisfied",
    "satisfied_all",
    "served",
    "explored",
    "p_explore",
    "predicted",
    "asks",
    "latency_s",
)


@dataclass(frozen=True, slots=True)
class Played:
    """What a policy did, request by request in order of arrival; every array is (n,) or (n, models).

    `order` is the trace's row of each request. `served` is the model's index; None for a lottery, which is scored by
    its expectation. `cost` is the cost of all models that were queried. `satisfied` is NaN without feedback, and
    `satisfied_all` is what only a replay can know. `propensity` is the probability with which `served` was to be
    served; None if the policy has none. `queue_after` is the queue at the next decision; the last one is the queue
    after all feedback. `predicted` and `mean_cost` are None for a policy without them; a mean without any cost is NaN.
    `cost_scale` and `weights` are those at the end. `asks` is the number of models asked, and
    `latency_s` the time until the answer was shown; None if it is always one, and if it is unknown.
    """

    zoo: Zoo
    alpha: float
    order: npt.NDArray[np.int64]
    share: Floats
    cost: Floats
    satisfied: Floats
    satisfied_all: Floats
    queue_before: Floats
    queue_after: Floats
    served: npt.NDArray[np.int64] | None = None
    propensity: Floats | None = None
    explored: npt.NDArray[np.bool_] | None = None
    p_explore: Floats | None = None
    predicted: Floats | None = None
    mean_cost: Floats | None = None
    cost_scale: float | None = None
    weights: Weights | None = None
    asks: npt.NDArray[np.int64] | Floats | None = None
    latency_s: Floats | None = None

    def only(self, mask: npt.NDArray[np.bool_]) -> Played:
        """Return what was done on the requests of `mask`, (n,) by arrival; the queue stays that of the whole play."""
        parts: dict[str, Any] = {
            name: None if table is None else table[mask] for name in _BY_REQUEST for table in (getattr(self, name),)
        }
        chosen = replace(self, **parts)
        if chosen.served is None:
            return chosen
        share = np.bincount(chosen.served, minlength=len(self.zoo.models)) / max(1, mask.sum())
        return replace(chosen, share=share)

    @property
    def attained(self) -> float | None:
        """The mean satisfaction of the answers with feedback, in 0..1; None without any."""
        has_feedback = ~np.isnan(self.satisfied)
        return float(self.satisfied[has_feedback].mean()) if has_feedback.any() else None

    @property
    def queue_final(self) -> float:
        """The queue after all feedback."""
        return float(self.queue_after[-1])

    @property
    def certificate(self) -> float | None:
        """The level that is attained for certain, α − Q/n; None without feedback."""
        return certificate(self.alpha, self.queue_final, int((~np.isnan(self.satisfied)).sum()))


def surcharges(zoo: Zoo, request: Request) -> Floats:
    """Return what each model would cost now beyond its answer, (models,); infinite if it cannot be asked.

    If no model can be asked, all can: something has to be tried.
    """
    left = set(zoo.models) - request.excluded
    return np.array(
        [request.surcharge.get(model, 0.0) if model in left or not left else np.inf for model in zoo.models]
    )


def reading_costs(zoo: Zoo, request: Request) -> Floats:
    """Return what reading the prompt will cost each model, (models,); 0 if that is unknown."""
    return np.array([request.prompt_cost.get(model, 0.0) for model in zoo.models])


class Policy(Protocol):
    """Decides which model serves a request, and learns from the outcome."""

    @property
    def name(self) -> str:
        """The name by which it is chosen."""

    def decide(self, request: Request) -> Decision:
        """Choose which models to query and which one to serve. Requests count from 1."""

    def learn(self, decision: Decision, feedback: Feedback) -> None:
        """Take what became known about a decision: costs, satisfaction, or both."""

    def play(self, rounds: Rounds) -> Played:
        """Start afresh and play all rounds in one compiled loop. This instance does not change."""


class LivePolicy(Protocol):
    """A policy that serves live: its whole state can be stored, and a later instance goes on from there."""

    @property
    def name(self) -> str:
        """The name by which it is chosen."""

    @property
    def queue(self) -> float:
        """The virtual queue Q, ≥ 0."""

    def decide(self, request: Request) -> Decision:
        """Choose which models to query and which one to serve."""

    def learn(self, decision: Decision, feedback: Feedback) -> None:
        """Take what became known about a decision: costs, satisfaction, or both."""

    def snapshot(self) -> Snapshot:
        """Return a copy of the state."""


class LiveBuild(Protocol):
    """Builds a policy that goes on from a snapshot, as far as the snapshot is valid for it.

    It learns from the features of `encoder`; without one, from those of words.
    """

    def __call__(
        self, zoo: Zoo, settings: Settings, snapshot: Snapshot, encoder: Encoder | None = None, /
    ) -> LivePolicy:
        """Build it."""


@runtime_checkable
class Looking(Protocol):
    """A policy that may ask several models for one request."""

    def look(self, decision: Decision, answers: Mapping[str, Evidence]) -> Decision:
        """Return how a request goes on after `answers`, by model, in the order in which they were asked.

        `served` is then another model to ask, or, if it is among them, the one whose answer is shown.
        """


class Streamed(Policy, Protocol):
    """A policy that can be played in pieces, in order of arrival, so that it never holds a whole trace."""

    def play_on(self, rounds: Rounds) -> Played:
        """Play rounds from where this instance is, and end after them."""


@dataclass(frozen=True, slots=True)
class PolicyKind:
    """A kind of policy: its name, how well-informed it is (for the order of tables), and how to build one.

    `build(argument, rounds, settings)` gets the text after the colon in `name:argument`. `choices` lists the arguments
    to replay by default, given the models; without it the kind takes none. A kind that `learns` is built anew for every
    seed. It uses what is known of a prompt's cost in advance, unless it decides `by_mean_costs` alone. A kind that is
    not `by_default` is replayed only if its name is given. `live` builds a policy that serves live; without it the kind
    cannot. A kind that `streams` builds `Streamed` policies, and uses only the zoo, the features' width and the means
    of the rounds that it is built from.
    """

    name: str
    rank: int
    summary: str
    build: Callable[[str | None, Rounds, Settings], Policy]
    choices: Callable[[Sequence[str]], Sequence[str]] | None = None
    learns: bool = False
    by_default: bool = True
    live: LiveBuild | None = None
    streams: bool = False
    by_mean_costs: bool = False

    @property
    def uses_prompt_costs(self) -> bool:
        """Whether the known cost of reading a prompt changes its decisions."""
        return self.learns and not self.by_mean_costs
