"""Linear algebra for the ridges: sums in one fixed order, and the update of a covariance."""

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
def gain(covariance: Floats, z: Floats, out: Floats) -> None:
    """Write covariance·z into `out`, row by row: this uses vector registers and still sums in one order."""
    out[:] = 0.0
    for row in range(len(z)):
        factor = z[row]
        if factor != 0.0:
            for column in range(len(z)):
                out[column] += factor * covariance[row, column]


@compiled
def shrink(covariance: Floats, gained: Floats, scale: float) -> None:
    """Subtract gained·gainedᵀ/scale from `covariance`, in place."""
    for row in range(len(gained)):
        factor = gained[row] / scale
        for column in range(len(gained)):
            covariance[row, column] -= factor * gained[column]
