"""One GGUF file, read: its fields, its vocabulary and its tensors, as far as they can be told at all."""

from __future__ import annotations

import mmap
import stat
import struct
from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from messctl.errors import ModelFileError
from messctl.gguf.tables import TENSOR_TYPES

MAGIC = b"GGUF"
VERSIONS = (2, 3)
TOKENS = "tokenizer.ggml.tokens"

# What no real file exceeds; a file that does is damaged, or hostile.
MOST_FIELDS = 1 << 16
MOST_TENSORS = 1 << 20
MOST_ITEMS = 1 << 24
MOST_DIMENSIONS = 4
KEPT_ITEMS = 4096  # items of a numeric array that are kept; longer ones are about the vocabulary
MOST_KEPT_TEXT = 1 << 20  # bytes of a text that are kept

_STRING, _ARRAY = 8, 9
_NUMBERS = {
    kind: struct.Struct(f"<{code}")
    for kind, code in {
        0: "B",
        1: "b",
        2: "H",
        3: "h",
        4: "I",
        5: "i",
        6: "f",
        7: "?",
        10: "Q",
        11: "q",
        12: "d",
    }.items()
}
_U32, _U64 = _NUMBERS[4], _NUMBERS[10]
_BYTE_TOKENS = {name: byte for byte in range(256) for name in (b"<0x%02X>" % byte, bytes([byte]))}
_INDICES = "_tid2eid."  # which tokens go to which experts, in DeepSeek's

Value = object


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What llama.cpp expects of a vocabulary: no token twice (`repeats`); how many of the 256 bytes are in it."""

    repeats: bool
    bytes_known: int


@dataclass(slots=True)
class Part:
    """One file: its fields, and the elements of its tensors by type, those of experts counted once more.

    `weight_types` are the types of all tensors but those that hold indices.
    """

    path: Path
    file_bytes: int
    fields: dict[str, Value] = field(default_factory=dict)
    elements: Counter[int] = field(default_factory=Counter)
    expert_elements: int = 0
    weight_types: set[int] = field(default_factory=set)

    def fail(self, text: str) -> NoReturn:
        """Raise ModelFileError for this file."""
        raise ModelFileError(self.path, text)

    def text(self, key: str) -> str | None:
        """Return a text up to its first NUL, which is where it ends for llama.cpp."""
        value = self.fields.get(key)
        return value.partition("\0")[0] if isinstance(value, str) else None

    def count(self, key: str, default: int | None = None) -> int:
        """Return a count, or the largest of the counts by layer."""
        return max(self.counts(key, None if default is None else (default,)))

    def counts(self, key: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """Return a count, or the counts by layer."""
        value = self.fields.get(key, default)
        if value is None:
            self.fail(f"does not state {key}; it is no model that llama.cpp runs, or it is damaged: name another file")
        counts = value if isinstance(value, tuple) else (value,)
        if not counts or not all(type(item) is int and 0 <= item < 1 << 32 for item in counts):
            self.fail(f"is damaged: {key} is no count; fetch it again")
        return counts


def read_part(path: Path) -> Part:
    """Read one file. Raises ModelFileError for one that is absent, unreadable, no GGUF, cut short or damaged."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "no ordinary file"
            raise ModelFileError(path, f"is {what}; name the GGUF file itself")
        if not status.st_size:
            raise ModelFileError(path, "is empty; fetch it again")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            part = Part(path, len(data))
            _Walk(part, data).run()
            return part
    except (FileNotFoundError, NotADirectoryError):
        raise ModelFileError(path, "there is no such model file; correct its path in zoo.yaml") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ModelFileError(path, f"cannot be read: {why}; correct its path in zoo.yaml, or its permissions") from None
    except (struct.error, OverflowError):
        raise ModelFileError(path, "ends within its header: it is cut short or damaged; fetch it again") from None


