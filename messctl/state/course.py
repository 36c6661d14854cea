"""The course of a state: how the promise stood over time, who served, and what was spent, from the log.

The database adds up the requests of each window, so that a log of a million requests needs no memory here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from messctl.state.curve import Curve, Point
from messctl.state.database import Database, Row
from messctl.state.sums import ANSWERS, COST_OF_OUTCOME

WINDOWS = 60
"""The most windows into which the requests are divided."""
RANGE = "SELECT coalesce(min(id), 1), coalesce(max(id), 0) FROM requests"
_WINDOW = "((requests.id - ?) * ? / ?)"
SERVED = (
    f"SELECT {_WINDOW} AS part, served AS name, count(*) AS amount FROM requests "
    "WHERE EXISTS (SELECT 1 FROM answers WHERE answers.request = requests.id) GROUP BY part, served"
)
COSTS = (
    f"SELECT {_WINDOW} AS part, cost_unit AS name, coalesce(sum(cost), 0.0) AS amount FROM answers "
    "JOIN requests ON requests.id = request GROUP BY part, cost_unit"
)
EMPTY = (
    f"SELECT {_WINDOW} AS part, cost_unit AS name, coalesce(sum({COST_OF_OUTCOME}), 0.0) AS amount FROM attempts "
    "JOIN requests ON requests.id = request WHERE outcome IS NOT NULL GROUP BY part, cost_unit"
)

Amounts = Mapping[str, tuple[float, ...]]
"""An amount per window, by name."""


@dataclass(frozen=True, slots=True)
class Course:
    """How a state came to be what it is. `points` is how the promise stood after feedback, thinned out.

    By window, from the oldest requests to the newest, there are `served`, the number of answered requests by model, and
    `spent`, the cost of all answers by unit. Windows have equally many requests, but for the unanswered ones.
    What was pruned is in no window. `mean_cost` is what an answer of each model cost on average.
    """

    points: tuple[Point, ...]
    served: Amounts
    spent: Amounts
    mean_cost: Mapping[str, float]

    @classmethod
    def of(cls, database: Database) -> Course:
        """Read it within a transaction. Raises StoreError."""
        first, last = next(database.read(_range, RANGE))
        windows = min(WINDOWS, last - first + 1)
        values = (first, windows, last - first + 1)

        def amounts(*statements: str) -> Amounts:
            found: defaultdict[str, list[float]] = defaultdict(lambda: [0.0] * windows)
            for statement in statements:
                for part, name, amount in database.read(_amount, statement, values):
                    found[name][part] += amount
            return {name: tuple(each) for name, each in found.items()}

        if windows < 1:
            return cls((), {}, {}, {})
        totals: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for row in database.table(ANSWERS):
            totals[row["model"]][0] += row["cost"]
            totals[row["model"]][1] += row["answers"]
        means = {name: cost / answers for name, (cost, answers) in totals.items() if answers}
        return cls(tuple(Curve().follow(database)), amounts(SERVED), amounts(COSTS, EMPTY), means)


def _range(row: Row) -> tuple[int, int]:
    first, last = row
    return int(first), int(last)


def _amount(row: Row) -> tuple[int, str, float]:
    part, name, amount = row
    if not (0 <= part < WINDOWS and isinstance(name, str) and 0.0 <= amount < float("inf")):
        raise ValueError(f"{name!r} has {amount!r} in window {part!r}")
    return int(part), name, float(amount)
