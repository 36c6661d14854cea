"""A memory of the latest keys: older ones are forgotten, so that it never grows without end."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

Value = TypeVar("Value")
Key = tuple[str, str]
"""A name that belongs to one account: the account's own name, and that name."""


class Latest(Generic[Value]):
    """The values of the latest keys, at most `most` of them. Thread-safe."""

    def __init__(self, most: int) -> None:
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._most = most
        self._lock = threading.Lock()

    def set(self, key: Key, value: Value) -> None:
        """Remember a value; its key is the latest now."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self._most:
                self._values.popitem(last=False)

    def get(self, key: Key | None) -> Value | None:
        """Return the value of a key; None if it is not remembered."""
        with self._lock:
            return None if key is None else self._values.get(key)
