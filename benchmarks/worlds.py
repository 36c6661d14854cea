"""Made-up worlds: situations that no recorded trace contains, adversarial ones among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from messctl.learning.features import encode
from messctl.policies import Rounds
from messctl.policies.base import Floats
from messctl.zoo import Zoo

N = 2000
EASY = ("name", "river", "france", "list", "capital")
HARD = ("prove", "integral", "theorem", "derive", "lemma")


@dataclass(frozen=True)
class Shuffled:
    """Rounds in their order of arrival, and their prompts."""

    rounds: Rounds
    prompts: list[str]


def made(chance: Floats, cost: Floats, prompts: list[str], seed: int) -> Shuffled:
    """Draw the outcomes: one uniform number per request decides for all models, half the time."""
    rng = np.random.default_rng(seed + 1000)
    n, models = chance.shape
    common, own = rng.random((n, 1)), rng.random((n, models))
    luck = np.where(rng.random((n, 1)) < 0.5, common, own)
    names = [f"m{index:02d}" for index in range(models)]
    rounds = Rounds(
        zoo=Zoo.of(names, names[int(cost.argmax())]),
        request_ids=[f"r{row}" for row in range(n)],
        features=encode(pa.array(prompts, pa.large_string())),
        satisfied=(luck < chance).astype(float),
        cost=np.ascontiguousarray(np.broadcast_to(cost, (n, models))),
        order=np.arange(n),
        has_feedback=np.ones(n, dtype=bool),
    )
    return Shuffled(rounds, prompts)


def prompts_for(hard: np.ndarray, rng: np.random.Generator) -> list[str]:
    filler = ("the", "of", "a", "in", "that", "what", "is", "two")
    return [" ".join([*rng.choice(HARD if one else EASY, 2), *rng.choice(filler, rng.integers(2, 9))]) for one in hard]


def flat(means: list[float], cost: list[float], n: int = N) -> Callable[[int], Shuffled]:
    """No signal in the prompt."""

    def build(seed: int) -> Shuffled:
        rng = np.random.default_rng(seed)
        return made(np.tile(means, (n, 1)), np.array(cost), prompts_for(rng.random(n) < 0.5, rng), seed)

    return build


def signal(seed: int) -> Shuffled:
    """The prompt's words tell which models satisfy."""
    rng = np.random.default_rng(seed)
    hard = rng.random(N) < 0.4
    chance = np.where(hard[:, None], [0.15, 0.4, 0.92], [0.95, 0.95, 0.96])
    return made(chance, np.array([1.0, 5.0, 30.0]), prompts_for(hard, rng), seed)


def by_time(early: list[float], late: list[float], cost: list[float], turn: int) -> Callable[[int], Shuffled]:
    """Qualities change once, at request `turn`."""

    def build(seed: int) -> Shuffled:
        rng = np.random.default_rng(seed)
        chance = np.where(np.arange(N)[:, None] < turn, early, late)
        return made(chance, np.array(cost), prompts_for(rng.random(N) < 0.5, rng), seed)

    return build


def blocks(seed: int) -> Shuffled:
    """Requests come in blocks of a hundred, all hard or all easy."""
    rng = np.random.default_rng(seed)
    hard = np.repeat(rng.random(N // 100) < 0.4, 100)
    chance = np.where(hard[:, None], [0.3, 0.6, 0.9], [0.9, 0.93, 0.96])
    return made(chance, np.array([1.0, 4.0, 20.0]), prompts_for(hard, rng), seed)


def drawn(seed: int) -> Shuffled:
    """A random zoo: three to six models, none better than a costlier one, and prompts that tell a little."""
    rng = np.random.default_rng(seed)
    models = int(rng.integers(3, 7))
    means = np.sort(rng.beta(6.0, 1.2, models))
    cost = np.sort(10.0 ** rng.uniform(-2.5, 0.0, models))
    cost[-1] = 1.0
    hard, tilt = rng.random(N) < 0.5, rng.uniform(0.0, 0.15, models)
    chance = np.clip(means + np.where(hard[:, None], -tilt, tilt), 0.0, 1.0)
    return made(chance, cost, prompts_for(hard, rng), seed)


WORLDS: Mapping[str, Callable[[int], Shuffled]] = {
    "no signal": flat([0.6, 0.8, 0.9], [1, 5, 30]),
    "strong signal": signal,
    "20 models": flat([0.5 + 0.02 * k for k in range(20)], [1.3**k for k in range(20)]),
    "equal models": flat([0.8] * 5, [1, 2, 4, 8, 16]),
    "one 1000 times as dear": flat([0.7, 0.85, 0.9], [1, 2, 1000]),
    "the dearest is the worst": flat([0.8, 0.9, 0.5], [1, 5, 30]),
    "bad early luck": by_time([0.5, 0.7, 0.0], [0.5, 0.7, 0.95], [1, 5, 30], 30),
    "best wrong at first": by_time([0.8, 0.8, 0.1], [0.5, 0.7, 0.95], [1, 5, 30], 100),
    "swapped halfway": by_time([0.5, 0.7, 0.95], [0.95, 0.7, 0.5], [1, 5, 30], N // 2),
    "degrades halfway": by_time([0.9, 0.9, 0.95], [0.4, 0.9, 0.95], [1, 5, 30], N // 2),
    "correlated blocks": blocks,
    "cheap right on the first hundred": by_time([1.0, 0.7, 0.9], [0.1, 0.7, 0.9], [1, 5, 30], 100),
}
