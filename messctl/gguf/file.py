"""The reader of one GGUF file: its fields, its vocabulary and its tensors.

Source: the GGUF specification in ggml, docs/gguf.md, versions 2 and 3.
"""

from __future__ import annotations

import mmap
import os
import struct
from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from messctl.errors import ModelFileError
from messctl.gguf.tables import TENSOR_TYPES
from messctl.inputs import NotOrdinaryError, open_plain

MAGIC = b"GGUF"
VERSIONS = (2, 3)
TOKENS = "tokenizer.ggml.tokens"

# No real file exceeds these limits; a file that does is damaged or hostile.
MOST_FIELDS = 1 << 16
MOST_TENSORS = 1 << 20
MOST_ITEMS = 1 << 24
MOST_DIMENSIONS = 4
LONGEST_ARRAY = 4096  # items; longer arrays of numbers are about the vocabulary and are skipped
LONGEST_TEXT = 1 << 20  # bytes; the rest of a longer text is skipped

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
_INDICES = "_tid2eid."  # DeepSeek's table from tokens to experts

Value = object


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Two facts on which llama.cpp may abort: whether a token `repeats`, and how many of the 256 bytes are tokens."""

    repeats: bool
    bytes_known: int


@dataclass(slots=True)
class Part:
    """One file of a model: its fields, and the number of elements in its tensors by type.

    `expert_elements` counts those of experts again. `weight_types` are the types of all tensors except index tables.
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
        """Return a text field up to its first NUL, where it ends for llama.cpp; None if there is no such text."""
        value = self.fields.get(key)
        return value.partition("\0")[0] if isinstance(value, str) else None

    def count(self, key: str, default: int | None = None) -> int:
        """Return a count, ≥ 0; the largest one if the field holds one per layer. Raises ModelFileError."""
        return max(self.counts(key, None if default is None else (default,)))

    def counts(self, key: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """Return a field's counts, ≥ 0: one, or one per layer. Raises ModelFileError if it is missing or invalid."""
        value = self.fields.get(key, default)
        if value is None:
            self.fail(f"has no field {key}, so llama.cpp cannot run it; use another file")
        counts = value if isinstance(value, tuple) else (value,)
        if not counts or not all(type(item) is int and 0 <= item < 1 << 32 for item in counts):
            self.fail(f"is damaged: {key} is not a count; download it again")
        return counts


def read_part(path: Path) -> Part:
    """Read one file. Raises ModelFileError if it is absent, unreadable, not GGUF, cut short or damaged."""
    try:
        with open_plain(path) as file:
            if not os.fstat(file.fileno()).st_size:
                raise ModelFileError(path, "is empty; download it again")
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        with data:
            part = Part(path, len(data))
            _Reader(part, data).run()
            return part
    except NotOrdinaryError as error:
        raise ModelFileError(path, f"{error.strerror}; give the GGUF file itself") from None
    except (FileNotFoundError, NotADirectoryError):
        raise ModelFileError(path, "there is no such model file; correct its path in zoo.yaml") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ModelFileError(path, f"cannot be read: {why}; correct its path in zoo.yaml, or its permissions") from None
    except (struct.error, OverflowError):
        raise ModelFileError(path, "ends within its header: it is cut short or damaged; download it again") from None


class _Reader:
    """Reads a file's header from begin to end. A read beyond the end raises struct.error."""

    def __init__(self, part: Part, data: mmap.mmap) -> None:
        self._part = part
        self._data = data
        self._position = 0

    def run(self) -> None:
        part = self._part
        self._check_kind()
        tensors, fields = self._number(_U64), self._number(_U64)
        if tensors > MOST_TENSORS or fields > MOST_FIELDS:
            part.fail(f"is damaged: it claims {fields:,} fields and {tensors:,} tensors; download it again")
        for _ in range(fields):
            key = self._text()
            if key in part.fields:
                part.fail(f"is damaged: it has the field {key!r} twice; download it again")
            part.fields[key] = self._value(key, self._number(_U32))
        end = max((self._tensor() for _ in range(tensors)), default=0)
        alignment = part.count("general.alignment", 32)
        if alignment.bit_count() != 1:
            part.fail(f"is damaged: an alignment of {alignment} is impossible; download it again")
        end = -(-self._position // alignment) * alignment + end if tensors else self._position
        if end > part.file_bytes:
            part.fail(f"is cut short: it should have {end:,} bytes, but has {part.file_bytes:,}; download it again")

    def _check_kind(self) -> None:
        start = self._data[:128]
        if not start.startswith(MAGIC):
            if start.startswith(b"version https://git-lfs"):
                self._part.fail("is a Git LFS pointer, not the model itself; run `git lfs pull`")
            self._part.fail(f"is not a GGUF file (it begins with {start[:8]!r}); convert it, or download a GGUF file")
        self._position = len(MAGIC)
        version = self._number(_U32)
        if version & 0xFFFF == 0:
            self._part.fail("is for big-endian machines; download the little-endian file")
        if version not in VERSIONS:
            readable = f"messctl reads versions {VERSIONS[0]} and {VERSIONS[1]}"
            self._part.fail(f"is GGUF version {version}, but {readable}; download it again, or convert it again")

    def _number(self, form: struct.Struct) -> int:
        value: int = form.unpack_from(self._data, self._position)[0]
        self._position += form.size
        return value

    def _text(self) -> str:
        length = self._number(_U64)
        begin, self._position = self._position, self._position + length
        if self._position > self._part.file_bytes:
            raise struct.error
        return self._data[begin : min(self._position, begin + LONGEST_TEXT)].decode("utf-8", errors="replace")

    def _value(self, key: str, kind: int) -> Value:
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY:
            return self._array(key, self._number(_U32), self._number(_U64))
        if kind not in _NUMBERS:
            self._part.fail(f"is damaged: there is no field type {kind}; download it again")
        return self._number(_NUMBERS[kind])

    def _array(self, key: str, kind: int, length: int) -> Value:
        """Return a short array of numbers, or the facts about the vocabulary; skip any other array."""
        if length > MOST_ITEMS:
            self._part.fail(f"is damaged: it claims a list of {length:,} items; download it again")
        if kind == _STRING:
            if key == TOKENS:
                return self._vocabulary(length)
            self._skip_texts(length)
            return None
        if kind not in _NUMBERS:
            self._part.fail(f"is damaged: there is no list of field type {kind}; download it again")
        form = _NUMBERS[kind]
        if length <= LONGEST_ARRAY:
            return tuple(self._number(form) for _ in range(length))
        self._position += length * form.size
        return None

    def _skip_texts(self, length: int) -> None:
        data, position, read, size = self._data, self._position, _U64.unpack_from, _U64.size
        for _ in range(length):
            position += size + read(data, position)[0]
        self._position = position

    def _vocabulary(self, length: int) -> Vocabulary:
        """Check the tokens as llama.cpp sees them: each ends at a NUL, and an empty one gets a name."""
        data, end, read, size = self._data, self._position, _U64.unpack_from, _U64.size
        hashes, known = array("q"), set()  # 8 bytes per token; the tokens themselves would take ten times as much
        for index in range(length):
            begin = end + size
            end = begin + read(data, end)[0]
            token = data[begin : min(end, begin + LONGEST_TEXT)]
            if 0 in token:
                token = token[: token.index(0)]
            token = token or b"[EMPTY_%d]" % index
            hashes.append(hash(token))
            if token in _BYTE_TOKENS:
                known.add(_BYTE_TOKENS[token])
        self._position = end
        return Vocabulary(_has_repeats(hashes), len(known))

    def _tensor(self) -> int:
        """Return where the tensor ends, in bytes from the start of the tensors."""
        part = self._part
        name = self._text()
        dimensions = self._number(_U32)
        if dimensions > MOST_DIMENSIONS:
            part.fail(f"is damaged: a tensor has {dimensions:,} dimensions; download it again")
        shape = [self._number(_U64) for _ in range(dimensions)]
        kind, offset = self._number(_U32), self._number(_U64)
        if kind not in TENSOR_TYPES:
            part.fail(
                f"has weights of type {kind}, which messctl does not know; update messctl, or download another file"
            )
        _, block, block_bytes = TENSOR_TYPES[kind]
        elements = 1
        for size in shape:
            elements *= size
        if elements % block:
            part.fail(f"is damaged: {elements:,} weights do not fill blocks of {block}; download it again")
        part.elements[kind] += elements
        if "_exps." in name:
            part.expert_elements += elements
        if _INDICES not in name:
            part.weight_types.add(kind)
        return offset + elements // block * block_bytes


def _has_repeats(hashes: array[int]) -> bool:
    """Return whether two hashes are equal. With 64 bits, that happens by chance in one of a billion vocabularies."""
    import numpy as np  # noqa: PLC0415 (it is slow to import)

    ordered = np.array(hashes, np.int64)
    ordered.sort()
    return bool((ordered[1:] == ordered[:-1]).any())
