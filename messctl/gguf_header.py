"""The header of a GGUF file: what the model is, how large it is, and what it will need.

The walk below reads only what it needs, and trusts no count that the file states: `gguf.GGUFReader` takes ten
seconds over a vocabulary of 150,000 entries, and runs out of memory over an absurd array length. The tables of
types and sizes are those of the `gguf` package.
"""

from __future__ import annotations

import mmap
import re
import stat
import struct
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from messctl.errors import BackendError, MissingExtraError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
KV_BYTES = 2  # llama.cpp keeps keys and values as f16

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
_WORD = re.compile(r"[\w.-]+")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")

Value = object


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says about its model.

    `kind` is "model" for what can be run by itself. `parameters` counts the elements of all tensors;
    `active_parameters` those that one token passes through: all, or, in a mixture of experts, the shared ones and
    the share of the experts that is used. `file_bytes` is the size of all parts. `quantisation` is the file's own
    statement, else the type of most elements. `context_length` is in tokens. `kv_heads` is the largest number of
    key-value heads in a layer, and `kv_bytes_per_token` what one token takes in the cache, in f16, over all layers.
    `chat_template` tells whether there is one.
    """

    path: Path
    kind: str
    architecture: str
    name: str
    parameters: int
    active_parameters: int
    file_bytes: int
    quantisation: str
    context_length: int
    embedding_length: int
    block_count: int
    kv_heads: int
    kv_bytes_per_token: int
    chat_template: bool
    license: str | None
    description: str | None

    def memory_bytes(self, n_ctx: int) -> int:
        """Return an estimate of the memory needed for `n_ctx` tokens (0: the model's own context).

        The file and a full f16 cache; buffers for computing come on top, and a sliding window needs less.
        """
        return self.file_bytes + self.kv_bytes_per_token * (n_ctx or self.context_length)


def read_header(path: Path) -> Header:
    """Return the header of the GGUF file `path`, and of its further parts where it is split.

    Raises BackendError for a file that is absent, unreadable, no GGUF, cut short or damaged.
    """
    try:
        import gguf  # noqa: PLC0415 (it imports numpy)
    except ImportError:
        raise MissingExtraError("gguf", "llama", "reading a model file") from None

    first = _read_part(path, gguf)
    parts = [first, *(_read_part(other, gguf) for other in _other_parts(first))]
    elements: Counter[int] = Counter()
    for part in parts:
        elements += part.elements
    total = elements.total()
    if not total:
        raise BackendError(f"{path}: holds no weights, only a vocabulary; name the model's own file")

    architecture = first.text("general.architecture") or ""
    if not _WORD.fullmatch(architecture):
        first.fail("does not say which architecture it has (general.architecture)")
    blocks = first.count(f"{architecture}.block_count")
    context = first.count(f"{architecture}.context_length")
    embedding = first.count(f"{architecture}.embedding_length")
    heads = first.counts(f"{architecture}.attention.head_count", (0,))
    kv_heads = first.counts(f"{architecture}.attention.head_count_kv", heads)
    head_size = embedding // max(*heads, 1)
    key = first.count(f"{architecture}.attention.key_length", head_size)
    value = first.count(f"{architecture}.attention.value_length", head_size)
    all_kv_heads = kv_heads[0] * blocks if len(kv_heads) == 1 else sum(kv_heads[:blocks])
    return Header(
        path=path,
        kind=first.text("general.type") or "model",
        architecture=architecture,
        name=first.text("general.name") or path.stem,
        parameters=total,
        active_parameters=total - _resting(first, architecture, sum(part.expert_elements for part in parts)),
        file_bytes=sum(part.file_bytes for part in parts),
        quantisation=_quantisation(first, elements, gguf),
        context_length=context,
        embedding_length=embedding,
        block_count=blocks,
        kv_heads=max(kv_heads),
        kv_bytes_per_token=all_kv_heads * (key + value) * KV_BYTES,
        chat_template=bool((first.text("tokenizer.chat_template") or "").strip()),
        license=first.text("general.license"),
        description=first.text("general.description"),
    )


@dataclass(slots=True)
class _Part:
    """One file: its fields, and the tensors by type, those of experts counted once more."""

    path: Path
    file_bytes: int
    fields: dict[str, Value] = field(default_factory=dict)
    elements: Counter[int] = field(default_factory=Counter)
    expert_elements: int = 0

    def fail(self, text: str) -> NoReturn:
        raise BackendError(f"{self.path}: {text}")

    def text(self, key: str) -> str | None:
        value = self.fields.get(key)
        return value if isinstance(value, str) else None

    def count(self, key: str, default: int | None = None) -> int:
        value = self.counts(key, None if default is None else (default,))
        return max(value)

    def counts(self, key: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """Return a count, or the counts by layer."""
        value = self.fields.get(key, default)
        if value is None:
            self.fail(f"does not state {key}; it is no model that llama.cpp runs, or it is damaged")
        counts = value if isinstance(value, tuple) else (value,)
        if not counts or not all(type(item) is int and 0 <= item < 1 << 32 for item in counts):
            self.fail(f"is damaged: {key} is no count")
        return counts


def _read_part(path: Path, gguf: ModuleType) -> _Part:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "no ordinary file"
            raise BackendError(f"{path}: is {what}; name the GGUF file itself")
        if not status.st_size:
            raise BackendError(f"{path}: is empty; fetch it again")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            part = _Part(path, len(data))
            _Walk(part, data, gguf).run()
            return part
    except (FileNotFoundError, NotADirectoryError):
        raise BackendError(f"{path}: there is no such model file; correct its path in zoo.yaml") from None
    except (OSError, ValueError) as error:
        raise BackendError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    except (struct.error, OverflowError):
        raise BackendError(f"{path}: ends within its header: it is cut short or damaged; fetch it again") from None


class _Walk:
    """Goes through a file's header once. A read beyond the end raises struct.error."""

    def __init__(self, part: _Part, data: mmap.mmap, gguf: ModuleType) -> None:
        self._part = part
        self._data = data
        self._gguf = gguf
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
            part.fields[key] = self._value(self._number(_U32))
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
            self._part.fail(f"is GGUF version {version}; versions {VERSIONS[0]} and {VERSIONS[1]} can be read")

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

    def _value(self, kind: int) -> Value:
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY:
            return self._array(self._number(_U32), self._number(_U64))
        if kind not in _NUMBERS:
            self._part.fail(f"is damaged: there is no field type {kind}; fetch it again")
        return self._number(_NUMBERS[kind])

    def _array(self, kind: int, length: int) -> Value:
        """Return a short array of numbers; skip any other."""
        if length > MOST_ITEMS:
            self._part.fail(f"is damaged: it claims a list of {length:,} items; fetch it again")
        if kind == _STRING:
            data, position, read, size = self._data, self._position, _U64.unpack_from, _U64.size
            for _ in range(length):
                position += size + read(data, position)[0]
            self._position = position
            return None
        if kind not in _NUMBERS:
            self._part.fail(f"is damaged: there is no list of field type {kind}; fetch it again")
        form = _NUMBERS[kind]
        if length <= KEPT_ITEMS:
            return tuple(self._number(form) for _ in range(length))
        self._position += length * form.size
        return None

    def _tensor(self) -> int:
        """Return where the tensor ends, in bytes from the start of the tensors."""
        part = self._part
        name = self._text()
        dimensions = self._number(_U32)
        if dimensions > MOST_DIMENSIONS:
            part.fail(f"is damaged: a tensor has {dimensions:,} dimensions; fetch it again")
        shape = [self._number(_U64) for _ in range(dimensions)]
        kind, offset = self._number(_U32), self._number(_U64)
        try:
            block, block_bytes = self._gguf.GGML_QUANT_SIZES[self._gguf.GGMLQuantizationType(kind)]
        except (ValueError, KeyError):
            part.fail(f"has weights of type {kind}, which the installed gguf package does not know; update it")
        elements = 1
        for size in shape:
            elements *= size
        if elements % block:
            part.fail(f"is damaged: {elements:,} weights do not fill blocks of {block}; fetch it again")
        part.elements[kind] += elements
        if "_exps." in name:
            part.expert_elements += elements
        return int(offset + elements // block * block_bytes)


def _other_parts(first: _Part) -> list[Path]:
    count = first.count("split.count", 1)
    if count <= 1:
        return []
    name, number = first.path.name, first.count("split.no", 0) + 1
    match = _SHARD.search(name)
    if match is None or int(match[2]) != count or int(match[1]) != number:
        first.fail(f"is part {number} of {count} and must end in -{number:05d}-of-{count:05d}.gguf; rename it back")
    names = [f"{name[: match.start()]}-{i:05d}-of-{count:05d}.gguf" for i in range(1, count + 1)]
    if number != 1:
        first.fail(f"is part {number} of {count}; name the first part, {names[0]}")
    return [first.path.with_name(other) for other in names[1:]]


def _resting(first: _Part, architecture: str, expert_elements: int) -> int:
    """Return how many parameters of the experts a token does not pass through."""
    experts = first.count(f"{architecture}.expert_count", 0)
    used = first.count(f"{architecture}.expert_used_count", 0)
    return expert_elements * (experts - used) // experts if 0 < used < experts else 0


def _quantisation(first: _Part, elements: Counter[int], gguf: ModuleType) -> str:
    stated = first.fields.get("general.file_type")
    try:
        name: str = gguf.LlamaFileType(stated).name
    except ValueError:
        return str(gguf.GGMLQuantizationType(elements.most_common(1)[0][0]).name)
    return name.removeprefix("MOSTLY_").removeprefix("ALL_")
