"""What a policy is, what it may be built from, and what playing it over recorded requests yields.

A policy has two verbs, `decide` and `learn`; nothing else changes its state. Over recorded requests the same
arithmetic also runs as one compiled loop, `play`, which must take the very same decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from messctl.learning.certificate import certificate
from messctl.learning.features import Encoder, Features
from messctl.learning.predictor import Weights
from messctl.learning.random_streams import stream
from messctl.learning.snapshot import Snapshot
from messctl.learning.virtual_queue import advance, path
from messctl.records import Decision, Feedback, Request
from messctl.zoo import Settings, Zoo

Floats = npt.NDArray[np.float64]


class Arrivals(NamedTuple):
    """How requests arrive, for compiled loops: `order` and `has_feedback` (n,), and `delay`, as in Rounds."""

    order: npt.NDArray[np.int64]
    has_feedback: npt.NDArray[np.bool_]
    delay: int


@dataclass(frozen=True, slots=True)
class Rounds:
    """Recorded requests in the order in which they arrive, with everything that can be observed of them.

    `request_ids`, `features`, `satisfied` and `cost` are in the trace's order, the last two (n, models) with the
    models as in `zoo`; `order` (n,) holds the row that arrives t-th. `has_feedback` (n,), by arrival, tells which
    requests get feedback at all; it comes after `delay` further requests have been decided. In an exported live log
    `served` is the model's index, -1 where it is not known, `judged` the place of the feedback, NaN without any, and
    `alpha` what was promised, and whether it was `explored` (0 or 1), NaN where that is not known. `prompt_cost`, as
    `cost`, is what a policy is told before it decides: what reading each prompt will cost; None: nothing.
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
            for name in ("satisfied", "cost", "served", "judged", "alpha", "explored", "prompt_cost")
            for table in (getattr(self, name),)
        }
        return replace(
            self,
            request_ids=[self.request_ids[row] for row in rows],
            features=self.features.rows(rows),
            order=np.arange(len(rows)),
            has_feedback=np.ones(len(rows), dtype=np.bool_),
            **part,
        )

    def arranged(self, *, seed: int, shuffle: bool, feedback_rate: float, feedback_delay: int) -> Rounds:
        """Return the same requests as one seed has them arrive and be judged."""
        n = len(self)
        order = stream(seed, "shuffle").permutation(n) if shuffle else np.arange(n)
        has_feedback = stream(seed, "feedback").random(n) < feedback_rate
        # What would come after the last request comes when all is done, however late it is.
        return replace(self, order=order, has_feedback=has_feedback, delay=min(feedback_delay, n))


@dataclass(frozen=True, slots=True)
class Played:
    """What a policy did, request by request in order of arrival; every array is (n,) or (n, models).

    `order` is the trace's row of each; `served` is the model's index, or None for a lottery, which is scored by its
    expectation. `cost` is what was paid for everything queried; `satisfied` is NaN where no feedback came,
    `satisfied_all` is what only a replay can know. `propensity` is the probability with which `served` was to be
    served, None where that is not told. `queue_after` is the queue at the next decision, and the last one
    is the queue once all feedback is in. `predicted` and `mean_cost` are None for a policy that keeps none; a mean
    not yet observed is NaN. `cost_scale` and `weights` are as they stood at the end.
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

    def only(self, mask: npt.NDArray[np.bool_]) -> Played:
        """Return what was done on these requests, (n,) by arrival; the queue is that of the whole play."""
        parts: dict[str, Any] = {
            name: None if table is None else table[mask]
            for name in ("order", "cost", "satisfied", "satisfied_all", "served", "explored", "p_explore", "predicted")
            for table in (getattr(self, name),)
        }
        kept = replace(self, **parts)
        if kept.served is None:
            return kept
        return replace(kept, share=np.bincount(kept.served, minlength=len(self.zoo.models)) / max(1, mask.sum()))

    @property
    def attained(self) -> float | None:
        """The mean satisfaction of the answers that got feedback; None where there was none."""
        has_feedback = ~np.isnan(self.satisfied)
        return float(self.satisfied[has_feedback].mean()) if has_feedback.any() else None

    @property
    def queue_final(self) -> float:
        """The queue once all feedback is in."""
        return float(self.queue_after[-1])

    @property
    def certificate(self) -> float | None:
        """The level attained for certain, α − Q/n."""
        return certificate(self.alpha, self.queue_final, int((~np.isnan(self.satisfied)).sum()))


def surcharges(zoo: Zoo, request: Request) -> Floats:
    """Return what each model would cost now beyond its answer, (models,): infinitely much where it cannot be asked.

    Where none can be asked, all can: something has to be tried.
    """
    left = set(zoo.models) - request.excluded
    return np.array(
        [request.surcharge.get(model, 0.0) if model in left or not left else np.inf for model in zoo.models]
    )


def reading_costs(zoo: Zoo, request: Request) -> Floats:
    """Return what reading the prompt will cost each model, (models,); 0 where that is not known."""
    return np.array([request.prompt_cost.get(model, 0.0) for model in zoo.models])


class Policy(Protocol):
    """Decides which model serves a request, and learns from what came of it."""

    @property
    def name(self) -> str:
        """The name under which it is asked for."""

    def decide(self, request: Request) -> Decision:
        """Choose what to query and what to serve. Requests count from 1."""

    def learn(self, decision: Decision, feedback: Feedback) -> None:
        """Take what became known about a decision: costs, satisfaction, or both."""

    def play(self, rounds: Rounds) -> Played:
        """Start afresh and play all rounds in one compiled loop; this instance stays as it is."""


class LivePolicy(Protocol):
    """A policy that serves live: all it knows can be saved, and a later instance goes on from there."""

    @property
    def name(self) -> str:
        """The name under which it is asked for."""

    def decide(self, request: Request) -> Decision:
        """Choose what to query and what to serve."""

    def learn(self, decision: Decision, feedback: Feedback) -> None:
        """Take what became known about a decision: costs, satisfaction, or both."""

    def snapshot(self) -> Snapshot:
        """Return the state as it stands."""


class LiveBuild(Protocol):
    """Builds a policy that goes on from a snapshot, as far as that means anything to it.

    What it learns is of the encoder's features, by default those of words.
    """

    def __call__(
        self, zoo: Zoo, settings: Settings, snapshot: Snapshot, encoder: Encoder | None = None, /
    ) -> LivePolicy:
        """Build it."""


class Streamed(Policy, Protocol):
    """A policy that can be played in pieces, in order of arrival, so that it never holds a whole trace."""

    def play_on(self, rounds: Rounds) -> Played:
        """Play rounds from where this instance stands, and stand where they end."""


@dataclass(frozen=True, slots=True)
class PolicyKind:
    """A kind of policy: its name, how well-informed it is (for the order of tables), and how to build one.

    `build(argument, rounds, settings)` gets the text after the colon in `name:argument`. `choices` lists the
    arguments to replay by default, given the models; without it the kind takes none. A kind that `learns` is
    built anew for every seed, and uses what is told of a prompt's cost beforehand, unless it goes `by_mean_costs`
    alone. One that is not there `by_default` is replayed only when asked for. `live` builds one
    that serves live; without it the kind cannot. One that `streams`
    builds `Streamed` policies, from rounds of which it looks at the zoo, the features' width and the means alone.
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
        """Whether it decides otherwise where it is told what reading a prompt will cost."""
        return self.learns and not self.by_mean_costs


