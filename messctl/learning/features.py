"""Features of a prompt: hashed words and a few cheap properties, read straight from UTF-8 bytes.

A word is a run of ASCII letters and digits and of bytes from 0x80 up, so that any script makes words without being
decoded; A–Z count as a–z. Each word goes to one of `words` buckets with a sign, by a 32-bit FNV-1a hash with murmur3's
finaliser. A bucket with signed count k gets sign(k)·√|k|, and the whole is scaled to length 1. The `PROPERTIES` follow,
each about 0..1. One prompt and a whole Arrow column go through the same function, which gives the same numbers on every
machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from messctl.learning.compiled import compiled, compiled_loop

if TYPE_CHECKING:
    import pyarrow as pa

WORDS = 256
"""[features] Buckets for hashed words."""

PROPERTIES = (
    "length",  # log(1 + bytes) / 10
    "lines",  # log(lines) / 5
    "digits",  # square roots of shares of the bytes, from here on
    "capitals",
    "punctuation",
    "beyond_ascii",
    "word_length",  # mean bytes per word / 16, at most 1
    "question",  # 1 if there is a question mark
)
VERSION = "words-1"
"""Changes whenever the same prompt would get other features."""

KEPT_FROM = 100_000
"""[prompts] Fewer are hashed in a fraction of a second, and need no cache."""

LONG = 20_000
"""[bytes] From this length on, to encode one prompt in plain Python takes longer than to load what was compiled."""

HASH_START = 2166136261
LOW_32 = 0xFFFFFFFF
PROPERTY_COUNT = len(PROPERTIES)
KEPT = np.array(
    [byte | 32 * (65 <= byte <= 90) if byte >= 128 or chr(byte).isalnum() else 0 for byte in range(256)], np.uint8
)
"""What a byte adds to a word: itself, in lower case for A–Z; 0 for a byte between words."""


class SparseRows(NamedTuple):
    """The arrays of Features, for compiled loops."""

    starts: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]


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

    @property
    def sparse_rows(self) -> SparseRows:
        """The arrays, for compiled loops."""
        return SparseRows(self.starts, self.indices, self.values)

    def rows(self, rows: npt.NDArray[np.int64]) -> Features:
        """Return these rows, in this order."""
        sizes = np.diff(self.starts)[rows]
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        places = np.arange(starts[-1]) + np.repeat(self.starts[:-1][rows] - starts[:-1], sizes)
        return Features(starts, self.indices[places], self.values[places], self.width)

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
    return Features(*_encode_many(text, ends, words), width(words))


def encode_one(prompt: str, words: int = WORDS) -> Features:
    """Return the features of one prompt, a single row. Lone surrogates are hashed as they are."""
    text = np.frombuffer(prompt.encode("utf-8", "surrogatepass"), dtype=np.uint8)
    encoded = _encode if len(text) < LONG else _encode_many
    return Features(*encoded(text, np.array([0, len(text)], dtype=np.int64), words), width(words))


class Encoder(Protocol):
    """Makes features of prompts, `width()` columns: those of the words or the meaning first, then the `PROPERTIES`."""

    @property
    def version(self) -> str:
        """A name that changes whenever the same prompt would get other features."""

    @property
    def kept_from(self) -> int:
        """The number of prompts from which on their features are worth a cache."""

    def one(self, prompt: str) -> Features:
        """Return the features of one prompt, a single row."""

    def column(self, prompts: pa.LargeStringArray) -> Features:
        """Return the features of a column of prompts without nulls, one row each, the same as `one` returns."""


@dataclass(frozen=True, slots=True)
class WordEncoder:
    """The encoder by hashed words: `encode` and `encode_one`."""

    version: str = VERSION

    @property
    def kept_from(self) -> int:
        """See `Encoder`."""
        return KEPT_FROM

    def one(self, prompt: str) -> Features:
        """See `Encoder`."""
        return encode_one(prompt)

    def column(self, prompts: pa.LargeStringArray) -> Features:
        """See `Encoder`."""
        return encode(prompts)


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
    longest = 0
    room = words + PROPERTY_COUNT
    for row in range(rows):
        length = ends[row + 1] - ends[row]
        longest = max(longest, length)
        room += min(words, length // 2 + 1) + PROPERTY_COUNT
    starts = np.zeros(rows + 1, dtype=np.int64)
    indices = np.empty(room, dtype=np.int32)
    values = np.empty(room, dtype=np.float32)
    hashes = np.empty(longest // 2 + 2, dtype=np.uint32)
    counts = np.zeros(words, dtype=np.int32)
    found = np.zeros(PROPERTY_COUNT, dtype=np.float64)
    at = 0
    for row in range(rows):
        prompt = text[ends[row] : ends[row + 1]]
        number = _hash_words(prompt, hashes)
        _tally(hashes, number, counts)
        first = at
        total = 0
        for bucket in range(words):
            indices[at] = bucket  # stays only if the bucket is not empty
            at += counts[bucket] != 0
            total += abs(counts[bucket])
        for place in range(first, at):
            count = counts[indices[place]]
            root = math.sqrt(abs(count) / total)
            values[place] = root if count > 0 else -root
        counts[:] = 0
        _measure(prompt, number, found)
        for index in range(PROPERTY_COUNT):
            if found[index] != 0.0:
                indices[at] = words + index
                values[at] = found[index]
                at += 1
        starts[row + 1] = at
    return starts, indices[:at].copy(), values[:at].copy()


@compiled_loop
def _encode_many(
    text: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64], words: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    return _encode(text, ends, words)


# Words have any length: a processor that must guess where each one ends guesses wrong every time. So these loops have
# no branches: they always store, and move on only if the stored value is to stay.


@compiled
def _hash_words(prompt: npt.NDArray[np.uint8], hashes: npt.NDArray[np.uint32]) -> int:
    """Write the FNV-1a hash of every word into `hashes`, and return how many words there are."""
    hashed = HASH_START
    number = 0
    before = 0
    for byte in prompt:
        kept = int(KEPT[byte])
        hashes[number] = hashed
        number += (before != 0) & (kept == 0)
        hashed = ((hashed ^ kept) * 16777619) & LOW_32 if kept != 0 else HASH_START
        before = kept
    hashes[number] = hashed
    return number + (before != 0)


@compiled
def _tally(hashes: npt.NDArray[np.uint32], number: int, counts: npt.NDArray[np.int32]) -> None:
    """Count the first `number` hashes, with their signs, in their buckets."""
    for word in range(number):
        mixed = int(hashes[word])
        mixed = ((mixed ^ (mixed >> 16)) * 0x85EBCA6B) & LOW_32  # 64 bits may overflow here; the low 32 stay right
        mixed = ((mixed ^ (mixed >> 13)) * 0xC2B2AE35) & LOW_32
        mixed = mixed ^ (mixed >> 16)
        counts[(mixed >> 1) % len(counts)] += 2 * (mixed & 1) - 1


@compiled
def _measure(prompt: npt.NDArray[np.uint8], words: int, found: npt.NDArray[np.float64]) -> None:
    """Write the `PROPERTIES` of a prompt with this number of words into `found`."""
    lines = 1
    digits = capitals = letters = printable = beyond = questions = 0
    for at in range(0, len(prompt), 128):
        # Counted in bytes, so that a vector register holds many.
        breaks_8 = digits_8 = capitals_8 = letters_8 = printable_8 = beyond_8 = questions_8 = np.uint8(0)
        for byte in prompt[at : at + 128]:
            breaks_8 = np.uint8(breaks_8 + (byte == 10))
            digits_8 = np.uint8(digits_8 + ((byte >= 48) & (byte < 58)))
            capitals_8 = np.uint8(capitals_8 + ((byte >= 65) & (byte < 91)))
            letters_8 = np.uint8(letters_8 + (((byte | 32) >= 97) & ((byte | 32) < 123)))
            printable_8 = np.uint8(printable_8 + (byte > 32))
            beyond_8 = np.uint8(beyond_8 + (byte >= 128))
            questions_8 = np.uint8(questions_8 + (byte == 63))
        lines += int(breaks_8)
        digits += int(digits_8)
        capitals += int(capitals_8)
        letters += int(letters_8)
        printable += int(printable_8)
        beyond += int(beyond_8)
        questions += int(questions_8)
    in_words = digits + letters + beyond
    size = max(1, len(prompt))
    found[0] = math.log(1.0 + len(prompt)) / 10.0
    found[1] = math.log(float(lines)) / 5.0
    found[2] = math.sqrt(digits / size)
    found[3] = math.sqrt(capitals / size)
    found[4] = math.sqrt((printable - in_words) / size)
    found[5] = math.sqrt(beyond / size)
    found[6] = min(1.0, in_words / (16.0 * words)) if words else 0.0
    found[7] = 1.0 if questions else 0.0
