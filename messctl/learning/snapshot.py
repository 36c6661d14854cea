"""Snapshots: what a policy has learned, by model name, as it is stored between requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]
"""Parts of a policy's state by name, each float64 or int64."""


@dataclass(frozen=True, slots=True)
class ModelSnapshot:
    """What is known of one model: its running mean cost over `cost_count` costs, and its part of the policy's state.

    `arrays` hold what was learned from its answers, `cost_arrays` what was learned from its costs beyond their mean.
    `cost_source` is the unit and the meter of its costs. What was learned from another source is void.
    """

    mean_cost: float = 0.0
    cost_count: int = 0
    cost_source: str = ""
    arrays: Arrays = field(default_factory=dict)
    cost_arrays: Arrays = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The router's whole state: how well the promise is kept so far, and what is known of each model.

    `queue` is the virtual queue Q, and `balance` is Σ(s − α), never clipped; both count all answers with feedback.
    `decided` is the number of requests. The rest is the state of one `policy`: the arrays that all models share, and
    each model's part. `version` is that of the policy's arrays, and `encoder` names the features that they belong to.
    Arrays of another policy or version are void, and so are weights of another encoder. `cost_source` is that of
    `cost_shared`.
    """

    decided: int = 0
    queue: float = 0.0
    balance: float = 0.0
    policy: str = ""
    version: int = 0
    encoder: str = ""
    cost_source: str = ""
    shared: Arrays = field(default_factory=dict)
    cost_shared: Arrays = field(default_factory=dict)
    models: Mapping[str, ModelSnapshot] = field(default_factory=dict)

    def learned_by(self, policy: str, version: int) -> Snapshot:
        """Return the state without arrays, unless they are this policy's, in this version."""
        if (self.policy, self.version) == (policy, version):
            return self
        models = {name: replace(model, arrays={}, cost_arrays={}) for name, model in self.models.items()}
        return replace(self, policy=policy, version=version, encoder="", shared={}, cost_shared={}, models=models)

    def costs_from(self, source: str) -> Snapshot:
        """Return the state without what was learned from the costs of another source."""
        models = {
            name: model
            if model.cost_source == source
            else replace(model, mean_cost=0.0, cost_count=0, cost_source=source, cost_arrays={})
            for name, model in self.models.items()
        }
        shared = self.cost_shared if self.cost_source == source else {}
        return replace(self, cost_source=source, cost_shared=shared, models=models)

    def with_source(self, source: str) -> Snapshot:
        """Return the state with `source` as the source of all its costs."""
        models = {name: replace(each, cost_source=source) for name, each in self.models.items()}
        return replace(self, cost_source=source, models=models)


def cost_source(unit: str, meter: str) -> str:
    """Return the name of a source of costs: its unit and its meter."""
    return f"{unit}: {meter}"


def restore(saved: Arrays, into: Arrays) -> bool:
    """Copy stored arrays over those of the same names, in place, and tell whether this was done.

    It is done for all arrays of `into`, or for none if one of them is missing or has another shape or type.
    """
    fits = all(
        name in saved and (saved[name].shape, saved[name].dtype) == (array.shape, array.dtype)
        for name, array in into.items()
    )
    if fits:
        for name, array in into.items():
            array[...] = saved[name]
    return fits
