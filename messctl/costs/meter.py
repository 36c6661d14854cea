"""What a meter is: something that is running while a model answers, and says afterwards what the answer cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import ClassVar, Protocol

from messctl.errors import BackendError
from messctl.records import Completion, Cost, Quality
from messctl.zoo import CostPerToken, ModelSpec

JOULE = "J"


class Reading(Protocol):
    """What a meter read while one model answered; to be asked when `Meter.measuring` has ended."""

    def cost(self, model: ModelSpec, completion: Completion) -> Cost:
        """Return what `completion`, by `model`, cost. Raises BackendError where it cannot be known."""


class Meter(Protocol):
    """Tells what completions cost, in `unit`; `source` says how that is known, and is recorded with every row.

    One `source` may give costs of several qualities: a row holds its own, and what is learned is of the source.
    """

    @property
    def unit(self) -> str:
        """The unit of all costs."""

    @property
    def source(self) -> str:
        """How the costs are known."""

    @property
    def includes_loads(self) -> bool:
        """Whether what it tells of an answer holds what loading the model took."""

    def per_token(self, model: ModelSpec) -> CostPerToken:
        """Return what a token is expected to cost. Raises BackendError where it cannot be known beforehand."""

    def measuring(self) -> AbstractContextManager[Reading]:
        """Return the context in which one model answers, loading included. Raises BackendError."""


class TokenMeter(ABC):
    """A meter whose costs follow from the tokens alone: nothing has to be read while a model answers.

    `quality` is that of all its costs.
    """

    quality: Quality
    includes_loads: ClassVar[bool] = False

    @abstractmethod
    def per_token(self, model: ModelSpec) -> CostPerToken:
        """See `Meter`."""

    def cost(self, model: ModelSpec, completion: Completion) -> float:
        """Return what `completion`, by `model`, cost. Raises BackendError where no tokens were counted."""
        if completion.tokens_in + completion.tokens_out <= 0:
            raise BackendError(f"model {model.name!r}: no tokens were counted for an answer, so its cost is unknown")
        return self.per_token(model).of(completion.tokens_in, completion.tokens_out)

    @contextmanager
    def measuring(self) -> Iterator[Reading]:
        """See `Meter`."""
        yield _Counting(self)


@dataclass(frozen=True, slots=True)
class _Counting:
    meter: TokenMeter

    def cost(self, model: ModelSpec, completion: Completion) -> Cost:
        return Cost(self.meter.cost(model, completion), self.meter.quality)
