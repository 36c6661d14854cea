"""The rules of the cascade: the promise, all constants, and how many models may be asked."""

from __future__ import annotations

from typing import NamedTuple

from messctl.policies.bandit.state import Promise
from messctl.policies.bandit.tuning import Tuning as BanditTuning
from messctl.policies.cascade.tuning import Tuning


class Rules(NamedTuple):
    """What does not change while requests are served; `asks` models ≥ 1 may be asked for one request."""

    promise: Promise
    bandit: BanditTuning
    looks: Tuning
    asks: int
