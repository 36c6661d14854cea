"""The body of a server's response, decompressed in small pieces, with a limit on its size.

A few kilobytes can decompress to gigabytes. So at most a piece is in memory at once, and the sum of all is limited.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from messctl.backends.key import Key
from messctl.backends.openai_errors import NOT_OPENAI, SEE_LOG, permanent, quote, temporary
from messctl.zoo import ModelSpec

if TYPE_CHECKING:
    from messctl.backends.connection import Response

LARGEST_STREAM = 2**26
"""The most bytes of one response."""
LARGEST_DOCUMENT = 2**24
"""The most bytes of one JSON document, which takes many times its size in memory."""
_PIECE = 2**16
_HEADER = 2
"""The bytes that show whether a header is there."""
_ZLIB_OR_GZIP, _RAW = zlib.MAX_WBITS | 32, -zlib.MAX_WBITS


def body_pieces(model: ModelSpec, response: Response) -> Iterator[bytes]:
    """Yield the body of a response as it arrives.

    Raises AttemptFailedError if it is larger than any answer, damaged, or in an encoding that was not asked for.
    """
    stated = response.headers.get("content-encoding", "")
    encodings = [name for each in stated.split(",") if (name := each.strip().lower()) not in ("", "identity")]
    pieces: Iterable[bytes] = response.pieces()
    if encodings in (["gzip"], ["x-gzip"], ["deflate"]):
        pieces = _inflated(model, pieces)
    elif encodings:
        named = quote(Key.of(model).hide(stated))
        raise permanent(model, f"sends an encoding that was not asked for ({named}): {SEE_LOG}")
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > LARGEST_STREAM:
            raise permanent(model, f"sends more than {LARGEST_STREAM >> 20} MiB for one answer: {NOT_OPENAI}")
        yield piece


def read_document(model: ModelSpec, pieces: Iterable[bytes]) -> bytes:
    """Return the whole body of a response. Raises AttemptFailedError if it is larger than any JSON document."""
    content = bytearray()
    for piece in pieces:
        content += piece
        if len(content) > LARGEST_DOCUMENT:
            raise permanent(model, f"sends a document of more than {LARGEST_DOCUMENT >> 20} MiB: {NOT_OPENAI}")
    return bytes(content)


def _inflated(model: ModelSpec, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what compressed pieces hold. `deflate` comes with a header, and from some servers without."""
    try:
        packed, begun, waiting = zlib.decompressobj(_ZLIB_OR_GZIP), False, b""
        for piece in pieces:
            waiting = piece if begun else waiting + piece
            if not begun and len(waiting) < _HEADER:
                continue
            while waiting and not packed.eof:
                try:
                    plain = packed.decompress(waiting, _PIECE)
                except zlib.error:
                    if begun:
                        raise
                    packed = zlib.decompressobj(_RAW)
                    plain = packed.decompress(waiting, _PIECE)
                begun = True
                waiting = packed.unconsumed_tail
                if plain:
                    yield plain
        yield packed.flush(_PIECE)
    except zlib.error:
        raise temporary(model, f"sends a compressed answer that is damaged: {SEE_LOG}") from None
