"""What a cascade could do if it knew how good every answer of other requests is: for the yardstick.

`fit` learns from all answers of some rows, each with its own satisfaction. `first_asks` and `walk` then serve other
rows, at fixed prices, by the same plans as the cascade.
"""

from __future__ import annotations

import numpy as np

from messctl.learning.compiled import compiled, compiled_loop
from messctl.learning.features import SparseRows
from messctl.policies.bandit.prompt import fold
from messctl.policies.bandit.state import WIDTH, Counts
from messctl.policies.base import Answers, Floats
from messctl.policies.cascade.agreement import count_pairs, learn_agreement
from messctl.policies.cascade.beliefs import WIDE, Beliefs
from messctl.policies.cascade.choice import odds_of, prospects_of
from messctl.policies.cascade.confidence import observe
from messctl.policies.cascade.difficulty import MOST, STEPS, joint, most_believed, nothing_asked
from messctl.policies.cascade.learning import learn_answer
from messctl.policies.cascade.look import asked_of, nothing_seen
from messctl.policies.cascade.plan import first_ask, next_ask, unknown_worth
from messctl.policies.cascade.rounds import see
from messctl.policies.cascade.tuning import Tuning


@compiled
def read(rows: SparseRows, row: int, wide: Floats) -> None:
    """Write what is seen of a row's prompt into `wide` (WIDE,)."""
    part = slice(rows.starts[row], rows.starts[row + 1])
    fold(rows.indices[part], rows.values[part], wide[:WIDTH])


@compiled_loop
def fit(
    beliefs: Beliefs, tuning: Tuning, chosen: Counts, rows: SparseRows, answers: Answers, satisfied: Floats
) -> None:
    """Learn from every answer to the `chosen` rows, by `satisfied` (n, M)."""
    models = satisfied.shape[1]
    wide, seen, predicted = np.ones(WIDE), nothing_seen(), np.empty(models)
    cases = np.zeros((1 << MOST, STEPS))
    for row in chosen:
        read(rows, row, wide)
        for model in range(models):
            see(seen, 0, model, answers, row)
            asked = asked_of(beliefs, tuning, seen, 1, wide)
            odds = odds_of(beliefs, tuning, wide, predicted)
            joint(asked, 1, odds, asked.group[0], satisfied[row, model], cases)
            learn_answer(beliefs, asked, 0, 1, cases, odds, wide, seen.logprob[0])
            if not np.isnan(seen.logprob[0]):
                observe(beliefs, model, wide, seen.logprob[0])
        for model in range(models - 1):
            # Pairs of neighbours are enough to learn how often answers are equal.
            see(seen, 0, model, answers, row)
            see(seen, 1, model + 1, answers, row)
            asked = asked_of(beliefs, tuning, seen, 2, wide)
            cases[:] = 0.0
            for right in range(4):
                chance = 1.0
                for at in range(2):
                    s = satisfied[row, model + at]
                    chance *= s if (right >> at) & 1 else 1.0 - s
                cases[right, 0] = chance
            count_pairs(beliefs, seen.group, 2)
            learn_agreement(beliefs, asked, 2, cases, wide)


@compiled_loop
def first_asks(
    beliefs: Beliefs,
    tuning: Tuning,
    asks: int,
    chosen: Counts,
    rows: SparseRows,
    cost: Floats,
    prices: Floats,
    first: Counts,
) -> None:
    """Write the model to ask first, for the `chosen` rows and each price, into `first` (n, prices)."""
    models = len(cost)
    wide, predicted, room, worth = np.ones(WIDE), np.empty(models), nothing_asked(), unknown_worth(prices)
    for row in chosen:
        read(rows, row, wide)
        prospects = prospects_of(beliefs, tuning, odds_of(beliefs, tuning, wide, predicted), cost)
        most = np.full(len(prices), -np.inf)
        for model in range(models):
            first_ask(room, asks, model, prospects, prices, worth)
            for at in range(len(prices)):
                if worth.value[at] > most[at]:
                    most[at] = worth.value[at]
                    first[row, at] = model


@compiled_loop
def walk(
    beliefs: Beliefs,
    tuning: Tuning,
    asks: int,
    chosen: Counts,
    rows: SparseRows,
    cost: Floats,
    price: float,
    first: Counts,
    answers: Answers,
    asked_models: Counts,
    shown: Counts,
) -> None:
    """Serve the `chosen` rows at one price, from their `first` (n,) model on.

    Writes the models asked, −1 for none, into `asked_models` (n, MOST), and the model shown into `shown` (n,).
    """
    wide, seen, predicted = np.ones(WIDE), nothing_seen(), np.empty(len(cost))
    cases = np.empty((1 << MOST, STEPS))
    for row in chosen:
        read(rows, row, wide)
        odds = odds_of(beliefs, tuning, wide, predicted)
        prospects = prospects_of(beliefs, tuning, odds, cost)
        following, count = first[row], 0
        while following >= 0:
            see(seen, count, following, answers, row)
            asked_models[row, count] = following
            count += 1
            asked = asked_of(beliefs, tuning, seen, count, wide)
            following = next_ask(asked, count, asks, prospects, price)
        joint(asked, count, odds, -1, 0.0, cases)
        place, _ = most_believed(count, cases)
        shown[row] = seen.model[place]
