"""A straight line from tokens to a cost, or a time.

    cost = fixed + prompt × tokens in + generated × tokens out        (all ≥ 0, by least squares)

Errors weigh relative to the cost, so that short requests count as much as long ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from messctl.errors import UsageError


@dataclass(frozen=True, slots=True)
class Line:
    """A fitted cost (or time): `fixed`, per `prompt` token, per `generated` token, ≥ 0.

    `error` is the root mean square of the relative residuals.
    """

    fixed: float
    prompt: float
    generated: float
    error: float

    @classmethod
    def fitted(cls, tokens: npt.ArrayLike, values: npt.ArrayLike) -> Line:
        """Fit to `values` (n,) of so many `tokens` (n, 2), in and out, by non-negative least squares.

        Residuals weigh relative to the value. Raises UsageError unless all values are > 0.
        """
        from scipy.optimize import nnls  # noqa: PLC0415  # for this alone

        values = np.asarray(values, dtype=np.float64)
        if not len(values) or values.min() <= 0:
            raise UsageError("nothing can be fitted to costs of 0; choose another --meter")
        design = np.column_stack([np.ones(len(values)), np.asarray(tokens, dtype=np.float64)]) / values[:, None]
        size = np.linalg.norm(design, axis=0)
        size[size == 0.0] = 1.0
        found, _ = nnls(design / size, np.ones(len(values)))
        parts = found / size
        error = float(np.sqrt(np.mean((design @ parts - 1.0) ** 2)))
        return cls(float(parts[0]), float(parts[1]), float(parts[2]), error)

    def of(self, tokens_in: float, tokens_out: float) -> float:
        """Return the value of so many tokens."""
        return self.fixed + self.prompt * tokens_in + self.generated * tokens_out
