"""Group commit: work that waits for the state is done in one transaction, and committed once.

While a transaction is under way, threads that come with work wait. The thread that came first then does the work of
all that wait, one after the other in the order in which they came, and commits once. Each thread gets what its own work
returned, after the commit. Nobody waits for others to come: a thread that comes alone has a transaction of its own.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from messctl.errors import UndoneError, UsageError
from messctl.state.database import FAULT
from messctl.state.sums import SUMMED

if TYPE_CHECKING:
    from messctl.state.store import Store

MOST = 64
"""How much work one transaction does, so that nobody waits long for the commit."""

T = TypeVar("T")


class _Work:
    """What a thread wants to have done, and what became of it. `turn` is free as soon as the thread may go on."""

    def __init__(self, call: Callable[[], Any], about: str | None = None, *, synced: bool) -> None:
        self.call = call
        self.about = about
        self.kind = getattr(call, "__qualname__", "")
        self.synced = synced
        self.turn = threading.Lock()
        self.turn.acquire()
        self.leads = False
        self.result: Any = None
        self.error: BaseException | None = None


class GroupCommit:
    """Does work in transactions of a `store`. Thread-safe.

    Work is a call that reads and writes the store. If it fails before it writes anything, as for an unknown id, it
    fails alone. If it fails later, its whole transaction is undone, and each work of it is done again in a transaction
    of its own. So a call may be made twice, but what it writes is stored once. If the commit fails, all fail.
    The main thread does its own work alone: Ctrl-C may interrupt it anywhere, and nobody else's work may be lost then.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: deque[_Work] = deque()
        self._reads: dict[str, set[str]] = {}
        self._leading = False
        self._leader: int | None = None
        self._lock = threading.Lock()

    def do(self, call: Callable[[], T], *, synced: bool = False, about: str | None = None) -> T:
        """Return what a call returns, once all that it wrote is committed; see `Store.transaction` for `synced`.

        If the call is `about` a logged request, by its id, what is known of all such requests is read in one go.
        Raises what the call raises, and StoreError, also for a call within a call.
        """
        if self._leader == threading.get_ident():
            raise self._store.database.failure("a transaction is begun within another", FAULT)
        mine = _Work(call, about, synced=synced)
        try:
            with self._lock:
                self._waiting.append(mine)
                mine.leads, self._leading = not self._leading, True
            if not mine.leads:
                mine.turn.acquire()
            if mine.leads:
                self._lead(mine)
        except BaseException:  # Ctrl-C: this thread wants no more
            self._withdraw(mine)
            raise
        if mine.error is not None:
            raise mine.error
        return cast(T, mine.result)

    def _withdraw(self, mine: _Work) -> None:
        with self._lock:
            if mine in self._waiting:
                self._waiting.remove(mine)
            if mine.leads:
                self._pass_on(mine)

    def _lead(self, mine: _Work) -> None:
        """Do the work of all that wait, one's own first, and let the next thread lead."""
        group: list[_Work] = []
        try:
            self._leader = threading.get_ident()
            self._together(group, 1 if threading.current_thread() is threading.main_thread() else MOST)
        except BaseException:
            for work in group:
                work.error = self._store.database.failure("interrupted as it was stored", "look with `messctl log`")
            raise
        finally:
            self._leader = None
            with self._lock:
                self._pass_on(mine)
            for work in group:
                work.turn.release()

    def _pass_on(self, mine: _Work) -> None:
        """Let the first that waits lead in place of one's own; within the lock."""
        following = self._waiting[0] if self._waiting else None
        self._leading, mine.leads = following is not None, False
        if following is not None:
            following.leads = True
            following.turn.release()

    def _together(self, group: list[_Work], most: int) -> None:
        """Do the work of those that wait, at `most` so many, in one transaction; add it to the group."""
        finished = False
        with self._lock:
            synced = any(work.synced for work in self._waiting)
        try:
            with self._store.transaction(synced=synced):
                group += self._taken(most, synced=synced)
                self._read_ahead(group)
                for work in group:
                    self._do(work)
                self._store.database.finish()
                finished = True
        except Exception as error:  # noqa: BLE001  # each thread gets its error
            began = bool(group)
            group += [] if began else self._taken(most)
            if (finished and not isinstance(error, UndoneError)) or not began or len(group) == 1:
                for work in group:
                    work.error = error
            else:
                for work in group:
                    self._alone(work)

    def _read_ahead(self, group: list[_Work]) -> None:
        """Read in one go what the work of its kind has read so far, and what is known of the requests it is about."""
        names = set().union(*(self._reads.get(work.kind, ()) for work in group))
        self._store.database.ahead(names, SUMMED, [work.about for work in group if work.about is not None])

    def _taken(self, most: int, *, synced: bool = True) -> list[_Work]:
        """Take the work of those who came first, until one wants to be `synced` and the transaction is not."""
        taken: list[_Work] = []
        with self._lock:
            while self._waiting and len(taken) < most and (synced or not self._waiting[0].synced):
                taken.append(self._waiting.popleft())
        return taken

    def _do(self, work: _Work) -> None:
        """Do work within a transaction. Raises what it raises, unless it has written nothing."""
        before, work.error = self._store.database.changes, None
        self._store.database.used = self._reads.setdefault(work.kind, set())
        try:
            work.result = work.call()
        except UsageError as error:
            if self._store.database.changes != before:
                raise
            work.error = error
        finally:
            self._store.database.used = set()

    def _alone(self, work: _Work) -> None:
        """Do work in a transaction of its own, after the one of its group was undone."""
        work.error = None
        try:
            with self._store.transaction(synced=work.synced):
                work.result = work.call()
        except Exception as error:  # noqa: BLE001  # its thread gets the error
            work.error = error
