"""The virtual queue: how far the service-level promise has fallen behind (the debt; MESS+, arXiv:2505.19947)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from messctl.learning.compiled import compiled, compiled_loop


@compiled
def advance(queue: float, alpha: float, satisfied: float) -> float:
    """Return the queue after one answer's feedback: Q ← max(0, Q + α − s).

    `queue` ≥ 0 starts at 0; `alpha` is the promised share and `satisfied` the feedback, both in 0..1.
    """
    return max(0.0, queue + alpha - satisfied)


@compiled_loop
def path(
    satisfied: npt.NDArray[np.float64], alpha: npt.NDArray[np.float64], start: float = 0.0
) -> npt.NDArray[np.float64]:
    """Return the queue before each of n answers and after the last one, (n + 1,).

    `satisfied` and `alpha` are (n,): the feedback, and the promise under which each answer was given.
    """
    queue = np.full(len(satisfied) + 1, start)
    for t in range(len(satisfied)):
        queue[t + 1] = advance(queue[t], alpha[t], satisfied[t])
    return queue
