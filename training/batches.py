"""Batches: the training stream as tensors of token ids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Final

import torch
from torch import Tensor

from training.puzzles import training_stream
from training.tokens import END, encode_answer, encode_prompt

_STEP: Final = 4
"""Lengths are multiples of this. Kernels are prepared per shape, so few shapes are better."""

_POOL: Final = 32
"""The number of batches drawn together and sorted by length, to reduce padding."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Token ids (batch, time), the flat places before each answer token, and the answer tokens."""

    tokens: Tensor
    places: Tensor
    targets: Tensor


def batches(size: int, seed: int, ramp: int = 0, first: int = 0) -> Iterator[Batch]:
    """Yield endless batches of `size` puzzles, from batch number `first` on.

    The share of hard puzzles grows over the first `ramp` batches.
    """
    stream = training_stream(seed, ramp * size, first * size)
    rng = Random(f"batches/{seed}")
    while True:
        pool = [(encode_prompt(p), encode_answer(a)) for p, a in islice(stream, size * _POOL)]
        # Ties are broken at random. Sorting by content would put similar puzzles into one batch.
        pool.sort(key=lambda pair: len(pair[0]) + len(pair[1]) + rng.random())
        starts = list(range(0, len(pool), size))
        rng.shuffle(starts)
        for start in starts:
            yield _batch(pool[start : start + size])


def _batch(pairs: list[tuple[list[int], list[int]]]) -> Batch:
    """Return one padded batch of (prompt, answer) token lists. The padding is never used."""
    longest = max(len(prompt) + len(answer) for prompt, answer in pairs) - 1
    time = -(-longest // _STEP) * _STEP
    rows: list[list[int]] = []
    places: list[int] = []
    targets: list[int] = []
    for row, (prompt, answer) in enumerate(pairs):
        tokens = (prompt + answer)[:-1]
        rows.append(tokens + [END] * (time - len(tokens)))
        first = row * time + len(prompt) - 1
        places.extend(range(first, first + len(answer)))
        targets.extend(answer)
    return Batch(torch.tensor(rows), torch.tensor(places), torch.tensor(targets))
