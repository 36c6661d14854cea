"""The frozen nouns that travel through the house: Request, Decision, Feedback."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


def _nothing() -> Mapping[str, float]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Request:
    """What a policy may see of a request. It carries no labels, so no policy can peek."""

    request_id: str
    prompt: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy decided on one request, and all that the decision was made of.

    `queried` holds every model that is to be run and paid for; `served` is the one whose answer the user
    gets. `propensity` is the probability, in 0..1, with which `served` was to be served. `predicted` and
    `mean_cost` (in the trace's unit) are what the policy believed at that moment; a model of which no cost
    has been observed yet is absent from `mean_cost`. `request_number` counts from 1.
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


@dataclass(frozen=True, slots=True)
class Feedback:
    """What became known about a decision, by model; any part may be missing or come later.

    `costs` (≥ 0, the trace's unit) are known when the answers are there, `satisfied` (0..1) when someone
    has judged them. Both go to `Policy.learn`, together or one after the other.
    """

    costs: Mapping[str, float] = field(default_factory=_nothing)
    satisfied: Mapping[str, float] = field(default_factory=_nothing)
