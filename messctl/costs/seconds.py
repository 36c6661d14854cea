"""Time as the cost: the seconds for which a model kept the machine busy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from messctl.costs.meter import Reading
from messctl.errors import BackendError
from messctl.records import Completion, Cost
from messctl.zoo import CostPerToken, ModelSpec

SECOND = "s"


@dataclass(frozen=True, slots=True)
class SecondsMeter:
    """Wall-clock seconds from the call to the last token, plus those for loading the model."""

    unit: str = SECOND
    includes_loads: bool = True
    source: str = "measured: seconds from the call to the last token"

    def per_token(self, model: ModelSpec) -> CostPerToken:
        """See `Meter`. The costs are known in advance if the model was calibrated in seconds."""
        if model.cost is None or model.cost.unit != SECOND:
            raise BackendError(f"model {model.name!r}: its seconds per token are unknown; run messctl zoo calibrate")
        return model.cost

    @contextmanager
    def measuring(self) -> Iterator[Reading]:
        """See `Meter`."""
        yield self

    def cost(self, model: ModelSpec, completion: Completion) -> Cost:
        """See `Reading`."""
        seconds = completion.latency_s + completion.load_s
        if seconds <= 0:
            raise BackendError(
                f"model {model.name!r}: an answer took 0 seconds, so its cost is unknown; choose another meter"
            )
        return Cost(seconds, "measured")
