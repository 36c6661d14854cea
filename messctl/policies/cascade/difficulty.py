"""The difficulty: one hidden number per request that makes it hard for all models, or easy.

Given the difficulty θ, each model is right with probability σ(a_m − θ), independently of the others. So two models that
are both often right are right together more often than by chance. θ is normally distributed, here on a grid.

Answers are sorted into groups of equal ones. A group is right or wrong as a whole. A right answer is equal to an
earlier right one with probability ρ, and a wrong one to an earlier wrong one with probability κ; see `agreement`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from messctl.learning.compiled import compiled
from messctl.policies.base import Floats
from messctl.policies.cascade.beliefs import sigmoid

MOST = 4
"""[answers] to one request at most."""
STEPS = 7
"""[steps] of the difficulty's grid."""
GRID = np.array([-2.0, -4.0 / 3.0, -2.0 / 3.0, 0.0, 2.0 / 3.0, 4.0 / 3.0, 2.0])
"""[deviations] The grid, of how easy a request is."""
_DENSITY = np.exp(-0.5 * GRID * GRID)
WEIGHT = _DENSITY / _DENSITY.sum()
"""The probability of each step."""

Places = npt.NDArray[np.int64]


class Asked(NamedTuple):
    """The answers to one request so far, in order; room for MOST of them.

    `model` (MOST,) gave the answer, `group` (MOST,) are numbers that equal answers share, and `tells` (MOST, 2) is how
    many times likelier the answer's confidence is for a wrong and for a right answer than for any.
    """

    model: Places
    group: Places
    tells: Floats


class Odds(NamedTuple):
    """The probability that models are right, (M, STEPS), by the difficulty; and that two answers are equal."""

    right: Floats
    wrong_agree: float
    right_agree: float


@compiled
def nothing_asked() -> Asked:
    """Return room for answers."""
    return Asked(np.zeros(MOST, dtype=np.int64), np.zeros(MOST, dtype=np.int64), np.ones((MOST, 2)))


@compiled
def by_difficulty(ability: float, spread: float, out: Floats) -> float:
    """Write the probability of being right at each step into `out` (STEPS,), and return its mean."""
    mean = 0.0
    for step in range(len(out)):
        out[step] = sigmoid(ability + spread * GRID[step])
        mean += WEIGHT[step] * out[step]
    return mean


@compiled
def pattern(asked: Asked, count: int, odds: Odds, right: int) -> float:
    """Return the probability of the groups of `count` answers, if those in the bits of `right` are right; 0 if not."""
    chance, rights, wrongs = 1.0, 0, 0
    for at in range(count):
        is_right, same = (right >> at) & 1, 0
        for earlier in range(at):
            if asked.group[earlier] == asked.group[at]:
                same += 1
                if (right >> earlier) & 1 != is_right:
                    return 0.0
        before, agree = (rights, odds.right_agree) if is_right else (wrongs, odds.wrong_agree)
        if before > 0:
            chance *= agree * same / before if same > 0 else 1.0 - agree
        if is_right:
            rights += 1
        else:
            wrongs += 1
        chance *= asked.tells[at, is_right]
    return chance


@compiled
def joint(asked: Asked, count: int, odds: Odds, shown: int, satisfied: float, out: Floats) -> float:
    """Write the probability of each case into `out` (2^MOST, STEPS): which answers are right, and how hard it is.

    `shown` is the group with the feedback `satisfied`, −1 without any. Returns how likely the answers were to look like
    this, 0 if nothing explains them; then all cases are left alike.
    """
    total = 0.0
    for right in range(1 << count):
        chance = pattern(asked, count, odds, right)
        if shown >= 0:
            for at in range(count):
                if asked.group[at] == shown:
                    chance *= satisfied if (right >> at) & 1 else 1.0 - satisfied
                    break
        for step in range(STEPS):
            weight = 0.0
            if chance > 0.0:
                weight = chance * WEIGHT[step]
                for at in range(count):
                    p = odds.right[asked.model[at], step]
                    weight *= p if (right >> at) & 1 else 1.0 - p
            out[right, step] = weight
            total += weight
    for right in range(1 << count):
        for step in range(STEPS):
            out[right, step] = out[right, step] / total if total > 0.0 else 1.0 / ((1 << count) * STEPS)
    return total


@compiled
def most_believed(count: int, cases: Floats) -> tuple[int, float]:
    """Return the place of the answer that is likeliest to be right, and how likely that is; the first on a tie."""
    best, most = 0, -1.0
    for at in range(count):
        believed = 0.0
        for right in range(1 << count):
            if (right >> at) & 1:
                for step in range(STEPS):
                    believed += cases[right, step]
        if believed > most + 1e-12:
            best, most = at, believed
    return best, most


@compiled
def groups_of(asked: Asked, count: int) -> int:
    """Return the number of groups among `count` answers."""
    groups = 0
    for at in range(count):
        groups = max(groups, asked.group[at] + 1)
    return groups


@compiled
def joining(asked: Asked, count: int, right: int, group: int, kind: int, agree: float) -> float:
    """Return how likely one more answer of a `kind`, 0 wrong or 1 right, joins a `group`, if the case is `right`.

    A group that is not there yet stands for an answer that is equal to no other.
    """
    same, alike = 0, 0
    for at in range(count):
        if (right >> at) & 1 == kind:
            alike += 1
            if asked.group[at] == group:
                same += 1
    if group == groups_of(asked, count):
        return 1.0 - agree if alike > 0 else 1.0
    return agree * same / alike if same > 0 else 0.0


@compiled
def believed_after(asked: Asked, count: int, cases: Floats, odds: Odds, model: int) -> float:
    """Return how likely the shown answer will be right after one more, of `model`, whatever its confidence tells.

    It is the mean over the groups that the answer may join, each with the answer that is then believed most.
    """
    groups = groups_of(asked, count)
    believed = np.zeros((MOST + 1, MOST + 1))  # [joined group, shown group]: both happen, and the shown one is right
    for right in range(1 << count):
        chance, then_right = 0.0, 0.0
        for step in range(STEPS):
            chance += cases[right, step]
            then_right += cases[right, step] * odds.right[model, step]
        if chance <= 0.0:
            continue
        for joined in range(groups + 1):
            by_right = then_right * joining(asked, count, right, joined, 1, odds.right_agree)
            mass = by_right + (chance - then_right) * joining(asked, count, right, joined, 0, odds.wrong_agree)
            for at in range(count):
                if (right >> at) & 1 and not is_repeated(asked, at):
                    believed[joined, asked.group[at]] += mass
            if joined == groups:
                believed[joined, groups] += by_right
    total = 0.0
    for joined in range(groups + 1):
        most = 0.0
        for group in range(groups + 1):
            most = max(most, believed[joined, group])
        total += most
    return total


@compiled
def is_repeated(asked: Asked, at: int) -> bool:
    """Tell whether an earlier answer is equal to the one in place `at`."""
    repeated = False
    for earlier in range(at):
        repeated = repeated or asked.group[earlier] == asked.group[at]
    return repeated
