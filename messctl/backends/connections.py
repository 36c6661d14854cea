"""The connections to all servers of models, and one request over one of them."""

from __future__ import annotations

import json
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

from messctl.backends.complaint import complaint_in
from messctl.backends.content import body_pieces, read_document
from messctl.backends.deadline import Deadline
from messctl.backends.key import Key
from messctl.backends.openai_errors import AttemptFailedError, overdue, refused, server_error
from messctl.backends.patience import CONNECT_S
from messctl.records import Recipient
from messctl.zoo import ModelSpec

if TYPE_CHECKING:
    import ssl

    from messctl.backends.connection import Connection, Response

_OK = 200
_MARGIN_S = 1.0
"""How much later than the deadline a silent connection fails by itself."""


class Connections:
    """The connections to all servers: one for each request that runs at the same time. Thread-safe."""

    def __init__(self) -> None:
        self._idle: dict[str, list[Connection]] = defaultdict(list)
        self._tls: Callable[[], ssl.SSLContext] | None = None
        self._closed = False
        self._process = os.getpid()
        self._lock = threading.Lock()

    @contextmanager
    def send(
        self,
        model: ModelSpec,
        deadline: Deadline,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        recipient: Recipient | None = None,
    ) -> Iterator[Response]:
        """Send one request to `path` below the model's url; yield its response, whose body is not read yet.

        `body` is sent as JSON. If whoever waits leaves, the connection is cut. Raises BackendError for a key, a host
        or a proxy that cannot be used, and AttemptFailedError for a status other than 200, for what goes wrong while
        the response is read, and when the deadline passes.
        """
        key = Key.of(model)
        if deadline.passed:
            raise overdue(model, deadline.seconds)
        connection = self._take(model)
        try:
            with (
                deadline.calling(connection.cut),
                nullcontext() if recipient is None else recipient.cutting(connection.cut),
                self._sent(connection, model, key, deadline, method, path, body) as response,
            ):
                yield response
        except AttemptFailedError:
            if deadline.passed:
                raise overdue(model, deadline.seconds) from None
            raise
        finally:
            self._give_back(model, connection)

    @contextmanager
    def _sent(
        self,
        connection: Connection,
        model: ModelSpec,
        key: Key,
        deadline: Deadline,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
    ) -> Iterator[Response]:
        silent_s = min(model.timeout_s, deadline.left_s + _MARGIN_S)
        content = None
        if body is not None:
            content = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        with connection.send(model, method, path, content, key, min(CONNECT_S, silent_s), silent_s) as response:
            if response.status != _OK:
                complaint = complaint_in(read_document(model, body_pieces(model, response)))
                complaint = complaint.with_message(key.hide(complaint.message))
                retry_after = response.headers.get("retry-after", "")
                raise refused(model, response.status, complaint, body or (), retry_after)
            yield response

    def close(self) -> None:
        """Close all connections that no request uses; the others are closed after their request."""
        with self._lock:
            self._closed = True
            while self._idle:
                for connection in self._idle.popitem()[1]:
                    connection.close()

    def _take(self, model: ModelSpec) -> Connection:
        """Return a connection that no other request uses."""
        from messctl.backends.connection import Connection, trusted  # noqa: PLC0415  # only a zoo with servers needs it

        url = model.url or ""
        with self._lock:
            if self._process != os.getpid():  # after a fork: the connections are the parent's
                self._process = os.getpid()
                self._idle.clear()
            if self._idle[url]:
                connection = self._idle[url].pop()
                connection.mend()
                return connection
            self._tls = self._tls or cache(trusted)
        try:
            return Connection(url, self._tls)
        except ValueError as error:
            raise server_error(model, str(error)) from None

    def _give_back(self, model: ModelSpec, connection: Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle[model.url or ""].append(connection)
                return
        connection.close()
