"""Meters: a meter runs while a model answers, and then returns the cost of the answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import ClassVar, Protocol

from messctl.errors import BackendError
from messctl.records import Completion, Cost, Quality
from messctl.zoo import CostPerToken, ModelSpec

JOULE = "J"


class Reading(Protocol):
    """The measurement of one answer. It is complete when the context `Meter.measuring` has ended."""

    def cost(self, model: ModelSpec, completion: Completion) -> Cost:
        """Return the cost of `completion`, the answer of `model`. Raises BackendError if it is unknown."""


class Meter(Protocol):
    """Returns the costs of completions, in one unit.

    One source may give costs of several qualities. Each row stores its own quality; learned costs belong to the source.
    """

    @property
    def unit(self) -> str:
        """The unit of all costs, for example "J" or "USD"."""

    @property
    def source(self) -> str:
        """How the costs are known. It is stored with every row."""

    @property
    def includes_loads(self) -> bool:
        """Whether the cost of an answer includes the cost of loading the model."""

    def per_token(self, model: ModelSpec) -> CostPerToken:
        """Return the expected costs per token. Raises BackendError if they are not known in advance."""

    def measuring(self) -> AbstractContextManager[Reading]:
        """Return the context in which one model is loaded and answers. Raises BackendError."""


def prices_of(models: Iterable[ModelSpec], meter: Meter) -> dict[str, CostPerToken]:
    """Return the expected costs per token, by model; a model whose costs are not known in advance is left out."""
    prices = {}
    for model in models:
        with suppress(BackendError):  # its file cannot be read; the error comes if the model is to answer
            prices[model.name] = meter.per_token(model)
    return prices


class TokenMeter(ABC):
    """A meter that computes costs from token counts alone. Nothing is measured while a model answers."""

    includes_loads: ClassVar[bool] = False

    @abstractmethod
    def per_token(self, model: ModelSpec) -> CostPerToken:
        """See `Meter`."""

    @abstractmethod
    def quality(self, model: ModelSpec) -> Quality:
        """Return how the costs of a model are known. Raises BackendError if they are not known."""

    def cost(self, model: ModelSpec, completion: Completion) -> float:
        """Return the cost of `completion`, the answer of `model`. Raises BackendError if no tokens were counted."""
        if completion.tokens_in + completion.tokens_out <= 0:
            raise BackendError(
                f"model {model.name!r}: no tokens were counted for an answer; its cost is unknown, so use another meter"
            )
        return self.per_token(model).of(completion.tokens_in, completion.tokens_out)

    @contextmanager
    def measuring(self) -> Iterator[Reading]:
        """See `Meter`."""
        yield _Counting(self)


@dataclass(frozen=True, slots=True)
class _Counting:
    meter: TokenMeter

    def cost(self, model: ModelSpec, completion: Completion) -> Cost:
        return Cost(self.meter.cost(model, completion), self.meter.quality(model))
