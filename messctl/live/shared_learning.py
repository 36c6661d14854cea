"""Shared learning: what several promises learn of the same models is common, and each has a level of its own.

A promise is a state with its own requests, debt and counts. How good a model's answers are on the whole is its own,
too: its users may be stricter than others. So are the prompts that came of late. How prompts differ, and what answers
cost, is learned together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from messctl.learning.snapshot import Arrays, ModelSnapshot, Snapshot

LEVEL = ("good", "answers")
"""The bandit's level of a model: the sum of the satisfaction with its answers, and their number."""
PROMPTS = ("recent_prompts", "recent_known", "base_price")
"""The bandit's recent prompts, and the price that was solved on them."""
OWN: Mapping[str, frozenset[str]] = {
    "bandit": frozenset((*LEVEL, *PROMPTS, "served_at", "counts", "lateness", "forgone", "elsewhere", "tried")),
    "messplus": frozenset(("bias",)),
}
"""By policy: the arrays that each promise has for itself."""
FIRST_ANSWERS = 8.0
"""A new promise begins with the level of the others, as if it came from at most this number of answers."""


def joined(own: Snapshot, others: Snapshot) -> Snapshot:
    """Return the state of one promise with what others learned: its own counts, debt and level stay."""
    if not others.policy or (own.policy and _basis(own) != _basis(others)):
        return own
    names = OWN.get(others.policy, frozenset())
    models = {
        name: _model(own.models.get(name, ModelSnapshot()), others.models.get(name, ModelSnapshot()), names)
        for name in {**own.models, **others.models}
    }
    return replace(
        own,
        policy=others.policy,
        version=others.version,
        encoder=others.encoder,
        cost_source=others.cost_source,
        shared=_arrays(own.shared, others.shared, names),
        cost_shared=_arrays(own.cost_shared, others.cost_shared, names),
        models=models,
    )


def _model(own: ModelSnapshot, others: ModelSnapshot, names: frozenset[str]) -> ModelSnapshot:
    arrays = _arrays(own.arrays, others.arrays, names)
    if not all(name in own.arrays for name in LEVEL) and all(name in others.arrays for name in LEVEL):
        answers = float(others.arrays["answers"])
        share = min(1.0, FIRST_ANSWERS / answers) if answers > 0.0 else 1.0
        arrays = {**arrays, **{name: others.arrays[name] * share for name in LEVEL}}
    costs = _arrays(own.cost_arrays, others.cost_arrays, names)
    if not others.cost_count:
        return replace(own, arrays=arrays, cost_arrays=costs)
    return replace(others, arrays=arrays, cost_arrays=costs)


def _arrays(own: Arrays, others: Arrays, names: frozenset[str]) -> Arrays:
    return {**own, **{name: array for name, array in others.items() if name not in names}}


def _basis(snapshot: Snapshot) -> tuple[str, int, str]:
    return snapshot.policy, snapshot.version, snapshot.encoder
