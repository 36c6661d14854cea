"""The store: requests, answers, feedback and the router's state, in one SQLite file.

Several processes may use one store at once. What belongs together happens inside `transaction`, which holds the
write lock from its first statement. If a process is killed, either all of a transaction is stored or none of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from messctl.errors import StoreError
from messctl.state import migrations, soundness
from messctl.state.copying import check_complete, copy_tables
from messctl.state.course import Course
from messctl.state.database import Database
from messctl.state.databases import closed_on_failure, open_database
from messctl.state.group_commit import GroupCommit
from messctl.state.outages import Outages
from messctl.state.place import Place, exists
from messctl.state.policy_arrays import PolicyArrays
from messctl.state.pruning import AT_ONCE, Pruning
from messctl.state.request_log import RequestLog
from messctl.state.sqlite_file import MEMORY

T = TypeVar("T")


def default_path() -> Path:
    """Return where the state is unless a path is given. Raises StoreError if the user has no home folder."""
    from platformdirs import user_state_path  # noqa: PLC0415  # only if no path is given

    with suppress(RuntimeError):
        folder = Path(user_state_path("messctl", appauthor=False))
        if folder.is_absolute():  # some versions leave the ~ of a user without a home folder
            return folder / "state.sqlite"
    raise StoreError("this user has no home folder to keep a state in; name one with --state or MESSCTL_STATE")


class Store:
    """An open store, a context manager. The file and its folder are made if they do not exist.

    `requests` is the log, `outages` the failures of models, and `policy` the state of the router and its policies.
    `pruning` deletes old requests.
    If it is for `looking` only, nothing can be written: a store without a file is empty, and the tables of an older
    messctl are migrated in a copy in memory. If it is `copied`, it is a copy in memory, for which nothing is made
    beside the file. A copy that was `begun` and not finished is opened only if that is said. Raises StoreError if the
    file cannot be read or written.
    """

    def __init__(self, path: Place, *, looking: bool = False, copied: bool = False, begun: bool = False) -> None:
        if not looking and time.time() < 0:
            raise StoreError(f"{path}: keeps no time before 1970; set the clock of this machine")
        opened = open_database(path, looking=looking, copied=copied)
        with closed_on_failure(opened):
            latest = opened.version() == opened.latest
            if looking and not latest:
                with closing(opened) as older:
                    opened = older.in_memory()
        self.path = path
        self.requests = RequestLog(opened)
        self.outages = Outages(opened, self.requests.sums)
        self.policy = PolicyArrays(opened)
        self.pruning = Pruning(opened, self.requests, self.outages)
        self._database = opened
        self._commits = GroupCommit(self)
        if not latest:
            with closed_on_failure(opened):
                self._migrate()
        if not begun and opened.latest >= migrations.COPIES:
            with closed_on_failure(opened):
                check_complete(opened)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def database(self) -> Database:
        """The database that holds it."""
        return self._database

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def transaction(self, *, synced: bool = False) -> Iterator[None]:
        """Do all of the block, or nothing of it, with no other process in between.

        What was committed outlives the process, however it ends. If `synced`, it outlives a power failure, too.
        """
        with self._database.transaction(synced=synced):
            yield

    def together(self, call: Callable[[], T], *, synced: bool = False, about: str | None = None) -> T:
        """Return what a call returns within a transaction, which others may share; see `GroupCommit`."""
        return self._commits.do(call, synced=synced, about=about)

    @contextmanager
    def unchanging(self) -> Iterator[None]:
        """See one and the same state throughout the block, whatever other processes write meanwhile."""
        with self._database.unchanging():
            yield

    @contextmanager
    def tended(self) -> Iterator[None]:
        """Let a thread do, during the block, what a commit would do now and then beside its own, while others wait."""
        with self._database.tended():
            yield

    def course(self) -> Course:
        """Return how the state came to be what it is, read from the whole log."""
        with self.unchanging():
            return Course.of(self._database)

    def in_memory(self) -> Store:
        """Return a copy in memory: what happens to it is forgotten."""
        copy = Store(MEMORY)
        copy_tables(self._database, copy._database)
        return copy

    def reset(self) -> None:
        """Delete everything, and make new tables: no prompt or answer is left in them, see `Database.erase`."""
        self._database.erase()

    def prune(self, before: float, at_once: int = AT_ONCE) -> int:
        """Delete the oldest requests from before a time, in seconds since 1970, at most `at_once`; return their number.

        What they held is overwritten in the file. See `messctl.state.pruning`.
        """
        self._database.overwrite_deleted()
        with self.transaction():
            return self.pruning.prune(before, at_once)

    def pack(self) -> None:
        """Write the file anew: it gets smaller, and nothing that was ever deleted is left in it or its log."""
        self._database.pack()

    def check(self) -> list[str]:
        """Return what is wrong with the state, one line each; see `messctl.state.soundness`."""
        with self.unchanging():
            self._database.forget_kept()  # somebody may have changed the tables by other means
            return soundness.problems(self._database, self.requests, self.outages, self.policy)

    def _migrate(self) -> None:
        with self._database.migrating():
            version = self._database.version()
            if version > self._database.latest:
                raise StoreError(f"{self.path}: made by a newer messctl (version {version}); upgrade messctl")
            if version < 0:
                raise self._database.damage(f"its version is {version}")
            if self._database.migrate():
                self.requests.fill()
                self.outages.fill()


def check(path: Place) -> list[str]:
    """Return what is wrong with the state at `path`, one line each; nothing if there is none yet."""
    if not exists(path):
        return []
    try:
        with Store(path, looking=not isinstance(path, Path)) as store:
            return store.check()
    except StoreError as error:
        return [str(error)]
