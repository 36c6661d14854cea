"""Snapshots: what a router has learned, by model name, as it is saved between requests."""

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

    `arrays` hold what was learned of its answers, `cost_arrays` what was learned of its costs beyond their mean.
    `cost_source` says in which unit, and by which meter, its costs were; what was learned from those of another
    source means nothing.
    """

    mean_cost: float = 0.0
    cost_count: int = 0
    cost_source: str = ""
    arrays: Arrays = field(default_factory=dict)
    cost_arrays: Arrays = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The router's whole state: where the promise stands, and what is known of each model.

    The virtual `queue` Q and the `balance` Σ(s − α), never clipped, are of all answers with feedback; `decided` counts
    the requests. All else that was learned is the state of one `policy`: the arrays that all models share, and each
    model's part. `version` is that of the policy's arrays and `encoder` names the features that they belong to;
    arrays of another policy or version, and weights of another encoder, mean nothing. `cost_source` is that of
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
        """Return the state with all arrays forgotten that are not this policy's, in this version."""
        if (self.policy, self.version) == (policy, version):
            return self
        models = {name: replace(model, arrays={}, cost_arrays={}) for name, model in self.models.items()}
        return replace(self, policy=policy, version=version, encoder="", shared={}, cost_shared={}, models=models)

    def costs_from(self, source: str) -> Snapshot:
        """Return the state with all forgotten that was learned from costs that came from elsewhere."""
        models = {
            name: model
            if model.cost_source == source
            else replace(model, mean_cost=0.0, cost_count=0, cost_source=source, cost_arrays={})
            for name, model in self.models.items()
        }
        shared = self.cost_shared if self.cost_source == source else {}
        return replace(self, cost_source=source, cost_shared=shared, models=models)

    def with_source(self, source: str) -> Snapshot:
        """Return the state with `source` said to be where all of its costs came from."""
        models = {name: replace(each, cost_source=source) for name, each in self.models.items()}
        return replace(self, cost_source=source, models=models)


def cost_source(unit: str, meter: str) -> str:
    """Return the name of where costs come from."""
    return f"{unit}: {meter}"


def restore(saved: Arrays, into: Arrays) -> bool:
    """Copy saved arrays over those of the same names, in place; tell whether it was done.

    It is done for all of `into`, or, where one of them was not saved in the same shape and type, for none.
    """
    fits = all(
        name in saved and (saved[name].shape, saved[name].dtype) == (array.shape, array.dtype)
        for name, array in into.items()
    )
    if fits:
        for name, array in into.items():
            array[...] = saved[name]
    return fits
