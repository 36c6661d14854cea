"""Cross-fitting: what a model would have brought on a request, predicted by a regression that has not seen the request.

A value that is known of one model per request only, as feedback or cost in a live log, is predicted for all of them:
a ridge regression per model on the prompt's features, fitted on the other folds. The predictions are what the doubly
robust estimator corrects; that no row is predicted by what was fitted on it keeps the estimator free of the fit's
optimism (Chernozhukov et al., *Double/debiased machine learning*, 2018).
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
FEWEST = 20
"""A model seen on fewer rows of the other folds is expected to bring its mean, whatever the prompt."""


def folds(n: int) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Yield the rows of each fold and all the others: five folds by chance, always the same, or n where n is less."""
    count = min(FOLDS, n)
    fold_of = np.random.Generator(np.random.PCG64(0)).permutation(n) % max(1, count)
    for fold in range(count):
        yield np.flatnonzero(fold_of == fold), np.flatnonzero(fold_of != fold)


def cross_fitted(features: Features, served: npt.NDArray[np.int64], value: Floats, models: int) -> Floats:
    """Return what each model is expected to bring on each row, (n, models), in the unit of `value`.

    `served` (n,) holds the model whose `value` (n,) was observed, NaN where it was not. Predictions lie within the
    range of the values that they were fitted on. A model that the other folds do not hold is expected to bring what
    all models together do, and NaN where there is no value at all.
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
    """Return the values expected on the rows `wanted`, by what was observed on `rows`."""
    from sklearn.linear_model import Ridge  # noqa: PLC0415  # a second to import, for this alone

    seen = value[rows]
    if len(rows) < FEWEST or seen.min() == seen.max():
        return np.full(len(wanted), seen.mean())
    scale = seen.std()  # so that the solver's tolerance means the same in joules and in dollars
    fitted = Ridge(alpha=PENALTY, tol=1e-6, solver="sparse_cg").fit(table[rows], (seen - seen.mean()) / scale)
    expected: Floats = seen.mean() + scale * fitted.predict(table[wanted])
    return expected.clip(seen.min(), seen.max())
