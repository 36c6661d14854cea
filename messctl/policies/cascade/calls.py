"""The compiled functions that Python calls on every request: they take state and constants as plain arrays.

They are compiled at the first call: in plain Python a plan takes too long.
"""

from __future__ import annotations

from messctl.learning.compiled import compiled_loop, inlined
from messctl.policies.bandit.choice import Prices
from messctl.policies.bandit.state import Memory, Promise, state_of
from messctl.policies.bandit.tuning import tuning_of as bandit_tuning_of
from messctl.policies.base import Floats
from messctl.policies.cascade.beliefs import Beliefs
from messctl.policies.cascade.choice import First, Way
from messctl.policies.cascade.choice import choose as _choose
from messctl.policies.cascade.learning import learn_shown as _learn_shown
from messctl.policies.cascade.look import Look, Seen
from messctl.policies.cascade.look import look as _look
from messctl.policies.cascade.look import record_shown as _record_shown
from messctl.policies.cascade.rounds import settle as _settle
from messctl.policies.cascade.rules import Rules
from messctl.policies.cascade.tuning import tuning_of


@inlined
def rules_of(promise: Promise, constants: tuple[Floats, Floats], asks: int) -> Rules:
    """Return the rules; `constants` are the bandit's and the cascade's."""
    return Rules(promise, bandit_tuning_of(constants[0]), tuning_of(constants[1]), asks)


@compiled_loop
def choose(
    memory: Memory,
    beliefs: Beliefs,
    promise: Promise,
    constants: tuple[Floats, Floats],
    asks: int,
    wide: Floats,
    prices: Prices,
    coin: float,
) -> First:
    """See `choice.choose`."""
    return _choose(state_of(memory), beliefs, rules_of(promise, constants, asks), wide, prices, coin)


@compiled_loop
def look(
    memory: Memory,
    beliefs: Beliefs,
    promise: Promise,
    constants: tuple[Floats, Floats],
    asks: int,
    wide: Floats,
    prices: Prices,
    way: Way,
    seen: Seen,
    count: int,
) -> Look:
    """See `look.look`."""
    return _look(state_of(memory), beliefs, rules_of(promise, constants, asks), wide, prices, way, seen, count)


@compiled_loop
def record_shown(memory: Memory, first: int, shown: int) -> None:
    """See `look.record_shown`."""
    _record_shown(state_of(memory), first, shown)


@compiled_loop
def settle(
    memory: Memory,
    beliefs: Beliefs,
    bandit: Floats,
    seen: Seen,
    count: int,
    wide: Floats,
    reading: Floats,
    cost: Floats,
) -> None:
    """See `rounds.settle`."""
    _settle(state_of(memory), beliefs, bandit_tuning_of(bandit), seen, count, wide, reading, cost)


@compiled_loop
def learn_shown(
    memory: Memory,
    beliefs: Beliefs,
    promise: Promise,
    constants: tuple[Floats, Floats],
    seen: Seen,
    size: int,
    shown: int,
    alone: bool,
    satisfied: float,
    wide: Floats,
) -> None:
    """See `learning.learn_shown`."""
    rules = rules_of(promise, constants, 1)
    _learn_shown(state_of(memory), beliefs, rules, seen, size, shown, alone, satisfied, wide)
