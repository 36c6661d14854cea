"""A linear model of the cost, or the time, of a request by its tokens.

    cost = fixed + prompt × tokens in + generated × tokens out        (all ≥ 0, by least squares)

Residuals are relative to the cost, so that short requests count as much as long ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from messctl.errors import UsageError


@dataclass(frozen=True, slots=True)
class Line:
    """A fitted cost, or time, in parts ≥ 0: `fixed` per request, per `prompt` token, per `generated` token.

    error: the root mean square of the relative residuals, in 0..1.
    """

    fixed: float
    prompt: float
    generated: float
    error: float

    @classmethod
    def fitted(cls, tokens: npt.ArrayLike, values: npt.ArrayLike) -> Line:
        """Fit a line by non-negative least squares on relative residuals.

        tokens: (n, 2), tokens in and tokens out of each request. values: (n,), > 0.
        Raises UsageError if a value is not > 0, or if there is none.
        """
        from scipy.optimize import nnls  # noqa: PLC0415  # needed here only

        values = np.asarray(values, dtype=np.float64)
        if not len(values) or values.min() <= 0:
            raise UsageError("cannot fit a line to costs of 0; choose another --meter")
        design = np.column_stack([np.ones(len(values)), np.asarray(tokens, dtype=np.float64)]) / values[:, None]
        size = np.linalg.norm(design, axis=0)
        size[size == 0.0] = 1.0
        found, _ = nnls(design / size, np.ones(len(values)))
        parts = found / size
        error = float(np.sqrt(np.mean((design @ parts - 1.0) ** 2)))
        return cls(float(parts[0]), float(parts[1]), float(parts[2]), error)

    def of(self, tokens_in: float, tokens_out: float) -> float:
        """Return the fitted value of a request with these token counts."""
        return self.fixed + self.prompt * tokens_in + self.generated * tokens_out
