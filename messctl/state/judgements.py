"""Feedback on served answers in the order in which it came, and the virtual queue over it.

The queue is the plain recursion Q ← max(0, Q + α − s) over all feedback, to the last bit. A correction changes one step
of it. So after every BLOCK feedbacks the queue is stored as a checkpoint, with the steps that led to it packed. A
correction goes from checkpoint to checkpoint, and ends as soon as it meets a stored one: from there on nothing changes.

If the debt only grew, it never does. Then the corrected queue runs beside the stored one, and mostly at one distance:
as long as both stay between the same two powers of two, each step adds the same to both, since floats are evenly spaced
there and nothing is cut off at 0. A block that is known to be like that is not walked; see `Walk` and `shifted`.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from messctl.learning.virtual_queue import advance
from messctl.state.columns import MOST, shown
from messctl.state.database import Database, Row
from messctl.state.sums import FEEDBACK, SERVED, TOLERANCE, KeptSums

BLOCK = 512
"""The number of feedbacks from one checkpoint to the next."""
MOST_CHECKPOINTS = 256
"""How many checkpoints are read at a time."""
NONE = -9999
"""No exponent of a float."""
STEP = struct.Struct("<dd")
"""A packed step: α, and the satisfaction with its sign turned."""

Step = tuple[int, float, float]
"""A feedback: its place, the α aimed at, and the satisfaction."""
Packed = npt.NDArray[np.float64]
"""Packed steps as numbers."""


class Walk(NamedTuple):
    """What a block of steps does to the queue: the queue after it, and the range of all sums on the way.

    The range is 0.0 to 0.0 unless a queue at another distance would take the same way at that distance, as long as its
    range ends between the same powers of two. Each addition then rounds by the same amount in both.
    """

    queue: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class FeedbackSums:
    """The number of answers with feedback, and the sums of their satisfaction and of the α aimed at."""

    count: int
    satisfied: float
    alpha: float


class Judgements:
    """The feedback on served answers. Write inside a transaction of the store. Every method raises StoreError."""

    def __init__(self, database: Database, sums: KeptSums) -> None:
        self._database = database
        self._sums = sums

    def set(self, request: int, satisfied: float) -> float | None:
        """Store feedback, 0..1, on a request, by its key. Return the earlier one that it corrects, None without."""
        now = time.time()
        found = self._database.table("feedback", "WHERE request = ?", (request,))
        with self._sums.following(request, FEEDBACK, SERVED):
            if not found:
                self._database.execute(
                    "INSERT INTO feedback (request, satisfied, given_at) VALUES (?, ?, ?)", (request, satisfied, now)
                )
            else:
                self._database.execute(
                    "UPDATE feedback SET satisfied = ?, corrected_at = ? WHERE request = ?", (satisfied, now, request)
                )
        if not self.sums().count:
            raise self._database.damage("no feedback is counted")
        if not found:
            self._pack()
            return None
        earlier = float(found[0]["satisfied"])
        if satisfied != earlier:
            self._repack(int(found[0]["id"]), satisfied)
        return earlier

    def sums(self) -> FeedbackSums:
        """Return the sums over all feedback."""
        rows = self._sums.rows(FEEDBACK)
        judged, satisfied, alpha = (sum(row[name] for row in rows) for name in ("judged", "satisfied", "alpha"))
        most = judged * (1.0 + TOLERANCE)
        if not (-TOLERANCE <= satisfied <= most and -TOLERANCE <= alpha <= most):
            raise self._database.damage(f"{judged} feedbacks add up to {satisfied:g}, and their α to {alpha:g}")
        return FeedbackSums(judged, min(float(judged), max(0.0, satisfied)), alpha)

    def queue(self) -> float:
        """Return the queue after all feedback: from the last checkpoint on."""
        last, queue = self._checkpoint()
        return walked(queue, _unpacked(_packed(self._steps(last)))).queue

    def recursion(self) -> Iterator[tuple[int, float]]:
        """Yield the place of each feedback, and the queue after it, from the very first on."""
        queue = 0.0
        for place, alpha, satisfied in self._steps(0):
            queue = advance.plain(queue, alpha, satisfied)
            yield place, queue

    def fill(self) -> None:
        """Compute all checkpoints from the feedback."""
        for table in ("steps", "checkpoints"):
            self._database.execute(f"DELETE FROM {table}")
        while self._pack():
            pass

    def check(self, queue: float) -> list[str]:
        """Return what is wrong with a queue and with the checkpoints, one line each."""
        computed = dict(self.recursion())
        places = list(computed)
        recomputed = computed[places[-1]] if places else 0.0
        found = []
        if queue != recomputed:
            found.append(f"the queue is {queue!r}, but its recursion over the stored feedback gives {recomputed!r}")
        ends = [0, *places[BLOCK - 1 :: BLOCK]]
        steps = {end: _packed(self._steps(start, end)) for start, end in pairwise(ends)}
        packed = {row["last"]: row["packed"] for row in self._database.table("steps")}
        if packed != steps:
            wrong = sum(packed.get(last) != steps.get(last) for last in {*packed, *steps})
            found.append(f"{wrong} blocks of packed steps are not those of the feedback")
        computed[0] = 0.0
        due = {
            end: (computed[end], *walked(computed[start], _unpacked(steps[end]))[1:]) for start, end in pairwise(ends)
        }
        kept = dict(self._checkpoints(0, -1))
        if kept != due:
            wrong = sum(kept.get(last) != due.get(last) for last in {*kept, *due})
            found.append(f"{wrong} checkpoints of the queue are not what its recursion gives")
        return found

    def _pack(self) -> bool:
        """Store a checkpoint if BLOCK feedbacks have come since the last one, and return whether they have."""
        last, queue = self._checkpoint()
        more = self._database.row("SELECT count(*) FROM (SELECT 1 FROM feedback WHERE id > ? LIMIT ?)", (last, BLOCK))
        if more is None or more[0] < BLOCK:
            return False
        block = list(self._steps(last, limit=BLOCK))
        end, packed = block[-1][0], _packed(block)
        self._database.execute("INSERT INTO steps VALUES (?, ?)", (end, packed))
        walk = walked(queue, _unpacked(packed))
        self._database.execute("INSERT INTO checkpoints VALUES (?, ?, ?, ?)", (end, *walk))
        return True

    def _repack(self, changed: int, satisfied: float) -> None:
        """Bring up to date all checkpoints that a changed feedback, by its place, leads to."""
        before, queue = self._checkpoint(changed)
        old, count, first = queue, 1, True
        while kept := self._checkpoints(before, count):
            stored = np.array([walk for _, walk in kept])
            new, at = stored.copy(), 0
            while at < len(kept) and (first or queue != old):
                same = shifted(stored[at:], queue - old) if not first else stored[:0]
                if len(same):
                    new[at : at + len(same)] = same
                    at += len(same)
                else:
                    if first:
                        self._patch(before, kept[at][0], changed, satisfied)
                    new[at] = walked(queue, self._block(kept[at][0]))
                    at, first = at + 1, False
                before, queue, old = kept[at - 1][0], float(new[at - 1, 0]), float(stored[at - 1, 0])
            self._database.execute_many(
                "UPDATE checkpoints SET queue = ?, low = ?, high = ? WHERE last = ?",
                [(*walk, last) for walk, (last, _) in zip(new[:at].tolist(), kept[:at], strict=True)],
            )
            if queue == old:
                return
            count = MOST_CHECKPOINTS

    def _patch(self, before: int, last: int, changed: int, satisfied: float) -> None:
        """Change one step of the block between two checkpoints."""
        steps = self._block(last)
        between = self._database.rows("SELECT 1 FROM feedback WHERE id > ? AND id < ?", (before, changed))
        earlier = sum(1 for _ in between)
        if earlier >= BLOCK:
            raise self._database.damage(f"the checkpoint of the queue after feedback {last} comes too late")
        steps[2 * earlier + 1] = -satisfied
        self._database.execute("UPDATE steps SET packed = ? WHERE last = ?", (steps.astype("<f8").tobytes(), last))

    def _checkpoint(self, before: int = MOST) -> tuple[int, float]:
        """Return the place and the queue of the last checkpoint before a place; 0 and 0.0 if there is none."""
        query = "SELECT * FROM checkpoints WHERE last < ? ORDER BY last DESC LIMIT 1"
        for last, walk in self._database.read(_walk, query, (before,)):
            return last, walk.queue
        return 0, 0.0

    def _checkpoints(self, after: int, count: int) -> list[tuple[int, Walk]]:
        """Return a number of checkpoints after a place: the last place of each, and what leads to it."""
        query = "SELECT * FROM checkpoints WHERE last > ? ORDER BY last LIMIT ?"
        return list(self._database.read(_walk, query, (after, count)))

    def _steps(self, after: int, last: int = MOST, limit: int = -1) -> Iterator[Step]:
        """Yield the steps after a place, up to the `last` place, or a number of them."""
        return self._database.read(
            _step,
            "SELECT feedback.id AS id, alpha, satisfied FROM feedback JOIN requests ON requests.id = request "
            "WHERE feedback.id > ? AND feedback.id <= ? ORDER BY feedback.id LIMIT ?",
            (after, last, limit),
        )

    def _block(self, last: int) -> Packed:
        """Return the packed steps that lead to a checkpoint."""
        found = self._database.table("steps", "WHERE last = ?", (last,))
        steps = _unpacked(found[0]["packed"]) if found and len(found[0]["packed"]) == BLOCK * STEP.size else None
        if steps is None or not np.isfinite(steps).all():
            raise self._database.damage(f"the packed steps up to feedback {last}")
        return steps


def walked(queue: float, steps: Packed) -> Walk:
    """Return what n steps, (2 n,), do to a queue: each is α, then the satisfaction with its sign turned."""
    path = np.add.accumulate(np.concatenate(([queue], steps)))
    low, high = float(path.min()), float(path.max())
    if low >= 0.0:  # nothing is cut off at 0, so the recursion is this sum, addition by addition
        return Walk(float(path[-1]), *((low, high) if _evenly_spaced(low, high, steps) else (0.0, 0.0)))
    for alpha, less in zip(steps[0::2].tolist(), steps[1::2].tolist(), strict=True):
        queue = max(0.0, queue + alpha + less)
    return Walk(queue, 0.0, 0.0)


def shifted(walks: Packed, by: float) -> Packed:
    """Return the first few of k walks, (k, 3), from a queue that is larger by this much.

    They end before the first walk that may not be the same at this distance.
    """
    moved = walks + by
    exponents = _exponents(moved[:, 1], moved[:, 2])
    same = (exponents == _exponents(walks[:, 1], walks[:, 2])) & (exponents != NONE)
    return moved if same.all() else moved[: int(same.argmin())]


def _exponents(low: Packed, high: Packed) -> npt.NDArray[np.int32]:
    """Return the e for which all floats from `low` to `high` lie between 2^(e − 1) and 2^e; NONE if there is none.

    Both powers are left out. A sum just below a power of two is rounded to finer floats than one just above it.
    """
    mantissa, exponent = np.frexp(low)
    return np.where((mantissa > 0.5) & (np.frexp(high)[1] == exponent), exponent, NONE)


def _evenly_spaced(low: float, high: float, steps: Packed) -> bool:
    """Return whether all floats from `low` to `high` are evenly spaced, and no step lies halfway between two of them.

    What lies halfway is rounded to the even one of the two, so it depends on where the queue is.
    """
    exponent = int(_exponents(np.array([low]), np.array([high]))[0])
    if exponent == NONE or low < 1.0:
        return False
    in_spacings = steps * 2.0 ** (53 - exponent)
    return not (np.abs(in_spacings - np.trunc(in_spacings)) == 0.5).any()


def _walk(row: Row) -> tuple[int, Walk]:
    last, queue, low, high = row
    if not (0.0 <= queue < math.inf and 0.0 <= low <= high < math.inf):
        raise ValueError(f"the checkpoint of the queue after feedback {last} is {shown(queue)}")
    return last, Walk(queue, low, high)


def _step(row: Row) -> Step:
    place, alpha, satisfied = row
    if not (0.0 <= alpha <= 1.0 and 0.0 <= satisfied <= 1.0):
        raise ValueError(f"feedback {place} is {shown(satisfied)} under an α of {shown(alpha)}")
    return place, alpha, satisfied


def _packed(steps: Iterable[Step]) -> bytes:
    return b"".join(STEP.pack(alpha, -satisfied) for _, alpha, satisfied in steps)


def _unpacked(packed: bytes) -> Packed:
    return np.frombuffer(packed, "<f8").astype(np.float64)
