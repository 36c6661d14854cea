"""The curve of a promise: how it stood after each feedback, in few points, read from the log."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

from messctl.state.database import ROW_ERRORS, Database
from messctl.state.judgements import BLOCK, Judgements
from messctl.state.pruned import STEPS, Base, base
from messctl.state.sums import KeptSums

MOST_POINTS = 400
"""The most points of a curve."""
SINCE = f"SELECT id, given_at, alpha, satisfied FROM {STEPS} WHERE id > ? ORDER BY id"


@dataclass(frozen=True, slots=True)
class Point:
    """How the promise stood after a feedback.

    `place` is the feedback's place in the order of all, `at` its time in seconds since 1970, and `judged` the number of
    answers with feedback. `satisfied` and `alpha` are the sums of their satisfaction and of the α aimed at; `queue` is
    the debt Q.
    """

    place: int
    at: float
    judged: int
    satisfied: float
    alpha: float
    queue: float


NO_FEEDBACK = Point(0, 0.0, 0, 0.0, 0.0, 0.0)


class Curve:
    """How the promise stood over time, in at most `most` points and the latest. It reads each feedback once.

    A long log is read by blocks of feedback, so its first points are farther apart. If an earlier feedback was
    corrected, it reads again from the last point before that. What was pruned is its beginning, and has no points.
    """

    def __init__(self, most: int = MOST_POINTS) -> None:
        self._most = most
        self._base = Base()
        self._points: list[Point] = []
        self._latest = NO_FEEDBACK
        self._stride = 1
        self._corrected_at = 0.0

    def follow(self, database: Database) -> list[Point]:
        """Read what is new, within a transaction, and return the points. Raises StoreError."""
        start = base(database)
        if start != self._base:
            self._forget(start)
        self._go_back(database)
        try:
            self._read_blocks(database)
            self._read(database)
        except ROW_ERRORS as error:
            self._forget(start)
            raise database.damage(str(error)) from error
        whole = self._points[-1:] == [self._latest] or not self._latest.judged
        return list(self._points) if whole else [*self._points, self._latest]

    def _read_blocks(self, database: Database) -> None:
        """Begin a curve of many blocks, each read as a whole."""
        if self._latest != self._begin:
            return
        blocks = list(Judgements(database, KeptSums(database)).blocks(self._latest.place))
        if len(blocks) <= self._most // 8:
            return
        _, _, judged, satisfied, aims, queue = astuple(self._latest)
        while len(blocks) * BLOCK > self._most * self._stride:
            self._stride *= 2
        place = 0
        for place, good, aim, queue in blocks:
            judged, satisfied, aims = judged + BLOCK, satisfied + good, aims + aim
            if judged % self._stride == 0:
                self._points.append(Point(place, _given_at(database, place), judged, satisfied, aims, queue))
        self._latest = Point(place, _given_at(database, place), judged, satisfied, aims, queue)
        self._corrected_at = _newest_correction(database)

    def _read(self, database: Database) -> None:
        """Add what came after the latest point."""
        place, at, judged, satisfied, aims, queue = astuple(self._latest)
        for row in database.scan(SINCE, (place,)):
            place, at, alpha, value = row
            judged, satisfied, aims = judged + 1, satisfied + value, aims + alpha
            queue = max(0.0, queue + alpha - value)
            if judged % self._stride == 0:
                self._points.append(Point(place, at, judged, satisfied, aims, queue))
                if len(self._points) > self._most:
                    self._stride *= 2
                    self._points = [each for each in self._points if each.judged % self._stride == 0]
        if not math.isfinite(at + satisfied + aims + queue):
            raise ValueError(f"a feedback up to {place} is no number")
        self._latest = Point(place, at, judged, satisfied, aims, queue)

    @property
    def _begin(self) -> Point:
        start = self._base
        return Point(start.place, start.given_at, start.judged, start.satisfied, start.alpha, start.queue)

    def _forget(self, start: Base) -> None:
        self._base = start
        self._points, self._latest, self._stride, self._corrected_at = [], self._begin, 1, 0.0

    def _go_back(self, database: Database) -> None:
        """Forget the points that a correction has changed; all of them if the state was reset."""
        if self._latest != self._begin and _given_at(database, self._latest.place) != self._latest.at:
            self._forget(self._base)
        query = "SELECT min(id), max(corrected_at) FROM feedback WHERE corrected_at > ?"
        for changed, corrected_at in database.rows(query, (self._corrected_at,)):
            if changed is not None:
                self._corrected_at = corrected_at
                self._points = [point for point in self._points if point.place < changed]
            if changed is not None and changed <= self._latest.place:
                self._latest = self._points[-1] if self._points else self._begin


def _given_at(database: Database, place: int) -> float:
    """Return when the feedback at a place was given; -1.0 if there is none."""
    for table in ("feedback", "pruned_feedback"):
        found = database.row(f"SELECT given_at FROM {table} WHERE id = ?", (place,))
        if found is not None:
            return float(found[0])
    return -1.0


def _newest_correction(database: Database) -> float:
    found = database.row("SELECT max(corrected_at) FROM feedback WHERE corrected_at IS NOT NULL")
    return 0.0 if found is None or found[0] is None else float(found[0])
