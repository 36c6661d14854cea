"""Snapshots: what a router has learned, by model name, as it is saved between requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class ModelSnapshot:
    """What is known of one model: its running mean cost over `cost_count` costs, and its predictor.

    `weight` is (features,) float64, or empty where nothing was learned; `steps` counts its labels. `cost_source` says
    in which unit, and by which meter, its costs were; means of another source mean nothing.
    """

    mean_cost: float = 0.0
    cost_count: int = 0
    weight: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    bias: float = 0.0
    steps: int = 0
    cost_source: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The router's whole state: `decided` requests, the virtual `queue`, and what is known of each model.

    `encoder` names the features that the weights belong to; weights of another encoder mean nothing.
    """

    decided: int = 0
    queue: float = 0.0
    encoder: str = ""
    models: Mapping[str, ModelSnapshot] = field(default_factory=dict)

    def costs_from(self, source: str) -> Snapshot:
        """Return the state with the mean costs of models whose costs came from elsewhere forgotten."""
        models = {
            name: model
            if model.cost_source == source
            else replace(model, mean_cost=0.0, cost_count=0, cost_source=source)
            for name, model in self.models.items()
        }
        return replace(self, models=models)

    def with_source(self, source: str) -> Snapshot:
        """Return the state with `source` said to be where all of its costs came from."""
        return replace(self, models={name: replace(each, cost_source=source) for name, each in self.models.items()})
