"""The frozen nouns that travel through the house: Request, Weighed, Decision, Question, Completion, Outcome …"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal


def _nothing() -> Mapping[str, float]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Request:
    """What a policy may see of a request. It carries no labels, so no policy can peek.

    `gradable` tells whether somebody will grade every answer to it, so that exploring it can teach anything. The
    models `excluded` cannot be asked now, and are neither served nor queried, unless that leaves none. `surcharge`
    is what a model would cost now beyond its answer, as to load it: ≥ 0, in the unit of the costs; 0 where it is
    not named. `prompt_cost` is what reading the prompt will cost a model, known before it runs: ≥ 0, in the same unit,
    a part of the answer's cost; 0, for not known, where it is not named.
    """

    request_id: str
    prompt: str
    gradable: bool = True
    excluded: frozenset[str] = frozenset()
    surcharge: Mapping[str, float] = field(default_factory=_nothing)
    prompt_cost: Mapping[str, float] = field(default_factory=_nothing)


SURCHARGE = "surcharge"


@dataclass(frozen=True, slots=True)
class Weighed:
    """What a decision weighed: of the models that can be asked, the one with the least sum of the `terms` serves.

    `terms` holds a value per model by the term's name, the first of which is the cost, `figures` what holds for all
    models by its symbol. `note` says what else decided, if anything did. The names are for people to read; what the
    request's surcharge adds is the term SURCHARGE, where there is one.
    """

    terms: Mapping[str, Mapping[str, float]]
    figures: Mapping[str, float]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy decided on one request, and all that the decision was made of.

    `queried` holds every model that is to be run and paid for; `served` is the one whose answer the user
    gets. `propensity` is the probability, in 0..1, with which `served` was to be served, and `odds` those of the models
    that might have been, by name; empty where nothing was left to chance. `predicted` and
    `mean_cost` (in the trace's unit) are what the policy believed at that moment; a model of which no cost
    has been observed yet is absent from `mean_cost`. `weighed` is None where nothing was. `request_number` counts
    from 1; it is 0 where somebody else decided than the policy that is asked to learn.
    """

    request: Request
    request_number: int
    served: str
    queried: tuple[str, ...]
    propensity: float = 1.0
    explored: bool = False
    p_explore: float = 0.0
    queue: float = 0.0
    predicted: Mapping[str, float] = field(default_factory=_nothing)
    mean_cost: Mapping[str, float] = field(default_factory=_nothing)
    weighed: Weighed | None = None
    odds: Mapping[str, float] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True)
class Feedback:
    """What became known about a decision, by model; any part may be missing or come later.

    `costs` (≥ 0, the trace's unit) are known when the answers are there, `satisfied` (0..1) when someone
    has judged them. Both go to `Policy.learn`, together or one after the other. Where `satisfied` only `corrects` what
    was told before, it is one more label to learn from, and nothing more that is owed.
    """

    costs: Mapping[str, float] = field(default_factory=_nothing)
    satisfied: Mapping[str, float] = field(default_factory=_nothing)
    corrects: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """What a backend is asked: a prompt, and what the asker wants other than the model's own settings.

    `history` holds earlier turns, oldest first, as (what was asked, what was answered). `max_tokens` ≥ 1;
    `temperature` ≥ 0; `seed` ≥ 0 makes sampling repeatable. `logprob` asks how sure the model was of its answer. With
    `to_the_limit` an answer does not end before its limit, whatever it says: for measuring.
    """

    prompt: str
    system: str | None = None
    history: tuple[tuple[str, str], ...] = ()
    max_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    logprob: bool = False
    to_the_limit: bool = False


Quality = Literal["measured", "stated", "estimated", "shared"]
"""How a cost is known; `shared` was measured while something else used the same device, and holds its cost too."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one answer cost, ≥ 0, in its meter's unit, and how that is known. `load` of it was for loading the model."""

    amount: float
    quality: Quality
    load: float = 0.0

    @property
    def answer(self) -> float:
        """What the answer alone cost, ≥ 0."""
        return max(0.0, self.amount - self.load)


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered, and what that took.

    `tokens_in` counts the prompt as the model saw it, `tokens_out` all that was generated, the end mark
    included. `latency_s` runs from the call to the last token, loading aside; `load_s` is what loading took,
    0 where the model was there already. `finish` tells why the answer ends: the model was done ("stop"), or a
    limit was reached ("length"). `logprob` is the mean log-probability (natural, at temperature 1) of the tokens
    generated, the end mark included; None where it was not asked for, or the backend does not tell. `cost` is None
    where no meter was running.
    """

    model: str
    answer: str
    tokens_in: int
    tokens_out: int
    latency_s: float
    load_s: float
    finish: str
    logprob: float | None = None
    cost: Cost | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one model did with one request; None where it was not observed.

    `satisfied` in 0..1; `cost` ≥ 0 in the trace's unit; `logprob` is the mean log-probability per token;
    `cost_quality` says how the cost is known: "measured", "stated", "estimated" or "shared" (`Quality`).
    """

    satisfied: float | None = None
    cost: float | None = None
    latency_s: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    answer: str | None = None
    logprob: float | None = None
    cost_quality: str | None = None
