"""Tuning: a search over settings by replay, for the cheapest one that keeps the promise."""

from messctl.tune.choice import Choice, Figures, Trial, check_slack, choose, play_yardsticks
from messctl.tune.engine import ENGINES, check_engine
from messctl.tune.search import Search, search
from messctl.tune.space import (
    DEFAULT_BANDIT_V,
    DEFAULT_C,
    DEFAULT_MARGIN,
    DEFAULT_V,
    SEARCHED,
    TUNABLE,
    Space,
    parse_space,
    parse_values,
    zoo_values,
)
from messctl.tune.zoo_change import zoo_change

__all__ = [
    "DEFAULT_BANDIT_V",
    "DEFAULT_C",
    "DEFAULT_MARGIN",
    "DEFAULT_V",
    "ENGINES",
    "SEARCHED",
    "TUNABLE",
    "Choice",
    "Figures",
    "Search",
    "Space",
    "Trial",
    "check_engine",
    "check_slack",
    "choose",
    "parse_space",
    "parse_values",
    "play_yardsticks",
    "search",
    "zoo_change",
    "zoo_values",
]
