"""What it would have cost if one model had answered every request: the yardstick of what routing saves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from messctl.state.database import Row
from messctl.zoo import CostPerToken


@dataclass(slots=True)
class Bill:
    """What the answers of a log had to read and to write, and what they cost. Costs must be in one unit.

    requests, tokens_in, tokens_out: of the served answers. The others are per model, of all its answers.
    """

    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    read: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)
    measured: Counter[str] = field(default_factory=Counter)
    cost: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, served: Iterable[Row], answers: Iterable[Row]) -> Self:
        """Add up the rows of two tables: the sums of the served answers, and those of all answers."""
        bill = cls()
        for row in served:
            bill.requests += row["requests"]
            bill.tokens_in += row["tokens_in"]
            bill.tokens_out += row["tokens_out"]
        for row in answers:
            model = row["model"]
            bill.answers[model] += row["answers"]
            bill.read[model] += row["tokens_in"]
            bill.written[model] += row["tokens_out"]
            bill.measured[model] += row["measured"]
            bill.cost[model] = bill.cost.get(model, 0.0) + row["cost"]
        return bill

    def costliest(self, prices: Mapping[str, CostPerToken]) -> tuple[str, float] | None:
        """Return the model that would have cost the most for every request, and that cost; None without any.

        It is predicted from the model's price and the tokens of the served answers. If costs are measured, the price is
        corrected by what the model's own answers cost, or else by what all answers did. Without any prices, a model
        costs its mean so far.
        """
        alone = {model: self._predicted(model, prices) for model in prices or self.cost}
        if not self.requests or max(alone.values(), default=0.0) <= 0.0:
            return None
        return max(sorted(alone.items()), key=lambda pair: pair[1])

    def _predicted(self, model: str, prices: Mapping[str, CostPerToken]) -> float:
        if model not in prices:
            return self.cost[model] / max(1, self.answers[model]) * self.requests
        predicted = _priced(prices[model], self.requests, self.tokens_in, self.tokens_out)
        like = [model] if self.measured[model] else [other for other in self.cost if other in prices]
        expected = sum(
            _priced(prices[other], self.answers[other], self.read[other], self.written[other]) for other in like
        )
        if expected > 0.0 and any(self.measured[other] for other in like):
            predicted *= sum(self.cost[other] for other in like) / expected
        return predicted


def _priced(price: CostPerToken, requests: int, tokens_in: int, tokens_out: int) -> float:
    """Return what a number of requests with these tokens, all together, cost."""
    return price.of(tokens_in, tokens_out) + price.fixed * (requests - 1)
