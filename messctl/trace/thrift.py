"""Thrift's compact protocol, in which Parquet writes what it says about its contents.

Source: Thrift's specification, "Thrift compact protocol encoding".
"""

from __future__ import annotations

from collections.abc import Iterator

STOP, TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(13)
_DEEPEST = 16


class ThriftError(Exception):
    """The bytes follow no valid structure."""


class Compact:
    """Reads one value after the other. A read beyond the end raises IndexError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def fields(self) -> Iterator[tuple[int, int]]:
        """Yield the number and the kind of each field of a struct. Its value must be read before the next one."""
        number = 0
        while (head := self._byte()) != STOP:
            number = number + (head >> 4) if head >> 4 else self.whole()
            yield number, head & 15

    def whole(self) -> int:
        """Return a whole number with a sign."""
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)

    def items(self) -> tuple[int, int]:
        """Return the number of items in a list, and their kind. The items follow."""
        head = self._byte()
        count = head >> 4
        return (self._unsigned() if count == 15 else count), head & 15

    def skip(self, kind: int, depth: int = 0) -> None:
        """Skip a value."""
        if depth > _DEEPEST:
            raise ThriftError
        if kind in (I16, I32, I64):
            self._unsigned()
        elif kind in (BYTE, DOUBLE):
            self.position += 1 if kind == BYTE else 8
        elif kind == BINARY:
            length = self._unsigned()
            self.position += length
        elif kind in (LIST, SET):
            count, of = self.items()
            for _ in range(count):
                self.skip(BYTE if of in (TRUE, FALSE) else of, depth + 1)
        elif kind == STRUCT:
            for _, of in self.fields():
                self.skip(of, depth + 1)
        elif kind not in (TRUE, FALSE):
            raise ThriftError

    def _byte(self) -> int:
        self.position += 1
        return self._data[self.position - 1]

    def _unsigned(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ThriftError
