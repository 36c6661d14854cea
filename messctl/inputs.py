"""Bytes that come in: every file is opened here, and text is decoded.

Only an ordinary file is opened: a pipe would wait without end, and a device such as /dev/zero never ends. A file that
is read as a whole has a limit, so that a wrong or hostile one takes no more memory than a right one.
"""

from __future__ import annotations

import codecs
import errno
import os
import re
import stat
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

from messctl.errors import UsageError

SMALL = 2**20
"""The most bytes of a file that somebody writes by hand: zoo.yaml, a chat template, a program's settings."""
SCHEMES = ("postgresql://", "postgres://")
"""What the address of a PostgreSQL database begins with."""
LIKE_AN_ADDRESS = re.compile(r"\s*postgres(ql)?(\+\w+)?(:|/.*@)", re.IGNORECASE | re.DOTALL)
"""How a text begins that is meant as an address, also if a letter is missing. It may hold a password."""

# UTF-32's mark begins with that of UTF-16, so it comes first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE = 256
"""The bytes at the beginning of a text that show whether it is UTF-16 without a mark."""


class NotOrdinaryError(OSError):
    """A path leads to a folder, a pipe or a device instead of an ordinary file. `strerror` says to which."""


def open_plain(path: Path) -> BufferedReader:
    """Open an ordinary file to read its bytes; a link is followed.

    Raises OSError if it cannot be opened, NotOrdinaryError if it is anything but an ordinary file.
    """
    # Without O_NONBLOCK, opening a pipe that nobody writes to would wait.
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError:
        raise OSError(errno.EINVAL, "the path is impossible", str(path)) from None
    try:
        _check_mode(path, os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_ordinary(path: Path) -> None:
    """Raise NotOrdinaryError for anything but an ordinary file, without opening it; OSError if there is nothing."""
    _check_mode(path, path.stat().st_mode)


def _check_mode(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        what = "is a folder" if stat.S_ISDIR(mode) else "is not an ordinary file"
        raise NotOrdinaryError(errno.EINVAL, what, str(path))


def read_start(path: Path, size: int) -> bytes:
    """Return the first bytes of an ordinary file, `size` at most. Raises OSError as `open_plain` does."""
    with open_plain(path) as file:
        return _some(file, size, path)


def _some(file: BufferedReader, size: int, path: Path) -> bytes:
    """Return the next bytes of a file. Raises NotOrdinaryError if it has none yet, as one that the system makes up."""
    data: bytes | None = file.read(size)
    if data is None:
        raise NotOrdinaryError(errno.EAGAIN, "is not an ordinary file", str(path))
    return data


def read_bytes(path: Path, most: int = SMALL) -> bytes:
    """Return the bytes of an ordinary file. Raises OSError as `open_plain` does, and if there are more than `most`."""
    with open_plain(path) as file:
        data = _some(file, most + 1, path)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most >> 20} MiB", str(path))
    return data


def read_text(path: Path, most: int = SMALL) -> str:
    """Return the text of an ordinary UTF-8 file, without a byte order mark and with `\\n` for every line end.

    Raises OSError as `read_bytes` does, and UnicodeDecodeError.
    """
    return read_bytes(path, most).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def encoding_of(head: bytes) -> tuple[str, int]:
    """Return the encoding of a text by its first bytes, and the length of its byte order mark; UTF-8 without a mark."""
    return next(((encoding, len(mark)) for mark, encoding in _MARKS if head.startswith(mark)), ("utf-8", 0))


def begins_mark(head: bytes) -> bool:
    """Return whether the next byte may show another mark than `head` does."""
    return any(mark.startswith(head) and mark != head for mark, _ in _MARKS)


def decoded(data: bytes, name: str) -> str:
    """Return the text of `data`, without its byte order mark, with U+FFFD for what is not valid in its encoding.

    UTF-16 and UTF-32 are known by their marks. Raises UsageError, which names the source, for UTF-16 without one.
    """
    encoding, mark = encoding_of(data)
    if not mark:
        check_marked(data, name)
    return data[mark:].decode(encoding, "replace")


def check_marked(data: bytes, name: str) -> None:
    """Raise UsageError, which names the source, if bytes look like UTF-16: of each two, the same one is mostly 0."""
    sample = data[: min(_SAMPLE, len(data) // 2 * 2)]
    nulls = [half.count(0) for half in (sample[::2], sample[1::2])]
    if len(sample) > 2 and max(nulls) > 0.4 * len(sample) and min(nulls) == 0:
        raise UsageError(f"{name} is UTF-16 without a byte order mark; convert it to UTF-8")


def valid_unicode(text: str) -> str:
    """Return a text with U+FFFD for each half of a surrogate pair, which JSON can hold and UTF-8 cannot."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def valid_json(value: Any) -> Any:
    """Return a JSON value whose texts, and keys, are valid Unicode; see `valid_unicode`."""
    if isinstance(value, str):
        return valid_unicode(value)
    if isinstance(value, Mapping):
        return {valid_unicode(key): valid_json(each) for key, each in value.items()}
    return [valid_json(each) for each in value] if isinstance(value, list) else value
