"""Transactions on PostgreSQL: begun, committed, undone, and begun again if the connection was lost before.

Whoever writes locks the one row of the table `state` first, so writers come one after another. A transaction brings all
its settings with it, so PgBouncer may give each one another session of the server.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import psycopg

from messctl.errors import StoreError, UndoneError
from messctl.state.columns import shown
from messctl.state.database import FAULT, RESTORE
from messctl.state.place import Address
from messctl.state.postgres_connection import Connection, Record, light_compression, opened
from messctl.state.postgres_errors import REMEDIES, remedy_of, remedy_of_text, text_of

WAIT_S = 60
"""How long a process waits for the transactions of others."""
UNKNOWN = "nobody knows whether this was stored: look with `messctl log` before you try again"
PART = "a part of it failed, so nothing was stored; try again"


class Session:
    """A connection to the schema of an address, for one thread at a time. Every method raises StoreError.

    `inside` says whether a transaction is going on. `others` changes whenever another process has written, or a
    transaction was undone. `opened` counts the connections so far: a new one may lead to a server that took over, and
    that lacks what the other one had committed last. `latest` is the newest version of the tables that is understood.
    """

    def __init__(self, address: Address, latest: int) -> None:
        self.schema = '"' + address.schema.replace('"', '""') + '"'
        self.alone = threading.RLock()
        self.inside = False
        self.others = 0
        self.opened = 1
        self._address = address
        self._latest = latest
        self._writes = -1
        self._settings = f"SET LOCAL search_path = {self.schema}, pg_temp; SET LOCAL lock_timeout = '{WAIT_S}s'"
        self._connection: Connection | None = None
        self._ahead = ExitStack()
        self._compresses = ""
        with self.mapped():
            self._open()

    def close(self) -> None:
        """Close the connection."""
        with self.alone:
            self._drop()

    @property
    def present(self) -> Connection:
        """The connection, within a transaction."""
        if self._connection is None:
            raise self.failure("the connection was lost", remedy_of_text(""))
        return self._connection

    @property
    def sending(self) -> bool:
        """Whether statements are sent without waiting for each answer."""
        return self.present.pgconn.pipeline_status != psycopg.pq.PipelineStatus.OFF

    @contextmanager
    def writing(self, *, synced: bool) -> Iterator[None]:
        """Do the block while nobody else writes. It outlives a crash of the server; if `synced`, its loss, too.

        For the last, the server needs a synchronous standby.
        """
        waits = f"{self._compresses}SET LOCAL synchronous_commit = {'on' if synced else 'local'}"
        counted = "UPDATE state SET writes = writes + 1 WHERE id = 1 RETURNING version, writes"
        with self._begun(f"BEGIN ISOLATION LEVEL READ COMMITTED; {self._settings}; {waits}; {counted}", counted=1):
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """See one and the same state throughout the block."""
        seen = "SELECT version, writes FROM state WHERE id = 1"
        with self._begun(f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {self._settings}; {seen}", counted=0):
            yield

    def check_writable(self) -> None:
        """See that the state is there and can be written. Nothing is written, and nobody is waited for."""
        begin = (
            f"BEGIN ISOLATION LEVEL READ COMMITTED; {self._settings}; SELECT version, writes FROM state WHERE id = 1"
        )
        with self._begun(begin, counted=0), self.mapped():
            found = self.present.execute(b"SELECT current_setting('transaction_read_only')").fetchone()
            if found is not None and found[0] == "on":
                raise self.failure("nothing can be stored", REMEDIES["25006"])

    @contextmanager
    def migrating(self, lock: int) -> Iterator[None]:
        """Do the block while nobody else does so with the same number as `lock`. The tables may not be there yet."""
        waits = f"SET LOCAL synchronous_commit = on; SELECT pg_advisory_xact_lock({lock})"
        with self._begun(f"BEGIN ISOLATION LEVEL READ COMMITTED; {self._settings}; {waits}"):
            yield

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Read, whether the tables are there or not."""
        with self._begun(f"BEGIN READ ONLY; {self._settings}"):
            yield

    def alone_with(self, statement: str) -> None:
        """Execute a statement that cannot be part of a transaction."""
        with self.alone, self.mapped():
            self.present.execute(statement.encode())

    @contextmanager
    def mapped(self) -> Iterator[None]:
        """Turn every error of PostgreSQL into a StoreError."""
        try:
            yield
        except psycopg.Error as error:
            raise self.failure(text_of(error), remedy_of(error)) from error

    def failure(self, what: str, remedy: str) -> StoreError:
        """Return the error that says what is wrong, and what to do about it."""
        return StoreError(f"{self._address}: {what}; {remedy}")

    @contextmanager
    def _begun(self, begin: str, counted: int | None = None) -> Iterator[None]:
        """Do the block as one transaction, which statements `begin`. On any exception, undo all of it.

        The last statement selects the row of `state`, which counts this transaction, if `counted` is 1, among the
        writes; if it is None, no such row is selected.
        """
        with self.alone:
            if self.inside:
                raise self.failure("a transaction is begun within another", FAULT)
            committed = False
            try:
                begun = self._begin(begin)
                if counted is not None:
                    self._see_others(begun, counted)
                with self._ahead:
                    if counted:
                        with self.mapped():
                            self._ahead.enter_context(self.present.pipeline())
                    yield
                    self._commit()
                committed = True
                self._writes += counted or 0
            finally:
                self.inside = False
                if not committed:
                    self.others += 1
                    self._roll_back()

    def _begin(self, begin: str) -> Record | None:
        """Begin a transaction, and return the row that the last statement selects.

        A connection that was lost earlier is opened again; nothing has happened yet.
        """
        if self._connection is not None:
            try:
                return self._sent(self._connection, begin)
            except psycopg.Error as error:
                if not self._connection.closed:
                    raise self.failure(text_of(error), remedy_of(error)) from error
                self._drop()
        with self.mapped():
            self.opened += 1
            self.others += 1
            connection = self._open()
            return self._sent(connection, begin)

    def _open(self) -> Connection:
        self._connection = opened(self._address)
        self._compresses = light_compression(self._connection)
        return self._connection

    def _sent(self, connection: Connection, begin: str) -> Record | None:
        """Send the statements that begin a transaction, in one go."""
        self.inside = True
        cursor = connection.execute(begin.encode())
        while cursor.nextset():
            pass
        return cursor.fetchone() if cursor.description else None

    def _see_others(self, begun: Record | None, counted: int) -> None:
        """See from the row of `state` whether other processes have written since."""
        if begun is None:
            raise self.failure("the state is damaged (the table 'state' is empty)", RESTORE)
        version, writes = begun["version"], begun["writes"]
        for name, value in (("version", version), ("number of writes", writes)):
            if type(value) is not int:
                raise self.failure(f"the state is damaged (its {name} is {shown(value)})", RESTORE)
        if version > self._latest:
            raise self.failure(f"made by a newer messctl (version {version})", "upgrade messctl")
        if writes - counted != self._writes:
            self.others += 1
        self._writes = writes - counted

    def settle(self) -> None:
        """Wait for the answers to all statements that were sent, so that only the commit can fail."""
        with self.mapped():
            self._ahead.close()

    def _commit(self) -> None:
        """Commit, and wait for the answers to all statements that were sent. After one that fails, nothing is done."""
        try:
            with self._ahead:
                done = self.present.execute(b"COMMIT")
        except psycopg.Error as error:
            lost = self._connection is None or self._connection.closed
            if not lost and isinstance(error, psycopg.errors.PipelineAborted):  # what failed was told before
                raise UndoneError(f"{self._address}: {PART}") from error
            if not lost and self.present.info.transaction_status == psycopg.pq.TransactionStatus.INERROR:
                raise UndoneError(f"{self._address}: {text_of(error)}; {remedy_of(error)}") from error
            if lost:
                raise self.failure(f"the connection broke during the commit ({text_of(error)})", UNKNOWN) from error
            raise self.failure(text_of(error), remedy_of(error)) from error
        if done.statusmessage != "COMMIT":
            raise StoreError(f"{self._address}: {PART}")

    def _roll_back(self) -> None:
        """Undo what was begun. A connection that does not even do that is given up."""
        connection = self._connection
        if connection is None:
            return
        with suppress(psycopg.Error):
            if not connection.closed:
                connection.rollback()  # of psycopg, which also forgets plans that the server may not have
        idle = connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        if connection.closed or not idle or connection.pgconn.pipeline_status != psycopg.pq.PipelineStatus.OFF:
            self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()
