"""Tuning: the setting that keeps the promise for the least cost, found by replaying a grid of them."""

from messctl.tune.choice import Choice, Level, Trial, check, choose, yardsticks
from messctl.tune.engine import ENGINES, check_engine
from messctl.tune.search import Search, search
from messctl.tune.space import (
    DEFAULT_BANDIT_V,
    DEFAULT_C,
    DEFAULT_MARGIN,
    DEFAULT_V,
    SEARCHED,
    TUNED,
    Space,
    played,
    space_of,
    values,
)

__all__ = [
    "DEFAULT_BANDIT_V",
    "DEFAULT_C",
    "DEFAULT_MARGIN",
    "DEFAULT_V",
    "ENGINES",
    "SEARCHED",
    "TUNED",
    "Choice",
    "Level",
    "Search",
    "Space",
    "Trial",
    "check",
    "check_engine",
    "choose",
    "played",
    "search",
    "space_of",
    "values",
    "yardsticks",
]
