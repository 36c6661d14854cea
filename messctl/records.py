"""The frozen records that packages exchange: Request, Decision, Feedback, Question, Chat, Completion, Outcome."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol


def _nothing() -> Mapping[str, float]:
    return MappingProxyType({})


def _no_evidence() -> Mapping[str, Evidence]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Request:
    """What a policy may see of a request. It carries no labels, so no policy can peek.

    gradable: whether every answer to it will be graded. Only then can exploring it teach anything.
    excluded: the models that cannot answer now. They are neither served nor queried, unless no other model is left.
    surcharge: per model, what it would cost now beyond its answer, for example to load it. ≥ 0, in the unit of the
        costs; a model that is missing has none.
    prompt_cost: per model, what reading the prompt will cost, a part of the answer's cost. ≥ 0, in the same unit;
        unknown for a model that is missing.
    looks: whether several models may be asked, and one of their answers shown.
    """

    request_id: str
    prompt: str
    gradable: bool = True
    excluded: frozenset[str] = frozenset()
    surcharge: Mapping[str, float] = field(default_factory=_nothing)
    prompt_cost: Mapping[str, float] = field(default_factory=_nothing)
    looks: bool = True


SURCHARGE = "surcharge"
"""The name of the term by which a surcharge enters `Weighed.terms`."""

HELD_BACK = "another model would be chosen, but too few of its answers have feedback yet"
GUARDED = "the debt guard chose"
TRIED = "a trial"
"""What decided, if it was not the least sum of the terms alone; see `Weighed.note`."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """What a decision weighed: of the models that can answer, the one with the least sum of its terms serves.

    terms: per term and model, a value. The first term is the cost; SURCHARGE is there if the request has one.
    figures: values that hold for all models, by symbol.
    note: what else decided; empty if nothing did.
    The names are for people to read.
    """

    terms: Mapping[str, Mapping[str, float]]
    figures: Mapping[str, float]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is seen of an answer before anybody judges it.

    group: a number ≥ 0 that equal answers to one request share.
    logprob: the mean log-probability of the answer's tokens, ≤ 0; None if it is unknown.
    """

    group: int
    logprob: float | None = None


@dataclass(frozen=True, slots=True)
class Course:
    """How a request may go on after its first answer.

    price: what one more satisfied answer may cost, in the trace's unit.
    alone: no other model may be asked, whatever the answer looks like.
    planned: the plan, too, asks this model first.
    alone_chance, planned_chance: the probabilities that this model was to be asked alone, and that the request goes by
        the plan.
    believed: how likely the best answer so far is to satisfy, 0..1; None if nothing was weighed.
    """

    price: float
    alone: bool
    planned: bool
    alone_chance: float
    planned_chance: float
    believed: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy decided on one request, and what it decided by.

    request_number: counts from 1; 0 if another than the learning policy decided.
    served: the model whose answer the user gets.
    queried: every model that runs, and whose cost counts.
    propensity: the probability with which `served` was chosen, in 0..1.
    odds: the same for every model that could have been chosen; empty if chance had no part.
    explored, p_explore: whether the policy explored, and with which probability it did, in 0..1.
    queue: the virtual queue (debt) at that moment, ≥ 0.
    predicted: the predicted satisfaction per model, 0..1.
    mean_cost: the mean cost per model, in the trace's unit; a model without an observed cost is missing.
    weighed: None if nothing was weighed.
    course: how it may go on after the first answer; None if one model is asked and no more.
    answers: what was seen of each answer, by model, in the order in which they were asked.
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
    course: Course | None = None
    answers: Mapping[str, Evidence] = field(default_factory=_no_evidence)


@dataclass(frozen=True, slots=True)
class Feedback:
    """What became known about a decision, per model. Any part may be missing or come later.

    costs: ≥ 0, in the trace's unit; known as soon as the answers are there.
    satisfied: 0..1, known once somebody has judged the answers.
    corrects: `satisfied` replaces earlier feedback. It is one more label to learn from; the virtual queue stays as it
        is.
    Both go to `Policy.learn`, together or one after the other.
    """

    costs: Mapping[str, float] = field(default_factory=_nothing)
    satisfied: Mapping[str, float] = field(default_factory=_nothing)
    corrects: bool = False


@dataclass(frozen=True, slots=True)
class Chat:
    """A whole request in OpenAI's protocol, as it came.

    messages: with their roles, parts and tool calls. parameters: all other fields but `model` and `stream`, also those
    that nobody here knows.
    """

    messages: tuple[Mapping[str, Any], ...]
    parameters: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


