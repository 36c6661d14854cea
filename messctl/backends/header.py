"""The few things in a GGUF file's header on which llama.cpp ends the process instead of reporting an error.

All else that may be wrong with a header llama.cpp finds and reports by itself; what cannot be read here is its to say.
"""

from __future__ import annotations

import stat
import struct
from pathlib import Path
from typing import BinaryIO

_MOST_LAYERS = 512
_LONGEST = 2**24
_STRING, _ARRAY = 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


class _UnreadableError(Exception):
    """The header holds what this does not read."""


class _CutError(Exception):
    """The file ends within its header."""


def fault(path: Path) -> str | None:
    """Return what is wrong with the file and what to do, or None where llama.cpp may be given it.

    Raises OSError where the file cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        return "is not a file: set path in zoo.yaml"
    with path.open("rb") as file:
        return _fault_in_start(file.read(8)) or _fault_in_rest(file)


def _fault_in_start(start: bytes) -> str | None:
    if not start:
        return "the file is empty: get it again"
    if start[:4] != b"GGUF":
        return "is not a GGUF file: convert it, or get one in that format"
    if len(start) == 8 and start[4:] not in (b"\2\0\0\0", b"\3\0\0\0"):
        return "is in a version of the GGUF format that is not read here: get it again, or convert it anew"
    return None


def _fault_in_rest(file: BinaryIO) -> str | None:
    try:
        return _fault_in_keys(file)
    except _UnreadableError:
        return None
    except _CutError:
        return "the file ends within its header: get it again"


def _fault_in_keys(file: BinaryIO) -> str | None:
    _, keys = _numbers(file, "<QQ")
    for _ in range(keys):
        key = _string(file)
        (kind,) = _numbers(file, "<I")
        if key.endswith(b".block_count") and kind == 4:
            (layers,) = _numbers(file, "<I")
            if not 0 < layers <= _MOST_LAYERS:
                return f"its header speaks of {layers:,} layers: get the file again"
        elif key == b"tokenizer.ggml.tokens" and kind == _ARRAY:
            return _fault_in_tokens(file)
        else:
            _skip(file, kind)
    return None


def _fault_in_tokens(file: BinaryIO) -> str | None:
    kind, count = _numbers(file, "<IQ")
    if kind != _STRING or count > _LONGEST:
        return None
    seen: set[bytes] = set()
    for _ in range(count):
        seen.add(_string(file))
    if len(seen) < count:
        return "its vocabulary holds a token twice: get the file again, or convert it anew"
    return None


def _skip(file: BinaryIO, kind: int) -> None:
    if kind == _STRING:
        _string(file)
    elif kind == _ARRAY:
        element, count = _numbers(file, "<IQ")
        if element == _STRING and count <= _LONGEST:
            for _ in range(count):
                _string(file)
        else:
            _read(file, _size(element) * count)
    else:
        _read(file, _size(kind))


def _size(kind: int) -> int:
    if kind not in _SIZES:
        raise _UnreadableError
    return _SIZES[kind]


def _string(file: BinaryIO) -> bytes:
    (length,) = _numbers(file, "<Q")
    return _read(file, length)


def _numbers(file: BinaryIO, form: str) -> tuple[int, ...]:
    return struct.unpack(form, _read(file, struct.calcsize(form)))


def _read(file: BinaryIO, size: int) -> bytes:
    """Return the next `size` bytes; no header makes us ask for more than it may need."""
    if size > _LONGEST:
        raise _UnreadableError
    data = file.read(size)
    if len(data) < size:
        raise _CutError
    return data
