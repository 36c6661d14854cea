"""Snapshots: what a router has learned, by model name, as it is saved between requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class ModelSnapshot:
    """What is known of one model: its running mean cost over `cost_count` costs, and its predictor.

    `weight` is (features,) float64, or empty where nothing was learned; `steps` counts its labels.
    """

    mean_cost: float = 0.0
    cost_count: int = 0
    weight: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    bias: float = 0.0
    steps: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The router's whole state: `decided` requests, the virtual `queue`, and what is known of each model.

    `encoder` names the features that the weights belong to; weights of another encoder mean nothing.
    """

    decided: int = 0
    queue: float = 0.0
    encoder: str = ""
    models: Mapping[str, ModelSnapshot] = field(default_factory=dict)
