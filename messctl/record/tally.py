"""What a recording came to: the results of each model."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from messctl.records import cut_by, is_blank
from messctl.trace import Outcome


@dataclass(frozen=True, slots=True)
class Tally:
    """One model's results: the number of answers, failures and empty answers, and means per answer.

    answered: empty answers count only if they are graded. failed: prompts without any answer.
    failure: the most frequent error message, also about empty answers.
    empty: the empty answers, graded or not. cut: of those answered, the ones that a limit or a filter cut.
    `satisfied` is the mean over graded answers. A mean over nothing is None.
    """

    answered: int
    failed: int
    failure: str | None
    satisfied: float | None
    cost: float | None
    latency_s: float | None
    tokens_out: float | None
    empty: int = 0
    cut: int = 0


@dataclass(slots=True)
class Sums:
    """The sums of one model's outcomes and failures."""

    answered: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    empty: int = 0
    cut: int = 0
    graded: int = 0
    totals: dict[str, float] = field(default_factory=dict)

    def add(self, outcome: Outcome | None, failure: str | None) -> None:
        """Add an outcome, or the reason of a failure, None if it is unknown; an empty answer may have both."""
        if failure is not None:
            self.failures[failure] += 1
        if outcome is None:
            self.failed += 1
            return
        if outcome.answer is None:
            self.empty += 1
            return
        self.empty += is_blank(outcome.answer)
        self.answered += 1
        self.cut += cut_by(outcome.finish) is not None
        self.graded += outcome.satisfied is not None
        for name in ("satisfied", "cost", "latency_s", "tokens_out"):
            self.totals[name] = self.totals.get(name, 0.0) + float(getattr(outcome, name) or 0.0)

    def tally(self) -> Tally:
        """Return the number of answers and failures, and the means."""
        means = {name: self.totals[name] / self.answered if self.answered else None for name in self.totals}
        satisfied = self.totals["satisfied"] / self.graded if self.graded else None
        often = self.failures.most_common(1)
        return Tally(
            answered=self.answered,
            failed=self.failed,
            failure=often[0][0] if often else None,
            satisfied=satisfied,
            cost=means.get("cost"),
            latency_s=means.get("latency_s"),
            tokens_out=means.get("tokens_out"),
            empty=self.empty,
            cut=self.cut,
        )
