"""The store: requests, answers, feedback and the router's state, in one SQLite file.

Several processes may use one store at once. Whatever belongs together happens inside `transaction`, which holds the
write lock from its first statement; a process that is killed leaves either all of it or none.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from messctl.errors import BackendError, PromptError, StoreError
from messctl.learning.snapshot import Snapshot
from messctl.learning.virtual_queue import advance
from messctl.records import Decision, Outcome
from messctl.state import database, migrations, outages, policy_arrays, request_log
from messctl.state.database import MEMORY, begun, patiently
from messctl.state.request_log import Circumstances, LoggedRequest


def default_path() -> Path:
    """Return where the state is kept unless somebody says otherwise."""
    from platformdirs import user_state_path  # noqa: PLC0415  # only where no path is given

    return Path(user_state_path("messctl", appauthor=False)) / "state.sqlite"


class Store:
    """An open store; the file and its folder are made where they do not exist. A context manager.

    `looking`, it is for reading only, and nothing is made or changed: where there is no file it is empty, and the
    tables of an older messctl are brought up in a copy in memory. Raises StoreError for whatever keeps it from being
    read or written.
    """

    def __init__(self, path: Path, *, looking: bool = False) -> None:
        self.path = path
        with self._mapped():
            self._database = database.look(path) if looking else database.connect(path)
            latest = migrations.version(self._database) == len(migrations.MIGRATIONS)
            if looking and not latest:
                with closing(self._database) as older:
                    self._database = database.in_memory(older)
        if not latest:
            self._migrate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def transaction(self, *, synced: bool = False) -> Iterator[None]:
        """Do everything in the block, or nothing of it, with no other process in between.

        What was committed outlives the process, however it ends; `synced`, it outlives the machine's power too.
        """
        with self._mapped():
            self._database.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
            with begun(self._database, "BEGIN IMMEDIATE"):
                yield

    @contextmanager
    def unchanging(self) -> Iterator[None]:
        """See one and the same state throughout the block, whatever other processes write meanwhile."""
        with self._mapped(), begun(self._database, "BEGIN"):
            yield

    def snapshot(self, policy: str = "") -> Snapshot:
        """Return the router's state, with what `policy` has learned; a fresh one where nothing was saved."""
        with self._mapped():
            return policy_arrays.read(self._database, policy)

    def save(self, snapshot: Snapshot) -> None:
        """Save the router's state. What is known of models that the snapshot does not hold stays.

        So does what other policies have learned. Where the policy's arrays are of another version or encoder than
        those saved before, these are forgotten.
        """
        with self._mapped():
            policy_arrays.write(self._database, snapshot)

    def forget(self, policy: str) -> None:
        """Forget what a policy has learned, mean costs aside."""
        with self._mapped():
            policy_arrays.forget(self._database, policy)

    def add_request(self, decision: Decision, circumstances: Circumstances) -> None:
        """Log a decision before it is carried out."""
        with self._mapped():
            request_log.add(self._database, decision, circumstances, time.time())

    def has(self, request_id: str) -> bool:
        """Tell whether a request is logged."""
        with self._mapped():
            return request_log.has(self._database, request_id)

    def decided_by_others_since(self, request_id: str, policy: str) -> int:
        """Return how many requests after this one were decided by another policy."""
        with self._mapped():
            return request_log.decided_by_others_since(self._database, request_id, policy)

    def revise(self, decision: Decision) -> None:
        """Log what was decided instead, since the model decided on before cannot answer."""
        with self._mapped():
            request_log.revise(self._database, decision)

    def down(self, places: Mapping[str, str]) -> frozenset[str]:
        """Return which models, of `places` by name, are left alone for now, since they failed."""
        with self._mapped():
            return outages.down(self._database, places, time.time())

    def tokens_per_character(self, models: Iterable[str]) -> dict[str, float]:
        """Return how many tokens each model's recent questions had per character."""
        with self._mapped():
            return request_log.tokens_per_character(self._database, models)

    def try_again(self, models: tuple[str, ...], within_s: float) -> None:
        """Note that these models are being asked: where one is out, nobody else tries it meanwhile, for `within_s`."""
        with self._mapped():
            outages.claim(self._database, models, time.time(), within_s)

    def give_back(self, models: Iterable[str]) -> None:
        """Note that these models are no longer being asked, though it is not known whether they would have answered."""
        with self._mapped():
            outages.give_back(self._database, models, time.time())

    def answers_again(self, model: str) -> None:
        """Note that a model answers, though nobody waits for the whole of it: it is no longer left alone."""
        with self._mapped():
            outages.end(self._database, model)

    def add_lost(
        self, request_id: str, model: str, place: str, error: BackendError, began: float | None = None
    ) -> None:
        """Log an attempt that failed, and leave the model alone for a while.

        It `began` so many seconds after 1970; None: just now. Where the prompt was to blame, the model is there, and no
        longer left alone.
        """
        now, refused = time.time(), isinstance(error, PromptError)
        with self._mapped():
            if request_log.has(self._database, request_id):  # the state may have been reset meanwhile
                request = request_log.key(self._database, request_id)
                outages.lose(self._database, request, model, str(error), now, refused=refused)
            if refused:
                outages.end(self._database, model)
            else:
                asked_s, forgiven = error.again_after_s, error.forgiven
                began = now if began is None else began
                outages.begin(self._database, model, place, now, began=began, asked_s=asked_s, forgiven=forgiven)

    def lost(self) -> dict[str, outages.Lost]:
        """Return the attempts that were lost, by model."""
        with self._mapped():
            return outages.lost(self._database)

    def refused(self) -> dict[str, outages.Refused]:
        """Return the prompts that were refused, by model."""
        with self._mapped():
            return outages.refused(self._database)

    def add_answers(self, request_id: str, answers: Mapping[str, Outcome]) -> None:
        """Log what the queried models answered, and what that cost."""
        with self._mapped():
            request_log.add_answers(self._database, request_id, answers)
            for model in answers:
                outages.end(self._database, model)

    def set_feedback(self, request_id: str, satisfied: Mapping[str, float], served: str) -> float | None:
        """Log feedback by model; that on the `served` answer counts toward the promise.

        A second feedback on the same request corrects the first, which is returned: it keeps its place in the
        order. Raises UsageError for a request that is not known.
        """
        with self._mapped():
            return request_log.judge(self._database, request_id, satisfied, served, time.time())

    def queue(self) -> float:
        """Return the virtual queue by its recursion over all stored feedback, in the order in which it came."""
        queue = 0.0
        with self._mapped():
            rows = self._database.execute(
                "SELECT alpha, satisfied FROM feedback JOIN requests ON requests.id = request ORDER BY feedback.id"
            )
            for alpha, satisfied in rows:
                queue = advance(queue, alpha, satisfied)
        return queue

    def balance(self) -> float:
        """Return Σ(s − α) over all stored feedback."""
        _, satisfied, promised = self.judged()
        return satisfied - promised

    def judged(self) -> tuple[int, float, float]:
        """Return how many answers have feedback, and the sums of its satisfaction and of what was promised."""
        with self._mapped():
            row = self._database.execute(
                "SELECT count(*), total(feedback.satisfied), total(alpha) "
                "FROM feedback JOIN requests ON requests.id = request"
            ).fetchone()
        return int(row[0]), float(row[1]), float(row[2])

    def find(self, request_id: str) -> LoggedRequest:
        """Return the request with this id, or whose id starts so, or the `last` one that was answered.

        Raises UsageError where there is none, or more than one.
        """
        with self._mapped():
            return request_log.find(self._database, request_id)

    def requests(self) -> Iterator[LoggedRequest]:
        """Yield the logged requests, oldest first."""
        with self._mapped():
            yield from request_log.read(self._database)

    def newest(self, count: int) -> list[LoggedRequest]:
        """Return the newest `count` requests, oldest first."""
        with self._mapped():
            return request_log.newest(self._database, count)

    def in_memory(self) -> Store:
        """Return a copy that lives in memory: whatever happens to it is forgotten."""
        copy = Store(MEMORY)
        with self._mapped():
            self._database.backup(copy._database)
        return copy

    def reset(self) -> None:
        """Forget everything: in the file and its log, nothing that was said is left.

        Where another process is reading at that moment, the log may keep it until the last process closes the file.
        What a file system or a disk keeps of the blocks that were let go is beyond this.
        """
        with self._mapped():
            self._database.execute("PRAGMA secure_delete = ON")
        with self.transaction():
            for table in (
                "outages",
                "attempts",
                "feedback",
                "answers",
                "requests",
                "arrays",
                "policies",
                "models",
                "router",
            ):
                self._database.execute(f"DELETE FROM {table}")
        with self._mapped():
            patiently(self._database, "VACUUM")  # what had been let go before was not overwritten
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def check(self) -> list[str]:
        """Return what is wrong with the file, by SQLite's check, the queue's recursion and reading all arrays."""
        with self._mapped():
            rows = self._database.execute("PRAGMA integrity_check").fetchall()
            rows += self._database.execute("PRAGMA foreign_key_check").fetchall()
        found = [str(row[0]) for row in rows if row[0] != "ok"]
        with self.unchanging():
            saved, recomputed = self.snapshot().queue, self.queue()
            for policy in policy_arrays.policies(self._database):
                try:
                    self.snapshot(policy)
                except StoreError as error:
                    found.append(str(error))
        if saved != recomputed:
            found.append(f"the queue is {saved!r}, but its recursion over the stored feedback gives {recomputed!r}")
        return found

    def _migrate(self) -> None:
        with self.transaction():
            at = migrations.version(self._database)
            if at > len(migrations.MIGRATIONS):
                raise StoreError(f"{self.path}: made by a newer messctl (version {at}); upgrade messctl")
            migrations.migrate(self._database)

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}; {_remedy(str(error))}") from error
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror or error}; choose another place with --state") from error


def check(path: Path) -> list[str]:
    """Return what is wrong with the state at `path`, one line each; nothing where there is none yet."""
    if not path.exists():
        return []
    try:
        with Store(path) as store:
            return store.check()
    except StoreError as error:
        return [str(error)]


def _remedy(problem: str) -> str:
    for sign, remedy in (
        ("readonly", "make it writable, or choose another place with --state"),
        ("unable to open", "make its folder writable, or choose another place with --state"),
        ("full", "free some space, or choose another place with --state"),
        ("disk I/O", "the disk may be full, or broken; free some space, or choose another place with --state"),
        ("locked", "another process holds it; try again"),
        ("not a database", "it is no messctl state; choose another place with --state"),
        ("malformed", "it is damaged; move it away, or restore a copy"),
        ("is damaged", "restore a copy, or take the log out by `messctl export` and begin anew by `messctl reset`"),
    ):
        if sign in problem:
            return remedy
    return "`messctl doctor` checks it"