class Recipient(Protocol):
    """Who gets an answer. They may leave before it is complete; then it is not generated any further."""

    @property
    def shown(self) -> bool:
        """Whether they have seen a part of the answer."""

    def check(self) -> None:
        """Raise LeftError if they have left."""

    def cutting(self, cut: Callable[[], None]) -> AbstractContextManager[None]:
        """Call `cut` from another thread if they leave within the block."""

    def take(self, part: Mapping[str, Any]) -> None:
        """Take what a server sends beside the text of its answer, in the form of a choice of a streamed answer."""


class LeftError(BaseException):
    """Whoever waited for an answer has left. Like Ctrl-C, it is no failure of a model."""


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt for a backend, with the settings that differ from the model's own.

    history: earlier turns as (prompt, answer), oldest first.
    max_tokens: ≥ 1. temperature: ≥ 0. seed: ≥ 0; makes sampling repeatable. None: the model's own setting.
    logprob: whether the answer comes with its mean log-probability.
    to_the_limit: the answer ends at its limit only. For measurements.
    chat: the whole request, if it came by OpenAI's protocol; a model then reads its messages. `prompt` is the part
        that the router decides on.
    recipient: who gets the answer, if they may leave.
    """

    prompt: str
    system: str | None = None
    history: tuple[tuple[str, str], ...] = ()
    max_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    logprob: bool = False
    to_the_limit: bool = False
    chat: Chat | None = None
    recipient: Recipient | None = field(default=None, compare=False, repr=False)


Quality = Literal["measured", "stated", "estimated", "shared"]
"""How a cost is known. A `shared` one was measured while others used the same device, and includes their part."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one answer, ≥ 0, in its meter's unit, and how it is known. `load` is the part for loading."""

    amount: float
    quality: Quality
    load: float = 0.0

    @property
    def answer(self) -> float:
        """The cost of the answer without the load, ≥ 0."""
        return max(0.0, self.amount - self.load)


WITHOUT_SHAPE = ("Cc", "Cf")
"""Unicode's categories of control characters, and of marks such as the byte order mark."""
LIMIT, FILTER = "limit", "filter"
_CUTS = {
    "length": LIMIT,
    "max_tokens": LIMIT,
    "model_length": LIMIT,
    "content_filter": FILTER,
    "safety": FILTER,
    "sensitive": FILTER,
    "recitation": FILTER,
    "blocklist": FILTER,
    "prohibited_content": FILTER,
}
"""The words of servers for an answer that was cut, in lower case, and what cut it."""


def blank_size(text: str) -> int:
    """Return the number of characters before the first one that can be read."""
    rest = text.lstrip()
    while rest and unicodedata.category(rest[0]) in WITHOUT_SHAPE:
        rest = rest[1:].lstrip()
    return len(text) - len(rest)


def is_blank(text: str) -> bool:
    """Return whether a text has nothing to read: only white space and characters without a shape."""
    return blank_size(text) == len(text)


def cut_by(finish: str | None) -> str | None:
    """Return what cut an answer that ended for this reason: LIMIT or FILTER, None if nothing did."""
    return _CUTS.get((finish or "").lower())


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's answer, with its tokens, times and cost.

    tokens_in: the tokens of the prompt as the model saw it.
    tokens_out: the generated tokens, including the end mark.
    latency_s: seconds from the call to the last token, without loading.
    load_s: seconds to load the model; 0 if it was loaded already.
    finish: why the answer ended, in the server's word: the model was done ("stop"), a limit was reached ("length"), a
        filter cut it ("content_filter"), or another reason.
    logprob: mean natural log-probability, at temperature 1, of the generated tokens, including the end mark. None if
        it was not requested or the backend does not report it.
    cost: None if no meter was running.
    thinking: what the model thought before its answer; no part of `answer`.
    calls: the tools that the model calls, as JSON; empty if it calls none.
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
    thinking: str = ""
    calls: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one model did with one request. None means: not observed.

    satisfied: 0..1. cost: ≥ 0, in the trace's unit. logprob: mean log-probability per token, ≤ 0.
    cost_quality: how the cost is known, one of `Quality`.
    finish: why the answer ended, as in `Completion`. thinking: what the model thought before it.
    """

    satisfied: float | None = None
    cost: float | None = None
    latency_s: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    answer: str | None = None
    logprob: float | None = None
    cost_quality: str | None = None
    finish: str | None = None
    thinking: str | None = None
