"""Cross-fitting: predicts what each model would have brought on each request of a log.

A live log knows a value, such as feedback or cost, of one model per request. A ridge regression per model, on the
prompt's features, predicts it for all models. Each request is predicted by regressions that were fitted on other
requests. So the doubly robust estimator, which corrects these predictions, is free of the fit's optimism (Chernozhukov
et al., *Double/debiased machine learning*, 2018).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from messctl.learning.features import Features

Floats = npt.NDArray[np.float64]

FOLDS = 5
PENALTY = 1.0
"""Of the ridge regressions, on values in standard deviations."""
FEWEST = 20
"""[rows] A model with fewer rows in the other folds is predicted by its mean alone."""


def folds(n: int) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Yield the rows of each fold, and all others: FOLDS random folds, always the same, or n folds if n is smaller."""
    count = min(FOLDS, n)
    fold_of = np.random.Generator(np.random.PCG64(0)).permutation(n) % max(1, count)
    for fold in range(count):
        yield np.flatnonzero(fold_of == fold), np.flatnonzero(fold_of != fold)


def cross_fitted(features: Features, served: npt.NDArray[np.int64], value: Floats, models: int) -> Floats:
    """Return the value that is expected of each model on each row, (n, models), in the unit of `value`.

    `served` (n,) is the index of the model whose `value` (n,) was observed; a value that was not observed is NaN.
    Predictions stay within the range of the values that they were fitted on. A model without rows in the other folds is
    predicted by the rows of all models. All predictions are NaN if no value was observed.
    """
    n = len(served)
    predicted = np.full((n, models), np.nan)
    known = ~np.isnan(value)
    table: Any = features.csr()
    if not known.any():
        return predicted
    for held_out, others in folds(n):
        rest = others[known[others]]
        rest = rest if len(rest) else np.flatnonzero(known)  # a log of a single row has no other fold
        for model in range(models):
            own = rest[served[rest] == model]
            predicted[held_out, model] = _predicted(table, own if len(own) else rest, value, held_out)
    return predicted


def _predicted(table: Any, rows: npt.NDArray[np.int64], value: Floats, wanted: npt.NDArray[np.int64]) -> Floats:
    """Return the values that are expected on the rows `wanted`, given those observed on `rows`."""
    from sklearn.linear_model import Ridge  # noqa: PLC0415  # a second to import, for this alone

    seen = value[rows]
    if len(rows) < FEWEST or seen.min() == seen.max():
        return np.full(len(wanted), seen.mean())
    scale = seen.std()  # so that the solver's tolerance means the same in joules and in dollars
    fitted = Ridge(alpha=PENALTY, tol=1e-6, solver="sparse_cg").fit(table[rows], (seen - seen.mean()) / scale)
    expected: Floats = seen.mean() + scale * fitted.predict(table[wanted])
    return expected.clip(seen.min(), seen.max())