class Lottery:
    """A policy that serves by fixed odds and never learns: all yardsticks are lotteries.

    `odds` is (1, models), the same for every request, or (n, models), a row for each of the trace's. Played
    over rounds it is scored by its expectation, so that a yardstick carries no luck of its own; having known
    everything beforehand, it needs no feedback, and every request counts.
    """

    def __init__(self, name: str, rounds: Rounds, settings: Settings, odds: Floats) -> None:
        self.name = name
        self._zoo = rounds.zoo
        self._alpha = settings.alpha
        self._odds = odds
        self._request_ids = rounds.request_ids
        self._coin = stream(settings.seed, "lottery")
        self._decided = 0
        self._queue = 0.0

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {request_id: row for row, request_id in enumerate(self._request_ids)}

    def decide(self, request: Request) -> Decision:
        """Draw the model to serve."""
        odds = self._odds[self._row_of[request.request_id] if len(self._odds) > 1 else 0]
        possible = np.flatnonzero(odds)
        drawn = int(np.searchsorted(np.cumsum(odds[possible]), self._coin.random(), side="right"))
        index = int(possible[min(drawn, len(possible) - 1)])
        self._decided += 1
        model = self._zoo.models[index]
        chances = {self._zoo.models[each]: float(odds[each]) for each in possible}
        return Decision(request, self._decided, model, (model,), chances[model], queue=self._queue, odds=chances)

    def learn(self, decision: Decision, feedback: Feedback) -> None:
        """Keep the books; the odds stay as they are."""
        if decision.served in feedback.satisfied:
            self._queue = advance(self._queue, self._alpha, feedback.satisfied[decision.served])

    def play(self, rounds: Rounds) -> Played:
        """Score the odds by their expectation, from the first request on."""
        return self._score(rounds, 0.0)

    def play_on(self, rounds: Rounds) -> Played:
        """Score the odds by their expectation, from where the queue stands; they are the same for every request."""
        played = self._score(rounds, self._queue)
        self._queue = played.queue_final
        return played

    def _score(self, rounds: Rounds, start: float) -> Played:
        odds = np.broadcast_to(self._odds, (len(rounds), len(self._zoo.models)))[rounds.order]
        satisfied = _expected(odds, rounds.satisfied[rounds.order])
        queue = path(satisfied, np.full(len(satisfied), self._alpha), start)
        return Played(
            zoo=self._zoo,
            alpha=self._alpha,
            order=rounds.order,
            share=odds.mean(axis=0),
            cost=_expected(odds, rounds.cost[rounds.order]),
            satisfied=satisfied,
            satisfied_all=satisfied,
            queue_before=queue[:-1],
            queue_after=queue[1:],
        )


def _expected(odds: Floats, values: Floats) -> Floats:
    # A certain choice gives the recorded value to the last bit, whatever the other columns hold.
    certain = odds.max(axis=1) == 1.0
    return np.where(certain, values[np.arange(len(odds)), odds.argmax(axis=1)], (odds * values).sum(axis=1))
