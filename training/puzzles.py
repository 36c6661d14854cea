"""Draws puzzles: an endless training stream, and held-out puzzles with equal parts per family."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from random import Random

from training.families import FAMILIES, Family
from training.puzzle import Puzzle, Split, is_right, split_of

__all__ = ["FAMILIES", "Family", "Puzzle", "Split", "draw", "held_out", "is_right", "training_stream"]

_ROUGH_SHARE = 0.15
"""The share of training prompts with careless typing."""

_TRIES = 20
"""The number of attempts to replace a repeated puzzle, before it is repeated."""


def draw(rng: Random, family: Family, split: Split, hard: float = 1.0) -> Puzzle:
    """Return a puzzle of `family` and `split`, with a difficulty drawn by that split's weights.

    This holds for the share `hard` of the puzzles; the others have difficulty 1.
    """
    weights = family.train if split == "train" else family.measure
    (difficulty,) = rng.choices(range(1, len(weights) + 1), weights) if rng.random() < hard else (1,)
    return _of_split(rng, family, difficulty, split)


def _of_split(rng: Random, family: Family, difficulty: int, split: Split) -> Puzzle:
    """Return a puzzle of `family`, `difficulty` and `split`."""
    while split_of((puzzle := family.puzzle(rng, difficulty)).key) != split:
        pass
    return puzzle


def held_out(number: int, seed: int = 0) -> list[Puzzle]:
    """Return `number` held-out puzzles, one family after the other. They depend on `seed` alone.

    They differ if their family has enough puzzles; the calendar has only a few dozen.
    """
    rng = Random(f"held-out/{seed}")
    seen: set[str] = set()
    puzzles: list[Puzzle] = []
    for i in range(number):
        family = FAMILIES[i % len(FAMILIES)]
        puzzle = draw(rng, family, "held-out")
        for _ in range(_TRIES):
            if puzzle.prompt not in seen:
                break
            # Keep the difficulty; otherwise small tables would lead to more hard puzzles.
            puzzle = _of_split(rng, family, puzzle.difficulty, "held-out")
        seen.add(puzzle.prompt)
        puzzles.append(puzzle)
    return puzzles


def training_stream(seed: int, ramp: int = 0, first: int = 0) -> Iterator[tuple[str, str]]:
    """Yield endless (prompt, answer) pairs of the training split; some prompts have careless typing.

    The first puzzles are easy; the share of hard ones grows over the first `ramp` pairs. A
    training that resumes after `first` pairs passes another seed, and gets other pairs.
    """
    rng = Random(f"train/{seed}")
    weights = [family.share for family in FAMILIES]
    for number in count(first):
        (family,) = rng.choices(FAMILIES, weights)
        puzzle = draw(rng, family, "train", hard=number / ramp if number < ramp else 1.0)
        prompt = puzzle.prompt
        if rng.random() < _ROUGH_SHARE:
            rough = _typed_carelessly(rng, prompt)
            # The careless prompt of a fact could equal another phrasing, which may be held out.
            if split_of(f"{family.name}: {rough}") == "train":
                prompt = rough
        yield prompt, puzzle.answer


def _typed_carelessly(rng: Random, prompt: str) -> str:
    """Return `prompt` with a lower-case start, without its last mark, or without spaces in sums."""
    if rng.random() < 0.5:
        prompt = prompt[:1].lower() + prompt[1:]
    if rng.random() < 0.5:
        prompt = prompt.rstrip("?.")
    if rng.random() < 0.5:
        for sign in "+-*x":
            prompt = prompt.replace(f" {sign} ", sign)
    return prompt.strip()