class _Walk:
    """Goes through a file's header once. A read beyond the end raises struct.error."""

    def __init__(self, part: Part, data: mmap.mmap) -> None:
        self._part = part
        self._data = data
        self._position = 0

    def run(self) -> None:
        part = self._part
        self._check_kind()
        tensors, fields = self._number(_U64), self._number(_U64)
        if tensors > MOST_TENSORS or fields > MOST_FIELDS:
            part.fail(f"is damaged: it claims {fields:,} fields and {tensors:,} tensors; fetch it again")
        for _ in range(fields):
            key = self._text()
            if key in part.fields:
                part.fail(f"is damaged: the field {key!r} stands twice; fetch it again")
            part.fields[key] = self._value(key, self._number(_U32))
        end = max((self._tensor() for _ in range(tensors)), default=0)
        alignment = part.count("general.alignment", 32)
        if alignment.bit_count() != 1:
            part.fail(f"is damaged: an alignment of {alignment} is impossible; fetch it again")
        end = -(-self._position // alignment) * alignment + end if tensors else self._position
        if end > part.file_bytes:
            part.fail(f"is cut short: it should have {end:,} bytes and has {part.file_bytes:,}; fetch it again")

    def _check_kind(self) -> None:
        start = self._data[:128]
        if not start.startswith(MAGIC):
            if start.startswith(b"version https://git-lfs"):
                self._part.fail("is a Git LFS pointer, not the model itself; run `git lfs pull`")
            self._part.fail(f"is no GGUF file (it begins with {start[:8]!r}); convert it, or fetch a GGUF")
        self._position = len(MAGIC)
        version = self._number(_U32)
        if version & 0xFFFF == 0:
            self._part.fail("is written for big-endian machines; fetch the little-endian file")
        if version not in VERSIONS:
            readable = f"versions {VERSIONS[0]} and {VERSIONS[1]} can be read"
            self._part.fail(f"is GGUF version {version}; {readable}: fetch it again, or convert it anew")

    def _number(self, form: struct.Struct) -> int:
        value: int = form.unpack_from(self._data, self._position)[0]
        self._position += form.size
        return value

    def _text(self) -> str:
        length = self._number(_U64)
        begin, self._position = self._position, self._position + length
        if self._position > self._part.file_bytes:
            raise struct.error
        return self._data[begin : min(self._position, begin + MOST_KEPT_TEXT)].decode("utf-8", errors="replace")

    def _value(self, key: str, kind: int) -> Value:
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY:
            return self._array(key, self._number(_U32), self._number(_U64))
        if kind not in _NUMBERS:
            self._part.fail(f"is damaged: there is no field type {kind}; fetch it again")
        return self._number(_NUMBERS[kind])

    def _array(self, key: str, kind: int, length: int) -> Value:
        """Return a short array of numbers, or what the vocabulary is like; skip any other."""
        if length > MOST_ITEMS:
            self._part.fail(f"is damaged: it claims a list of {length:,} items; fetch it again")
        if kind == _STRING:
            if key == TOKENS:
                return self._vocabulary(length)
            self._skip_texts(length)
            return None
        if kind not in _NUMBERS:
            self._part.fail(f"is damaged: there is no list of field type {kind}; fetch it again")
        form = _NUMBERS[kind]
        if length <= KEPT_ITEMS:
            return tuple(self._number(form) for _ in range(length))
        self._position += length * form.size
        return None

    def _skip_texts(self, length: int) -> None:
        data, position, read, size = self._data, self._position, _U64.unpack_from, _U64.size
        for _ in range(length):
            position += size + read(data, position)[0]
        self._position = position

    def _vocabulary(self, length: int) -> Vocabulary:
        """Judge the tokens as llama.cpp sees them: each ends at a NUL, and an empty one is given a name."""
        data, end, read, size = self._data, self._position, _U64.unpack_from, _U64.size
        hashes, known = array("q"), set()  # eight bytes for each token: the tokens themselves would be ten times that
        for index in range(length):
            begin = end + size
            end = begin + read(data, end)[0]
            token = data[begin : min(end, begin + MOST_KEPT_TEXT)]
            if 0 in token:
                token = token[: token.index(0)]
            token = token or b"[EMPTY_%d]" % index
            hashes.append(hash(token))
            if token in _BYTE_TOKENS:
                known.add(_BYTE_TOKENS[token])
        self._position = end
        return Vocabulary(_any_twice(hashes), len(known))

    def _tensor(self) -> int:
        """Return where the tensor ends, in bytes from the start of the tensors."""
        part = self._part
        name = self._text()
        dimensions = self._number(_U32)
        if dimensions > MOST_DIMENSIONS:
            part.fail(f"is damaged: a tensor has {dimensions:,} dimensions; fetch it again")
        shape = [self._number(_U64) for _ in range(dimensions)]
        kind, offset = self._number(_U32), self._number(_U64)
        if kind not in TENSOR_TYPES:
            part.fail(f"has weights of type {kind}, which messctl does not know; update messctl, or fetch another file")
        _, block, block_bytes = TENSOR_TYPES[kind]
        elements = 1
        for size in shape:
            elements *= size
        if elements % block:
            part.fail(f"is damaged: {elements:,} weights do not fill blocks of {block}; fetch it again")
        part.elements[kind] += elements
        if "_exps." in name:
            part.expert_elements += elements
        if _INDICES not in name:
            part.weight_types.add(kind)
        return offset + elements // block * block_bytes


def _any_twice(hashes: array[int]) -> bool:
    """Return whether two are the same; of different tokens' 64 bits, one in a billion vocabularies has such a pair."""
    import numpy as np  # noqa: PLC0415 (it takes a while)

    ordered = np.array(hashes, np.int64)
    ordered.sort()
    return bool((ordered[1:] == ordered[:-1]).any())
