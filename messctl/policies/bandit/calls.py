"""The compiled functions that Python calls on every request: they take state and constants as plain arrays.

To look at the types of records and nested tuples takes numba longer than a decision does.
"""

from __future__ import annotations

from messctl.learning.compiled import compiled
from messctl.policies.bandit.balance import record_balance as _record_balance
from messctl.policies.bandit.choice import Choice, Prices
from messctl.policies.bandit.choice import choose as _choose
from messctl.policies.bandit.costs import learn_cost as _learn_cost
from messctl.policies.bandit.satisfaction import learn_satisfaction as _learn_satisfaction
from messctl.policies.bandit.state import Memory, Promise, state_of
from messctl.policies.bandit.tuning import tuning_of
from messctl.policies.base import Floats


@compiled
def choose(memory: Memory, promise: Promise, constants: Floats, z: Floats, prices: Prices, coin: float) -> Choice:
    """See `choice.choose`."""
    return _choose(state_of(memory), promise, tuning_of(constants), z, prices, coin)


@compiled
def learn_cost(memory: Memory, constants: Floats, model: int, z: Floats, reading: float, cost: float) -> None:
    """See `costs.learn_cost`."""
    _learn_cost(state_of(memory), tuning_of(constants), model, z, reading, cost)


@compiled
def record_balance(memory: Memory, constants: Floats, alpha: float, number: int, satisfied: float) -> None:
    """See `balance.record_balance`."""
    _record_balance(state_of(memory), tuning_of(constants), alpha, number, satisfied)


@compiled
def learn_satisfaction(
    memory: Memory, promise: Promise, constants: Floats, model: int, z: Floats, satisfied: float
) -> None:
    """See `satisfaction.learn_satisfaction`."""
    _learn_satisfaction(state_of(memory), promise, tuning_of(constants), model, z, satisfied)
