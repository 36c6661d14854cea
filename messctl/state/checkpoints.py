"""Checkpoints of the virtual queue: what it is after every block of feedback, and what led to it.

A row of the table holds up to FULL of them, packed, so that a correction which changes all later ones writes few rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from messctl.state.columns import MOST
from messctl.state.database import Database, Row
from messctl.state.pruned import base
from messctl.state.walks import Numbers, Walk

FULL = 120
"""The most checkpoints in a row: what a page of the file has room for."""
SIZE = 4
"""The numbers of a checkpoint: its place, and its walk."""
WRITE = "INSERT INTO checkpoints VALUES (?, ?) ON CONFLICT (first) DO UPDATE SET packed = excluded.packed"


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive checkpoints: the places of the feedback that they come after, (k,), and their walks, (k, 3)."""

    places: Numbers
    walks: Numbers

    @property
    def numbers(self) -> Numbers:
        """The place and the walk of each, (k, 4)."""
        return np.column_stack((self.places, self.walks))


class Checkpoints:
    """The stored checkpoints, in the order of their places. Write inside a transaction of the store.

    Every method raises StoreError.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def before(self, place: int = MOST) -> tuple[int, float]:
        """Return the last checkpoint before a place, or else the base: its own place, and the queue."""
        part = self._part("first < ? ORDER BY first DESC", place)
        if part is None:
            start = base(self._database)
            return start.place, start.queue
        at = int(np.searchsorted(part.places, place)) - 1
        return int(part.places[at]), float(part.walks[at, 0])

    def after(self, place: int) -> Iterator[tuple[Part, int]]:
        """Yield the parts with checkpoints after a place, each with the number of its checkpoints that are not."""
        part = self._part("first <= ? ORDER BY first DESC", place) or self._part("first > ? ORDER BY first", place)
        while part is not None:
            start = int(np.searchsorted(part.places, place, "right"))
            if start < len(part.places):
                yield part, start
            part = self._part("first > ? ORDER BY first", int(part.places[-1]))

    def add(self, place: int, walk: Walk) -> None:
        """Add one after all others."""
        last = self._part("first < ? ORDER BY first DESC", place)
        if last is None or len(last.places) >= FULL:
            self.write(Part(np.array([place], np.float64), np.array([walk])))
        else:
            self.write(Part(np.append(last.places, place), np.vstack((last.walks, walk))))

    def write(self, part: Part) -> None:
        """Write a part in place of what begins at the same place."""
        packed = part.numbers.astype("<f8").tobytes()
        self._database.execute(WRITE, (int(part.places[0]), packed))

    def drop(self, place: int = MOST) -> None:
        """Delete all up to a place."""
        last = self._part("first <= ? ORDER BY first DESC", place)
        self._database.execute("DELETE FROM checkpoints WHERE first <= ?", (place,))
        if last is not None:
            kept = int(np.searchsorted(last.places, place, "right"))
            if kept < len(last.places):
                self.write(Part(last.places[kept:], last.walks[kept:]))

    def _part(self, where: str, place: int) -> Part | None:
        """Return the first part that a condition on its first place selects."""
        return next(self._database.read(_part, f"SELECT * FROM checkpoints WHERE {where} LIMIT 1", (place,)), None)


def _part(row: Row) -> Part:
    first, packed = row
    if not packed or len(packed) % (8 * SIZE):
        raise ValueError(f"the checkpoints of the queue from feedback {first} on have {len(packed)} bytes")
    numbers = np.frombuffer(packed, "<f8").astype(np.float64).reshape(-1, SIZE)
    places, walks = numbers[:, 0], numbers[:, 1:]
    ordered = places[0] == first and (places[1:] > places[:-1]).all() and (walks[:, 1] <= walks[:, 2]).all()
    if not (ordered and numbers.min() >= 0.0 and numbers.max() < math.inf):
        raise ValueError(f"the checkpoints of the queue from feedback {first} on hold what they cannot")
    return Part(places, walks)
