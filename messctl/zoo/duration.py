"""A length of time as people write it: 90d, 12h, 30m."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from messctl.zoo.schema import Place, quoted

UNITS = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
"""The seconds of a minute, an hour, a day and a week."""
LONGEST_S = 36_500 * UNITS["d"]
WANTED = "a number and a unit, m, h, d or w, as in 90d, and at most 36500d"


def seconds_of(text: str) -> float | None:
    """Return the seconds, ≥ 0, that a text such as `90d` says; None if it says none."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([mhdw])", text)
    seconds = float(match[1]) * UNITS[match[2]] if match else None
    return None if seconds is None or seconds > LONGEST_S else seconds


@dataclass(frozen=True, slots=True)
class Duration:
    """The rule for a length of time in seconds, at least `low`; `absent` is the word for None."""

    absent: str
    low: float = 0.0

    def read(self, place: Place) -> float | None:
        """See `Rule`."""
        text = place.value()
        if text == self.absent:
            return None
        seconds = seconds_of(text) if isinstance(text, str) else None
        if seconds is None or self.problem(seconds):
            raise place.error(f"{place.name} is {quoted(text)}; it must be {self.wanted}")
        return seconds

    def problem(self, value: Any) -> str | None:
        """See `Rule`."""
        return None if value is None or (isinstance(value, float) and self.low <= value <= LONGEST_S) else self.wanted

    @property
    def wanted(self) -> str:
        """What the value must be."""
        least = f"; at least {self.low / UNITS['h']:g}h" if self.low else ""
        return f"{self.absent!r} or {WANTED}{least}"
