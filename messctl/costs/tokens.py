"""Costs computed from token counts: stated in zoo.yaml, or estimated from FLOPs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from messctl.costs.meter import JOULE, TokenMeter
from messctl.errors import BackendError
from messctl.gguf import read_header
from messctl.records import Quality
from messctl.zoo import CostPerToken, ModelSpec

FLOPS_PER_PARAMETER = 2  # a multiplication and an addition, for each token


@dataclass(frozen=True)
class StatedMeter(TokenMeter):
    """The price or energy per token that zoo.yaml states for each model. All have the same unit.

    estimated: zoo.yaml says of every cost that it is an estimate.
    """

    unit: str
    estimated: bool = False

    @property
    def source(self) -> str:
        """See `Meter`."""
        how = "estimated" if self.estimated else "stated"
        return f"{how}: {self.unit} per prompt token and per generated token, from zoo.yaml"

    def quality(self, model: ModelSpec) -> Quality:
        """See `TokenMeter`."""
        return "estimated" if self.per_token(model).estimated else "stated"

    def per_token(self, model: ModelSpec) -> CostPerToken:
        """See `Meter`."""
        if model.cost is None or model.cost.unit != self.unit:
            raise BackendError(f"model {model.name!r}: has no cost in {self.unit}; state one in zoo.yaml")
        return model.cost


@dataclass(frozen=True)
class FlopsMeter(TokenMeter):
    """An estimate in joules: 2 × active parameters × tokens (in and out) / `flop_per_j`.

    Each model's GGUF header is read once, when its first cost is needed.
    """

    flop_per_j: float
    _parameters: dict[Path, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def unit(self) -> str:
        """See `Meter`."""
        return JOULE

    def quality(self, model: ModelSpec) -> Quality:  # noqa: ARG002  # the same for all models
        """See `TokenMeter`."""
        return "estimated"

    @property
    def source(self) -> str:
        """See `Meter`."""
        return f"estimated: {FLOPS_PER_PARAMETER} × active parameters × tokens at {self.flop_per_j:g} FLOP/J"

    def per_token(self, model: ModelSpec) -> CostPerToken:
        """See `Meter`."""
        joules = FLOPS_PER_PARAMETER * self._active(model) / self.flop_per_j
        return CostPerToken(JOULE, joules, joules)

    def _active(self, model: ModelSpec) -> float:
        if model.parameters is not None:
            return model.parameters
        if model.path is None:
            raise BackendError(f"model {model.name!r}: has neither a cost nor parameters; state one in zoo.yaml")
        if model.path not in self._parameters:
            self._parameters[model.path] = read_header(model.path).active_parameters
        return self._parameters[model.path]
