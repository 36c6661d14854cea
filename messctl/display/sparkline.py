"""Sparklines: a course of numbers as a line of small bars, for a terminal that is wide enough and can show them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

BARS = "▁▂▃▄▅▆▇█"
UNKNOWN = " "
"""What is shown if there is no number."""


def sparkline(values: Sequence[float], low: float, high: float) -> str:
    """Return a bar for each value; `low` and less is the lowest, `high` and more the highest, NaN a space."""
    return "".join(UNKNOWN if math.isnan(value) else BARS[_step(value, low, high)] for value in values)


def windowed(values: Sequence[float], windows: int) -> list[float]:
    """Return the means of at most `windows` equal parts of the values, without NaN; NaN for a part of nothing else."""
    parts = min(windows, len(values))
    edges = [len(values) * part // max(1, parts) for part in range(parts + 1)]
    return [_mean(values[start:end]) for start, end in pairwise(edges)]


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _step(value: float, low: float, high: float) -> int:
    share = (value - low) / (high - low) if high > low else 0.0
    return min(len(BARS) - 1, max(0, int(share * len(BARS))))
