"""Feedback on served answers in the order in which it came, and the virtual queue over it.

The queue is the plain recursion Q ← max(0, Q + α − s) over all feedback, to the last bit. A correction changes one step
of it. So after every BLOCK feedbacks the queue is stored as a checkpoint, with the steps that led to it packed. A
correction starts from the checkpoint before it, and ends as soon as it meets a stored checkpoint again: from there on
nothing changes. If it never does, it runs over packed steps, which takes some ten nanoseconds each.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from messctl.learning.virtual_queue import advance
from messctl.state.columns import MOST, shown
from messctl.state.database import Database, Row
from messctl.state.sums import FEEDBACK, SERVED, TOLERANCE, KeptSums

BLOCK = 512
"""The number of feedbacks from one checkpoint to the next."""
MOST_BLOCKS = 8
"""How many blocks are read at a time."""
STEP = struct.Struct("<dd")
"""A packed step: α, and the satisfaction with its sign turned."""

Step = tuple[int, float, float]
"""A feedback: its place, the α aimed at, and the satisfaction."""
Packed = npt.NDArray[np.float64]
"""Packed steps as numbers, or several blocks of them."""


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
        return walked(queue, _unpacked(_packed(self._steps(last))))

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
        due = {last: computed[last] for last in places[BLOCK - 1 :: BLOCK]}
        kept = {row["last"]: row["queue"] for row in self._database.table("checkpoints")}
        if kept != due:
            wrong = sum(kept.get(last) != due.get(last) for last in {*kept, *due})
            found.append(f"{wrong} checkpoints of the queue are not what its recursion gives")
        ends = [0, *due]
        steps = {end: _packed(self._steps(start, end)) for start, end in pairwise(ends)}
        packed = {row["last"]: row["packed"] for row in self._database.table("steps")}
        if packed != steps:
            wrong = sum(packed.get(last) != steps.get(last) for last in {*packed, *steps})
            found.append(f"{wrong} blocks of packed steps are not those of the feedback")
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
        self._database.execute("INSERT INTO checkpoints VALUES (?, ?)", (end, walked(queue, _unpacked(packed))))
        return True

    def _repack(self, changed: int, satisfied: float) -> None:
        """Bring up to date all checkpoints that a changed feedback, by its place, leads to."""
        before, queue = self._checkpoint(changed)
        blocks = self._blocks(before, 1)
        if not blocks:
            return
        last, steps, _ = blocks[0]
        earlier = sum(
            1 for _ in self._database.rows("SELECT 1 FROM feedback WHERE id > ? AND id < ?", (before, changed))
        )
        if earlier >= BLOCK:
            raise self._database.damage(f"the checkpoint of the queue after feedback {last} comes too late")
        steps[2 * earlier + 1] = -satisfied
        self._database.execute("UPDATE steps SET packed = ? WHERE last = ?", (steps.astype("<f8").tobytes(), last))
        count = 1
        while blocks := self._blocks(before, count):
            queues = walked_blocks(queue, np.stack([steps for _, steps, _ in blocks]))
            old = [kept for _, _, kept in blocks]
            same = next((at for at, kept in enumerate(old) if kept == queues[at]), len(old))
            ends = [last for last, _, _ in blocks]
            self._database.execute_many(
                "UPDATE checkpoints SET queue = ? WHERE last = ?", list(zip(queues[:same], ends[:same], strict=True))
            )
            if same < len(old):
                return
            before, queue, count = ends[-1], queues[-1], MOST_BLOCKS

    def _checkpoint(self, before: int = MOST) -> tuple[int, float]:
        """Return the place and the queue of the last checkpoint before a place; 0 and 0.0 if there is none."""
        found = self._database.table("checkpoints", "WHERE last < ? ORDER BY last DESC LIMIT 1", (before,))
        return (found[0]["last"], found[0]["queue"]) if found else (0, 0.0)

    def _steps(self, after: int, last: int = MOST, limit: int = -1) -> Iterator[Step]:
        """Yield the steps after a place, up to the `last` place, or a number of them."""
        return self._database.read(
            _step,
            "SELECT feedback.id AS id, alpha, satisfied FROM feedback JOIN requests ON requests.id = request "
            "WHERE feedback.id > ? AND feedback.id <= ? ORDER BY feedback.id LIMIT ?",
            (after, last, limit),
        )

    def _blocks(self, after: int, count: int) -> list[tuple[int, Packed, float]]:
        """Return a number of blocks after a place: the last place of each, its steps, and the queue after it."""
        query = "SELECT * FROM steps JOIN checkpoints USING (last) WHERE last > ? ORDER BY last LIMIT ?"
        return list(self._database.read(_block, query, (after, count)))


def walked(queue: float, steps: Packed) -> float:
    """Return the queue after n steps, (2 n,): each is α, then the satisfaction with its sign turned."""
    path = np.add.accumulate(np.concatenate(([queue], steps)))
    if (path >= 0.0).all():  # nothing is cut off at 0, so the recursion is this sum, addition by addition
        return float(path[-1])
    for alpha, less in zip(steps[0::2].tolist(), steps[1::2].tolist(), strict=True):
        queue = max(0.0, queue + alpha + less)
    return queue


def walked_blocks(queue: float, blocks: Packed) -> list[float]:
    """Return the queue after each of k blocks of n steps, (k, 2 n), one after the other."""
    width = blocks.shape[1]
    queues: list[float] = []
    while len(queues) < len(blocks):
        rest = blocks[len(queues) :]
        path = np.add.accumulate(np.concatenate(([queue], rest.ravel())))
        below = np.flatnonzero(path < 0.0)
        whole = (int(below[0]) - 1) // width if len(below) else len(rest)
        queues += path[width : whole * width + 1 : width].tolist()
        if whole < len(rest):
            queues.append(walked(queues[-1] if whole else queue, rest[whole]))
        queue = queues[-1]
    return queues


def _step(row: Row) -> Step:
    place, alpha, satisfied = row
    if not (0.0 <= alpha <= 1.0 and 0.0 <= satisfied <= 1.0):
        raise ValueError(f"feedback {place} is {shown(satisfied)} under an α of {shown(alpha)}")
    return place, alpha, satisfied


def _block(row: Row) -> tuple[int, Packed, float]:
    steps = _unpacked(row["packed"])
    if len(steps) != 2 * BLOCK or not np.isfinite(steps).all() or not isinstance(row["queue"], float):
        raise ValueError(f"the checkpoint of the queue after feedback {row['last']}")
    return row["last"], steps, row["queue"]


def _packed(steps: Iterable[Step]) -> bytes:
    return b"".join(STEP.pack(alpha, -satisfied) for _, alpha, satisfied in steps)


def _unpacked(packed: bytes) -> Packed:
    return np.frombuffer(packed, "<f8").astype(np.float64)
