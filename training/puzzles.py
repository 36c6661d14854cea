"""Draws puzzles: an endless training stream, and held-out puzzles in equal parts per family."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from random import Random

from training.families import FAMILIES, Family
from training.puzzle import Puzzle, Split, is_right, split_of

__all__ = ["FAMILIES", "Family", "Puzzle", "Split", "draw", "held_out", "is_right", "training_stream"]

_ROUGH_SHARE = 0.15
"""Share of the training prompts that are typed carelessly."""

_TRIES = 20
"""How often a puzzle that was asked already is drawn anew, before it is asked again."""


def draw(rng: Random, family: Family, split: Split, hard: float = 1.0) -> Puzzle:
    """A puzzle of `family` that belongs to `split`, at a difficulty weighed for that split.

    Only the share `hard` is so weighed; the rest are of difficulty 1.
    """
    weights = family.train if split == "train" else family.measure
    (difficulty,) = rng.choices(range(1, len(weights) + 1), weights) if rng.random() < hard else (1,)
    return _of_split(rng, family, difficulty, split)


def _of_split(rng: Random, family: Family, difficulty: int, split: Split) -> Puzzle:
    """A puzzle of `family` and `difficulty` that belongs to `split`."""
    while split_of((puzzle := family.puzzle(rng, difficulty)).key) != split:
        pass
    return puzzle


def held_out(number: int, seed: int = 0) -> list[Puzzle]:
    """`number` held-out puzzles, the families taking turns; the same for the same seed.

    They differ as far as their family has enough of them: the calendar has a few dozen only.
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
            # Of the same difficulty: else the small tables would make room for hard puzzles.
            puzzle = _of_split(rng, family, puzzle.difficulty, "held-out")
        seen.add(puzzle.prompt)
        puzzles.append(puzzle)
    return puzzles


def training_stream(seed: int, ramp: int = 0, first: int = 0) -> Iterator[tuple[str, str]]:
    """Endless (prompt, answer) pairs of the training split; some prompts are typed carelessly.

    It begins with easy puzzles, and the hard ones come in evenly over the first `ramp` pairs. A
    training that goes on after `first` pairs gives a seed of its own, and gets other ones.
    """
    rng = Random(f"train/{seed}")
    weights = [family.share for family in FAMILIES]
    for number in count(first):
        (family,) = rng.choices(FAMILIES, weights)
        puzzle = draw(rng, family, "train", hard=number / ramp if number < ramp else 1.0)
        prompt = puzzle.prompt
        if rng.random() < _ROUGH_SHARE:
            rough = _typed_carelessly(rng, prompt)
            # A fact's careless prompt could be another phrasing of it, and that one held out.
            if split_of(f"{family.name}: {rough}") == "train":
                prompt = rough
        yield prompt, puzzle.answer


def _typed_carelessly(rng: Random, prompt: str) -> str:
    """`prompt` with small first letter, without its last mark, or with its sums set close."""
    if rng.random() < 0.5:
        prompt = prompt[:1].lower() + prompt[1:]
    if rng.random() < 0.5:
        prompt = prompt.rstrip("?.")
    if rng.random() < 0.5:
        for sign in "+-*x":
            prompt = prompt.replace(f" {sign} ", sign)
    return prompt.strip()
