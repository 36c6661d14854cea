"""Feedback on served answers in the order in which it came, and the virtual queue over it.

The queue is the plain recursion Q ← max(0, Q + α − s) over all feedback, to the last bit. A correction changes one step
of it. So after every BLOCK feedbacks the queue is stored as a checkpoint, with the steps that led to it packed. A
correction goes from checkpoint to checkpoint, and ends as soon as it meets a stored one: from there on nothing changes.
If the debt only grew, it never does. Then most of the way is not walked, but shifted; see `messctl.state.walks`. What
is left to walk is read ahead, ever more at once, so that a long way takes few statements.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice, pairwise, takewhile

import numpy as np

from messctl.learning.virtual_queue import advance
from messctl.state.blocks import Step, block_of, packed, unpacked
from messctl.state.checkpoints import Checkpoints, Part
from messctl.state.columns import MOST, shown
from messctl.state.database import ROW_ERRORS, Database, Row
from messctl.state.pruned import STEPS, Base, base
from messctl.state.sums import ANSWERS, FEEDBACK, SERVED, TOLERANCE, KeptSums, Summed
from messctl.state.walks import Numbers, shifted, walked

BLOCK = 512
"""The number of feedbacks from one checkpoint to the next."""
AHEAD = 64
"""The most blocks of steps that a correction reads at once."""
PLACES = (
    "SELECT id FROM feedback WHERE id > ? AND id < ? UNION ALL SELECT id FROM pruned_feedback WHERE id > ? AND id < ?"
)
"""The places of feedback between two places, twice each."""
CORRECT = (
    "UPDATE feedback SET satisfied = ?, corrected_at = (SELECT CASE WHEN newest < ? THEN ? ELSE newest + 0.001 END "
    "FROM (SELECT coalesce(max(corrected_at), 0.0) AS newest FROM feedback WHERE corrected_at IS NOT NULL) AS earlier) "
    "WHERE request = ?"
)
"""A correction comes after all others, also if a clock goes back: that is how the curve of a promise finds it."""


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
        self._checkpoints = Checkpoints(database)

    def set(self, request: Summed, satisfied: float) -> float | None:
        """Store feedback, 0..1, on a request. Return the earlier one that it corrects, None without."""
        now, earlier = time.time(), request.satisfied
        if request.judged is None:
            self._database.gather(
                "INSERT INTO feedback (request, satisfied, given_at) VALUES (?, ?, ?)", (request.id, satisfied, now)
            )
        else:
            self._database.execute(CORRECT, (satisfied, now, now, request.id))
            if satisfied != earlier:
                self._repack(request.judged, satisfied)
        self._sums.judged(request, satisfied)
        count = self.sums().count
        if not count:
            raise self._database.damage("no feedback is counted")
        if request.judged is None and count % BLOCK == 0:
            self._database.later(self._pack_all)
        return earlier

    def sums(self) -> FeedbackSums:
        """Return the sums over all feedback."""
        rows = self._sums.rows(FEEDBACK)
        judged, satisfied, alpha = (sum(row[name] for row in rows) for name in ("judged", "satisfied", "alpha"))
        most = judged * (1.0 + TOLERANCE)
        if not (-TOLERANCE <= satisfied <= most and -TOLERANCE <= alpha <= most):
            raise self._database.damage(f"{judged} feedbacks add up to {satisfied:g}, and their α to {alpha:g}")
        return FeedbackSums(judged, min(float(judged), max(0.0, satisfied)), alpha)

    def read_ahead(self) -> None:
        """Read what an answer and its grade will be added to: if that is damaged, no model is asked and paid."""
        self._database.remembered("what an answer is added to", self._read_ahead)

    def _read_ahead(self) -> None:
        for table in (SERVED, ANSWERS):
            self._sums.rows(table)
        self.sums()
        self._checkpoints.before()

    def queue(self) -> float:
        """Return the queue after all feedback: from the last checkpoint on."""
        last, queue = self._checkpoints.before()
        steps = block_of(self._steps(last))
        return float(walked(queue, [steps])[0, 0]) if steps.size else queue

    def recent(self, count: int) -> list[tuple[float, float]]:
        """Return the satisfaction of each of the newest `count` feedbacks, oldest first, and the queue after it."""
        query = "SELECT min(id) FROM (SELECT id FROM feedback ORDER BY id DESC LIMIT ?) AS newest"
        found = self._database.row(query, (count,))
        first = found[0] if found else None
        if first is None:
            return []
        last, queue = self._checkpoints.before(first)
        course = []
        for place, alpha, satisfied in self._steps(last):
            queue = advance.plain(queue, alpha, satisfied)
            if place >= first:
                course.append((satisfied, queue))
        return course

    def recursion(self) -> Iterator[tuple[int, float]]:
        """Yield the place of each feedback, and the queue after it: from the base on, or else from the very first."""
        start = base(self._database)
        queue = start.queue
        for place, alpha, satisfied in self._steps(start.place):
            queue = advance.plain(queue, alpha, satisfied)
            yield place, queue

    def fill(self) -> None:
        """Compute all checkpoints from the feedback."""
        self._database.execute("DELETE FROM steps")
        self._checkpoints.drop()
        self._pack_all()

    def blocks(self, after: int) -> Iterator[tuple[int, float, float, float]]:
        """Yield each block of feedback after a checkpoint's place, or after the base.

        That is the place of its last feedback, the sums of the satisfaction and of α, and the queue after it.
        """
        for part, start in self._checkpoints.after(after):
            places, queues = part.places[start:].tolist(), part.walks[start:, 0].tolist()
            blocks = self._blocks("last >= ? AND last <= ?", (places[0], places[-1]))
            if list(blocks) != places:
                raise self._database.damage(f"the packed steps from feedback {places[0]:g} on")
            for (last, steps), queue in zip(blocks.items(), queues, strict=True):
                yield last, float(-steps[1::2].sum()), float(steps[0::2].sum()), queue

    def fold(self, first: int) -> Base:
        """Forget the steps that no correction needs, if `first` is the first place that may still be corrected.

        Returns the base that they lead to. The caller stores it in the same transaction.
        """
        start = base(self._database)
        place, queue = self._checkpoints.before(first)
        if place <= start.place:
            return start
        at = self._database.row("SELECT given_at FROM pruned_feedback WHERE id = ?", (place,))
        if at is None:
            raise self._database.damage(f"the feedback {place} is not known")
        judged, satisfied, alpha = start.judged, start.satisfied, start.alpha
        for steps in self._blocks("last <= ?", (place,)).values():
            judged, satisfied, alpha = judged + BLOCK, satisfied - steps[1::2].sum(), alpha + steps[0::2].sum()
        for statement in ("DELETE FROM steps WHERE last <= ?", "DELETE FROM pruned_feedback WHERE id <= ?"):
            self._database.execute(statement, (place,))
        self._checkpoints.drop(place)
        return Base(place, at["given_at"], judged, float(satisfied), float(alpha), queue)

    def check(self, queue: float) -> list[str]:
        """Return what is wrong with a queue and with the checkpoints, one line each."""
        start = base(self._database)
        computed = dict(self.recursion())
        places = list(computed)
        recomputed = computed[places[-1]] if places else start.queue
        found = []
        if queue != recomputed:
            found.append(f"the queue is {queue!r}, but its recursion over the stored feedback gives {recomputed!r}")
        ends = [start.place, *places[BLOCK - 1 :: BLOCK]]
        blocks = {end: block_of(self._steps(begin, end)) for begin, end in pairwise(ends)}
        steps = {end: packed(block) for end, block in blocks.items()}
        stored = {row["last"]: row["packed"] for row in self._database.table("steps")}
        if stored != steps:
            wrong = sum(stored.get(last) != steps.get(last) for last in {*stored, *steps})
            found.append(f"{wrong} blocks of packed steps are not those of the feedback")
        computed[start.place] = start.queue
        due = {
            end: (computed[end], *walked(computed[begin], [blocks[end]])[0, 1:].tolist())
            for begin, end in pairwise(ends)
        }
        parts = [part for part, _ in self._checkpoints.after(0)]
        kept = {int(place): tuple(walk) for part in parts for place, *walk in part.numbers.tolist()}
        if kept != due:
            wrong = sum(kept.get(last) != due.get(last) for last in {*kept, *due})
            found.append(f"{wrong} checkpoints of the queue are not what its recursion gives")
        return found

    def _pack_all(self) -> None:
        """Store all checkpoints that are due."""
        while self._pack():
            pass

    def _pack(self) -> bool:
        """Store a checkpoint if BLOCK feedbacks have come since the last one, and return whether they have."""
        last, queue = self._checkpoints.before()
        counting = f"SELECT count(*) FROM ({PLACES} LIMIT ?) AS places"
        more = self._database.row(counting, (last, MOST, last, MOST, BLOCK))
        if more is None or more[0] < BLOCK:
            return False
        steps = list(self._steps(last, limit=BLOCK))
        end, block = steps[-1][0], block_of(steps)
        self._database.execute("INSERT INTO steps VALUES (?, ?)", (end, packed(block)))
        self._checkpoints.add(end, walked(queue, [block])[0])
        return True

    def _repack(self, changed: int, satisfied: float) -> None:
        """Bring up to date all checkpoints that a changed feedback, by its place, leads to."""
        before, queue = self._checkpoints.before(changed)
        old, first = queue, True
        for part, start in self._checkpoints.after(before):
            new, at = part.copy(), start
            if first:
                block = self._patched(before, int(part.places[at]), changed, satisfied)
                new.walks[at] = walked(queue, [block])[0]
                queue, old = float(new.walks[at, 0]), float(part.walks[at, 0])
                at, first = at + 1, False
            self._follow(part, new, at, queue, old)
            self._checkpoints.change(part, new)
            queue, old = float(new.walks[-1, 0]), float(part.walks[-1, 0])
            if queue == old:
                return

    def _follow(self, part: Part, new: Part, at: int, queue: float, old: float) -> None:
        """Bring the walks of a `new` part up to date, from one on, before which the queue is another than the `old`.

        What cannot be shifted is walked. The steps of such blocks are read ahead, ever more at once.
        """
        blocks: dict[int, Numbers] = {}
        marked, wanted = [*np.flatnonzero(part.walks[:, 2] == 0.0).tolist(), len(part.numbers)], 1
        while at < len(part.numbers) and queue != old:
            bound = marked[bisect_left(marked, at)]
            walks = shifted(part.walks[at:bound], queue - old) if at < bound else ()
            if not len(walks):
                if at not in blocks:
                    later = (each for each in marked[bisect_right(marked, at) : -1] if each not in blocks)
                    ahead = [at, *islice(later, wanted - 1)]
                    blocks |= dict(zip(ahead, self._blocks_at(part.places[ahead].tolist()), strict=True))
                    wanted = min(4 * wanted, AHEAD)
                walks = walked(queue, [blocks[each] for each in takewhile(blocks.__contains__, count(at))])
            new.walks[at : at + len(walks)] = walks
            at += len(walks)
            queue, old = float(new.walks[at - 1, 0]), float(part.walks[at - 1, 0])

    def _patched(self, before: int, last: int, changed: int, satisfied: float) -> Numbers:
        """Change one step of the block between two checkpoints, and return the block."""
        block = self._blocks_at([last])[0]
        counted = self._database.row(f"SELECT count(*) FROM ({PLACES}) AS places", (before, changed, before, changed))
        earlier = counted[0] if counted else 0
        if earlier >= BLOCK:
            raise self._database.damage(f"the checkpoint of the queue after feedback {last} comes too late")
        block[2 * earlier + 1] = -satisfied
        self._database.execute("UPDATE steps SET packed = ? WHERE last = ?", (packed(block), last))
        return block

    def _steps(self, after: int, last: int = MOST, limit: int = MOST) -> Iterator[Step]:
        """Yield the steps after a place, up to the `last` place, or a number of them."""
        return self._database.read(
            _step,
            f"SELECT id, alpha, satisfied FROM {STEPS} WHERE id > ? AND id <= ? ORDER BY id LIMIT ?",
            (after, last, limit),
        )

    def _blocks_at(self, places: Sequence[float]) -> list[Numbers]:
        """Return the packed steps that lead to the checkpoints at some places, which ascend."""
        blocks = self._blocks(f"last IN ({', '.join('?' * len(places))})", [int(place) for place in places])
        if list(blocks) != list(places):
            raise self._database.damage(f"packed steps up to feedback {places[-1]:g} are missing")
        return list(blocks.values())

    def _blocks(self, where: str, values: Sequence[int]) -> dict[int, Numbers]:
        """Return the packed steps that lead to those checkpoints whose place, `last`, meets a condition, in order."""
        rows = self._database.rows(f"SELECT last, packed FROM steps WHERE {where} ORDER BY last", values)
        try:
            return unpacked(dict(map(tuple, rows)), BLOCK)
        except ROW_ERRORS as error:
            raise self._database.damage(str(error)) from error


def _step(row: Row) -> Step:
    place, alpha, satisfied = row
    if not (0.0 <= alpha <= 1.0 and 0.0 <= satisfied <= 1.0):
        raise ValueError(f"feedback {place} is {shown(satisfied)} under an α of {shown(alpha)}")
    return place, alpha, satisfied
