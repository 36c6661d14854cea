"""Sums that have one order, and the update that all of the ridges share."""

from __future__ import annotations

from messctl.learning.compiled import compiled
from messctl.policies.base import Floats


@compiled
def dot(left: Floats, right: Floats) -> float:
    """Return left·right, summed in order."""
    total = 0.0
    for at in range(len(left)):
        total += left[at] * right[at]
    return total


@compiled
def gain(cov: Floats, z: Floats, out: Floats) -> None:
    """Write cov·z into `out`; by rows, so that it runs in vector registers and sums in one order all the same."""
    out[:] = 0.0
    for row in range(len(z)):
        factor = z[row]
        if factor != 0.0:
            for column in range(len(z)):
                out[column] += factor * cov[row, column]


@compiled
def shrink(cov: Floats, gained: Floats, scale: float) -> None:
    """Take gained·gainedᵀ/scale from `cov`, in place."""
    for row in range(len(gained)):
        factor = gained[row] / scale
        for column in range(len(gained)):
            cov[row, column] -= factor * gained[column]
