"""Checkpoints of the virtual queue: what it is after every block of feedback, and what led to it.

A row of the table holds up to FULL of them, packed, so that a correction which changes all later ones writes few rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from messctl.state.columns import MOST
from messctl.state.database import ROW_ERRORS, Database, Row
from messctl.state.pruned import base
from messctl.state.walks import WALK, Numbers

FULL = 120
"""The most checkpoints in a row: what a page of the file has room for."""
AT_ONCE = 4
"""The most rows that are read at once: a correction may end early, so it begins with fewer."""
SIZE = 1 + WALK
"""The numbers of a checkpoint: its place, and its walk."""
FROM = "first >= (SELECT coalesce(max(first), 0) FROM checkpoints WHERE first <= ?) ORDER BY first"
"""Selects the row that has a place within its range, or begins after it, and all later ones."""
LAST = "first < ? ORDER BY first DESC"
"""Selects the last row that begins before a place."""
READ = "SELECT * FROM checkpoints WHERE {} LIMIT ?"
WRITE = "INSERT INTO checkpoints VALUES (?, ?) ON CONFLICT (first) DO UPDATE SET packed = excluded.packed"


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive checkpoints: `numbers`, (k, 4), are the place of the feedback that each comes after, and its walk.

    `rows` says for each row of the table that they come from which of them is its first.
    """

    numbers: Numbers
    rows: tuple[int, ...] = (0,)

    @property
    def places(self) -> Numbers:
        """The places, (k,)."""
        return self.numbers[:, 0]

    @property
    def walks(self) -> Numbers:
        """The walks, (k, 3)."""
        return self.numbers[:, 1:]

    def copy(self) -> Part:
        """Return a copy whose walks may be changed."""
        return Part(self.numbers.copy(), self.rows)


class Checkpoints:
    """The stored checkpoints, in the order of their places. Write inside a transaction of the store.

    Every method raises StoreError.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def before(self, place: int = MOST) -> tuple[int, float]:
        """Return the last checkpoint before a place, or else the base: its own place, and the queue."""
        found = self._database.remembered("checkpoints", self._last) if place == MOST else self._last(place)
        if found is None:
            start = base(self._database)
            return start.place, start.queue
        return found

    def after(self, place: int) -> Iterator[tuple[Part, int]]:
        """Yield the parts with checkpoints after a place, each with the number of its checkpoints that are not."""
        part, wanted = self._part(FROM, place, 2), 2
        while part is not None:
            start = int(np.searchsorted(part.places, place, "right"))
            if start < len(part.places):
                yield part, start
            if len(part.rows) < wanted:
                return
            wanted = min(2 * wanted, AT_ONCE)
            part = self._part("first > ? ORDER BY first", int(part.places[-1]), wanted)

    def add(self, place: int, walk: Numbers) -> None:
        """Add one after all others, with its walk, (3,)."""
        last, new = self._part(LAST, place), np.array([[place, *walk]])
        if last is None or len(last.numbers) >= FULL:
            self._write([new])
        else:
            self._write([np.concatenate((last.numbers, new))])

    def change(self, part: Part, changed: Part) -> None:
        """Write those rows of a part whose walks have changed."""
        bounds = pairwise((*part.rows, len(part.numbers)))
        rows = [(part.numbers[begin:end], changed.numbers[begin:end]) for begin, end in bounds]
        self._write([new for old, new in rows if (new != old).any()])

    def drop(self, place: int = MOST) -> None:
        """Delete all up to a place."""
        last = self._part("first <= ? ORDER BY first DESC", place)
        self._database.execute("DELETE FROM checkpoints WHERE first <= ?", (place,))
        if last is not None:
            kept = int(np.searchsorted(last.places, place, "right"))
            if kept < len(last.places):
                self._write([last.numbers[kept:]])

    def _last(self, place: int = MOST) -> tuple[int, float] | None:
        """Return the last one before a place, and the queue, None without any."""
        if place == MOST:
            self._database.expect("checkpoints", READ.format(LAST), (place, 1))
        part = self._part(LAST, place)
        if part is None:
            return None
        at = int(np.searchsorted(part.places, place)) - 1
        return int(part.places[at]), float(part.walks[at, 0])

    def _write(self, rows: Sequence[Numbers]) -> None:
        self._database.execute_many(WRITE, [(int(row[0, 0]), row.astype("<f8").tobytes()) for row in rows])

    def _part(self, where: str, place: int, most: int = 1) -> Part | None:
        """Return the first rows that a condition on their first places selects, `most` at most; None without any."""
        rows = list(self._database.rows(READ.format(where), (place, most)))
        if not rows:
            return None
        try:
            return _part(rows)
        except ROW_ERRORS as error:
            raise self._database.damage(str(error)) from error


def _part(rows: Sequence[Row]) -> Part:
    lengths = [len(row["packed"]) for row in rows]
    for row, length in zip(rows, lengths, strict=True):
        if not length or length % (8 * SIZE):
            raise ValueError(f"the checkpoints of the queue from feedback {row['first']} on have {length} bytes")
    numbers = np.frombuffer(b"".join(row["packed"] for row in rows), "<f8").astype(np.float64).reshape(-1, SIZE)
    part = Part(numbers, tuple(accumulate((length // (8 * SIZE) for length in lengths[:-1]), initial=0)))
    ordered = (part.places[1:] > part.places[:-1]).all() and (part.walks[:, 1] <= part.walks[:, 2]).all()
    firsts = part.places[list(part.rows)].tolist() == [row["first"] for row in rows]
    if not (ordered and firsts and numbers.min() >= 0.0 and numbers.max() < math.inf):
        raise ValueError(f"the checkpoints of the queue from feedback {rows[0]['first']} on hold what they cannot")
    return part
