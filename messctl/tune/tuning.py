"""A tuning: a search, and all that follows from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from messctl.replay.result import Result
from messctl.tune.choice import Choice, Trial, choose, play_yardsticks
from messctl.tune.dominated import Dominated, never_worth_asking
from messctl.tune.search import Search
from messctl.tune.second_look import SecondLook, second_looks

Yardsticks = Sequence[Sequence[Result]]
"""The yardsticks' results, by trace."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """A search with what follows from it: the choices, and the zoo file given, if any.

    For each choice, by trace, there are the `yardsticks`, the models that are never worth asking, `dominated`, and what
    a second look would save, `looks`.
    """

    found: Search
    choices: tuple[Choice, ...]
    yardsticks: tuple[Yardsticks, ...]
    zoo: Path | None = None
    dominated: tuple[tuple[Dominated | None, ...], ...] = ()
    looks: tuple[tuple[SecondLook | None, ...], ...] = ()

    def dominated_of(self, choice: Choice) -> Sequence[Dominated | None]:
        """Return, by trace, the models that the choice's router need never ask; None if there are none."""
        return self.dominated[self.choices.index(choice)] if self.dominated else [None] * len(self.found.traces)

    def looks_of(self, choice: Choice) -> Sequence[SecondLook | None]:
        """Return, by trace, what a second look would save the choice's router; None if nothing."""
        return self.looks[self.choices.index(choice)] if self.looks else [None] * len(self.found.traces)

    @property
    def chosen(self) -> Trial | None:
        """The chosen trial of the first α; None if there is none, or the search was interrupted."""
        return self.choices[0].chosen if self.choices and not self.found.interrupted else None


def concluded(found: Search, slack: float, zoo: Path | None, status: Callable[[str], None]) -> Tuning:
    """Choose a setting for every α of a search, and compare it with what else could be done.

    A setting may keep up to `slack` (0..1) less than α. `zoo` is the zoo file given; `status` gets what is being done.
    """
    choices = choose(found, slack)
    status("yardsticks")
    marks = tuple(play_yardsticks(found, choice.alpha) for choice in choices)
    dominated = tuple(never_worth_asking(found, choice) for choice in choices)
    status("a second look")
    return Tuning(found, choices, marks, zoo, dominated, tuple(second_looks(found, choice) for choice in choices))
