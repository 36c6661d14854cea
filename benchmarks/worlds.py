"""Made-up worlds: situations that no recorded trace contains, adversarial ones among them, and worlds by chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from messctl.learning.features import encode
from messctl.policies import Rounds
from messctl.policies.base import Floats
from messctl.zoo import Zoo

N = 2000
EASY = ("name", "river", "france", "list", "capital")
HARD = ("prove", "integral", "theorem", "derive", "lemma")
Topics = npt.NDArray[np.int64]


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


class Drawn(NamedTuple):
    """A world drawn at random; one that drifts is to be played in its own order."""

    rounds: Rounds
    drifts: bool


def drawn(seed: int, least: int = 2000, most: int = 8000) -> Drawn:
    """Draw a world of `least` to `most` requests: 2 to 12 models, whose costs lie up to a factor of 1,000 apart.

    Their levels are close or far apart, and dearer models tend to be better in seven worlds of ten. Prompts have three
    to eight topics, which tell nothing to much. In 15 % of the worlds one model changes on the way.
    """
    rng = np.random.default_rng(seed)
    models, n = int(rng.integers(2, 13)), int(np.exp(rng.uniform(np.log(least), np.log(most))))
    price, level = _models_drawn(rng, models)
    chance, topic = _topics_drawn(rng, level, n)
    drifts = bool(rng.random() < 0.15)
    if drifts:
        model, turn = int(rng.integers(models)), int(n * rng.uniform(0.3, 0.7))
        moved = chance[turn:, model] + rng.choice([-1, 1]) * rng.uniform(0.1, 0.3)
        chance[turn:, model] = np.clip(moved, 0.01, 0.995)
    common, own, alike = rng.random((n, 1)), rng.random((n, models)), rng.choice([0.2, 0.5, 0.8])
    luck = np.where(rng.random((n, 1)) < alike, common, own)
    length = rng.normal(0.0, 1.0, n)
    cost = price * np.exp(0.4 * length[:, None] + rng.normal(0.0, 0.3, (n, models)))
    prompts = [_prompt_drawn(rng, at, more) for at, more in zip(topic.tolist(), length.tolist(), strict=True)]
    names = [f"m{index:02d}" for index in range(models)]
    rounds = Rounds(
        zoo=Zoo.of(names, names[int(cost.mean(axis=0).argmax())]),
        request_ids=[f"r{row}" for row in range(n)],
        features=encode(pa.array(prompts, pa.large_string())),
        satisfied=(luck < chance).astype(float),
        cost=np.ascontiguousarray(cost),
        order=np.arange(n),
        has_feedback=np.ones(n, dtype=bool),
    )
    return Drawn(rounds, drifts)


def _models_drawn(rng: np.random.Generator, models: int) -> tuple[Floats, Floats]:
    """Return each model's price and level, (M,), the dearest one last."""
    price = 10.0 ** np.sort(rng.uniform(-3.0, 0.0, models))
    price[-1] = 1.0
    top, spread = rng.uniform(0.6, 0.97), rng.choice([0.05, 0.15, 0.45])
    level = top - rng.uniform(0.0, spread, models)
    level[int(rng.integers(models))] = top
    if rng.random() < 0.7:
        rank = np.log(price) + rng.normal(0.0, rng.choice([0.5, 2.0]), models)
        level = np.sort(level)[np.argsort(np.argsort(rank))]
    return price, level


def _topics_drawn(rng: np.random.Generator, level: Floats, n: int) -> tuple[Floats, Topics]:
    """Return each model's chance of satisfying each request, (n, M), and each request's topic, (n,)."""
    topics, tell = int(rng.integers(3, 9)), rng.choice([0.0, 0.05, 0.15, 0.3])
    for_all = rng.normal(0.0, tell, topics)
    for_one = rng.normal(0.0, 0.5 * tell, (len(level), topics)) * rng.choice([0, 1])
    share = rng.dirichlet(np.full(topics, 3.0))
    topic = rng.choice(topics, n, p=share)
    for_all -= share @ for_all
    for_one -= (for_one @ share)[:, None]
    return np.clip(level + for_all[topic][:, None] + for_one.T[topic], 0.01, 0.995), topic


def _prompt_drawn(rng: np.random.Generator, topic: int, length: float) -> str:
    """Return a prompt with two words of its topic; a positive `length` makes it longer than most."""
    own, filler = rng.integers(12, size=2), rng.integers(200, size=max(1, int(6 + 3 * length)))
    return " ".join([*(f"t{topic}w{word}" for word in own), *(f"f{word}" for word in filler)])


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
