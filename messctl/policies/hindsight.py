"""`hindsight`: what a router with these features could have done with full information.

One logistic regression per model, on the router's own features, predicts satisfaction out of fold. Each request then
goes to argmin of Ē − λ·ŝ, at the λ that meets α at the least cost.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from messctl.learning.cross_fit import folds
from messctl.learning.frontier import chain
from messctl.policies.base import Floats, PolicyKind, Rounds
from messctl.policies.lottery import Lottery
from messctl.zoo import Settings


def build(_argument: str | None, rounds: Rounds, settings: Settings) -> Lottery:
    """Fit, sweep every λ at which some request changes its model, and use the cheapest one that meets α.

    If none meets α, use the one that comes closest.
    """
    n, models = rounds.cost.shape
    rows = np.arange(n)
    mean_cost = np.broadcast_to(rounds.cost.mean(axis=0), (n, models))
    links = chain(mean_cost, out_of_fold(rounds.features.csr(), rounds.satisfied))
    taken = (links.row, links.model), (links.row, links.before)
    reached, paid = (
        np.cumsum(np.append(table[rows, links.start].sum(), table[taken[0]] - table[taken[1]])) / n
        for table in (rounds.satisfied, rounds.cost)
    )
    meets = reached >= settings.alpha - 1e-9
    best = int(np.where(meets, paid, np.inf).argmin()) if meets.any() else int(reached.argmax())
    odds = np.zeros((n, models))
    odds[rows, links.after(best)] = 1.0
    return Lottery("hindsight", rounds, settings, odds)


def out_of_fold(features: Any, satisfied: Floats) -> Floats:
    """Return each model's predicted satisfaction, (n, models), each row by regressions fitted on other rows."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  # a second to import, for this alone

    n, models = satisfied.shape
    predicted = np.empty((n, models))
    for held_out, rest in folds(n):
        for model in range(models):
            labels = satisfied[rest, model]
            if not len(rest) or (labels.min() in (0.0, 1.0) and labels.min() == labels.max()):
                predicted[held_out, model] = labels.mean() if len(rest) else 0.5
                continue
            # A graded label s is a 1 with weight s and a 0 with weight 1 − s.
            twice = np.concatenate([rest, rest])
            classes = np.repeat([1, 0], len(rest))
            weight = np.concatenate([labels, 1.0 - labels])
            kept = weight > 0
            regression = LogisticRegression(max_iter=1000, tol=1e-3)
            regression.fit(features[twice[kept]], classes[kept], sample_weight=weight[kept])
            predicted[held_out, model] = regression.predict_proba(features[held_out])[:, 1]
    return predicted


POLICY = PolicyKind("hindsight", 50, "the best router in hindsight on the same features", build)
