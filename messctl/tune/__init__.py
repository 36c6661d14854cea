"""Tuning: the setting that keeps the promise for the least cost, found by replaying a grid of them."""

from messctl.tune.choice import Choice, Level, Trial, choose, yardsticks
from messctl.tune.engine import ENGINES
from messctl.tune.search import Search, search
from messctl.tune.space import DEFAULT_BANDIT_V, DEFAULT_C, DEFAULT_MARGIN, DEFAULT_V, TUNED, Space, space_of, values

__all__ = [
    "DEFAULT_BANDIT_V",
    "DEFAULT_C",
    "DEFAULT_MARGIN",
    "DEFAULT_V",
    "ENGINES",
    "TUNED",
    "Choice",
    "Level",
    "Search",
    "Space",
    "Trial",
    "choose",
    "search",
    "space_of",
    "values",
    "yardsticks",
]
