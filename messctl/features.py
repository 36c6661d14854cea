"""Features of a prompt: hashed words and a few cheap properties, read straight from UTF-8 bytes.

A word is a run of ASCII letters and digits and of bytes from 0x80 up (so that any script makes words without
being decoded); A–Z count as a–z. Each word goes to one of `words` buckets with a sign, by a 32-bit FNV-1a hash
with murmur3's finaliser; a bucket with signed count k gets sign(k)·√|k|, and the whole is scaled to length 1.
Then follow the `PROPERTIES`, each about 0..1. The function is the same for one prompt and for a whole Arrow
column, and gives the same numbers on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from messctl.compiled import compiled

WORDS = 256
"""Buckets for hashed words."""

PROPERTIES = (
    "length",  # log(1 + bytes) / 10
    "lines",  # log(lines) / 5
    "digits",  # square roots of shares of the bytes, from here on
    "capitals",
    "punctuation",
    "beyond_ascii",
    "word_length",  # mean bytes per word / 16, at most 1
    "question",  # 1 where there is a question mark
)
VERSION = "words-1"
"""Changes whenever the same prompt would get other features."""


@dataclass(frozen=True, slots=True)
class Features:
    """Sparse rows (compressed sparse row): row r is `indices`, `values` in `starts[r]:starts[r + 1]`.

    `starts` int64, `indices` int32 (ascending within a row), `values` float32; `width` columns.
    """

    starts: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]
    width: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    def csr(self) -> Any:
        """Return the rows as a SciPy CSR array of float64."""
        from scipy.sparse import csr_array  # noqa: PLC0415  # only the hindsight yardstick needs SciPy

        parts = (self.values.astype(np.float64), self.indices, self.starts)
        return csr_array(parts, shape=(len(self), self.width))


def width(words: int = WORDS) -> int:
    """Return the number of features for this many word buckets."""
    return words + len(PROPERTIES)


def encode(prompts: pa.LargeStringArray, words: int = WORDS) -> Features:
    """Return the features of a column of prompts without nulls, one row each."""
    _, offsets, data = prompts.buffers()
    if not len(prompts):
        return Features(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), width(words))
    ends = np.frombuffer(offsets, dtype=np.int64)[prompts.offset : prompts.offset + len(prompts) + 1]
    text = np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, np.uint8)
    return Features(*_encode(text, ends, words), width(words))


def encode_one(prompt: str, words: int = WORDS) -> Features:
    """Return the features of one prompt, a single row. Lone surrogates are hashed as they stand."""
    text = np.frombuffer(prompt.encode("utf-8", "surrogatepass"), dtype=np.uint8)
    return Features(*_encode(text, np.array([0, len(text)], dtype=np.int64), words), width(words))


def concatenate(parts: Sequence[Features]) -> Features:
    """Return the rows of all parts, in order; there is at least one part."""
    sizes = np.cumsum([0, *(part.starts[-1] for part in parts)])
    starts = [part.starts[:-1] + shift for part, shift in zip(parts, sizes, strict=False)]
    return Features(
        np.concatenate([*starts, sizes[-1:]]),
        np.concatenate([part.indices for part in parts]),
        np.concatenate([part.values for part in parts]),
        parts[0].width,
    )


@compiled
def _encode(
    text: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64], words: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    rows = len(ends) - 1
    properties = 8
    room = 0
    for row in range(rows):
        room += min(words, (ends[row + 1] - ends[row]) // 2 + 1) + properties
    starts = np.zeros(rows + 1, dtype=np.int64)
    indices = np.empty(room, dtype=np.int32)
    values = np.empty(room, dtype=np.float32)
    counts = np.zeros(words, dtype=np.int64)
    found = np.zeros(properties, dtype=np.float64)
    at = 0
    for row in range(rows):
        _count(text[ends[row] : ends[row + 1]], counts, found)
        total = 0
        for bucket in range(words):
            total += abs(counts[bucket])
        for bucket in range(words):
            count = counts[bucket]
            if count != 0:
                indices[at] = bucket
                values[at] = np.sqrt(count / total) if count > 0 else -np.sqrt(-count / total)
                at += 1
                counts[bucket] = 0
        for index in range(properties):
            if found[index] != 0.0:
                indices[at] = words + index
                values[at] = found[index]
                at += 1
        starts[row + 1] = at
    return starts, indices[:at].copy(), values[:at].copy()


@compiled
def _count(text: npt.NDArray[np.uint8], counts: npt.NDArray[np.int64], found: npt.NDArray[np.float64]) -> None:
    digits = capitals = punctuation = beyond = in_words = words = 0
    lines = 1
    question = False
    start = np.uint32(2166136261)
    hashed = start
    length = 0
    for byte in text:
        kept = byte
        if 48 <= byte <= 57:
            digits += 1
        elif 65 <= byte <= 90:
            capitals += 1
            kept = byte + 32
        elif byte >= 128:
            beyond += 1
        elif not 97 <= byte <= 122:
            if length:
                _tally(hashed, counts)
                words += 1
                in_words += length
                hashed = start
                length = 0
            if byte == 10:
                lines += 1
            elif byte > 32:
                punctuation += 1
                question = question or byte == 63
            continue
        hashed = np.uint32((hashed ^ np.uint32(kept)) * np.uint32(16777619))
        length += 1
    if length:
        _tally(hashed, counts)
        words += 1
        in_words += length
    size = max(1, len(text))
    found[0] = np.log(1.0 + len(text)) / 10.0
    found[1] = np.log(float(lines)) / 5.0
    found[2] = np.sqrt(digits / size)
    found[3] = np.sqrt(capitals / size)
    found[4] = np.sqrt(punctuation / size)
    found[5] = np.sqrt(beyond / size)
    found[6] = min(1.0, in_words / (16.0 * words)) if words else 0.0
    found[7] = 1.0 if question else 0.0


@compiled
def _tally(hashed: np.uint32, counts: npt.NDArray[np.int64]) -> None:
    mixed = np.uint32(hashed)
    mixed = np.uint32((mixed ^ (mixed >> np.uint32(16))) * np.uint32(0x85EBCA6B))
    mixed = np.uint32((mixed ^ (mixed >> np.uint32(13))) * np.uint32(0xC2B2AE35))
    mixed = np.uint32(mixed ^ (mixed >> np.uint32(16)))
    bucket = np.int64(mixed >> np.uint32(1)) % len(counts)
    counts[bucket] += 1 if mixed & np.uint32(1) else -1
