"""HTTP requests to servers of models: one client per server, the server's key, one response at a time."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from messctl.backends.complaint import complaint_in
from messctl.backends.content import ACCEPTED, body_pieces, read_document
from messctl.backends.deadline import Connection, Deadline
from messctl.backends.openai_errors import (
    AttemptFailedError,
    broken_off,
    one_line,
    overdue,
    permanent,
    refused,
    server_error,
    silent,
    temporary,
    unreachable,
)
from messctl.backends.patience import CONNECT_S
from messctl.records import Watch
from messctl.zoo import ModelSpec
from messctl.zoo.server_keys import is_loopback

if TYPE_CHECKING:
    import httpx2

_OK = 200
_MARGIN_S = 1.0
"""How much later than the deadline a silent connection fails by itself."""


@dataclass(frozen=True, slots=True)
class _Line:
    """An HTTP client of one server, for one request at a time, and its connection."""

    client: httpx2.Client
    connection: Connection


class Clients:
    """The HTTP clients of all servers: one for each request that runs at the same time. Thread-safe."""

    def __init__(self) -> None:
        self._idle: dict[str, list[_Line]] = defaultdict(list)
        self._tls: Any = None
        self._closed = False
        self._lock = threading.Lock()

    @contextmanager
    def send(
        self,
        model: ModelSpec,
        deadline: Deadline,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        watch: Watch | None = None,
    ) -> Iterator[httpx2.Response]:
        """Send one request to `path` below the model's url; yield its response, whose body is not read yet.

        `body` is sent as JSON. If whoever waits leaves, the connection is cut. Raises BackendError for a key or a proxy
        that cannot be used, and AttemptFailedError for a status other than 200, for what goes wrong while the response
        is read, and when the deadline passes.
        """
        key = Key.of(model)
        if deadline.passed:
            raise overdue(model, deadline.seconds)
        line = self._take(model)
        try:
            with (
                line.connection.cut_at(deadline),
                nullcontext() if watch is None else watch.cutting(line.connection.cut),
                self._sent(line, model, key, deadline, method, path, body) as response,
            ):
                yield response
        except AttemptFailedError:
            if deadline.passed:
                raise overdue(model, deadline.seconds) from None
            raise
        finally:
            self._give_back(model, line)

    @contextmanager
    def _sent(
        self,
        line: _Line,
        model: ModelSpec,
        key: Key,
        deadline: Deadline,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
    ) -> Iterator[httpx2.Response]:
        import httpx2  # noqa: PLC0415  # only a zoo with servers needs it

        longest_s = min(model.timeout_s, deadline.left_s + _MARGIN_S)
        timeout = httpx2.Timeout(longest_s, connect=min(CONNECT_S, longest_s))
        watch = {"trace": line.connection.watch}
        try:
            url = _url(f"{model.url}/{path}")
            with line.client.stream(
                method, url, json=body, auth=key.auth(), timeout=timeout, extensions=watch
            ) as response:
                if response.status_code != _OK:
                    complaint = complaint_in(read_document(model, body_pieces(model, response)))
                    complaint = complaint.with_message(key.hide(complaint.message))
                    retry_after = response.headers.get("retry-after", "")
                    raise refused(model, response.status_code, complaint, body or (), retry_after)
                yield response
        except httpx2.ConnectTimeout:
            what = "accepts no connection: check that the machine is up and the url is right"
            raise temporary(model, what) from None
        except httpx2.TimeoutException:
            raise silent(model) from None
        except httpx2.ConnectError as error:
            raise unreachable(model, key.hide(one_line(error))) from None
        except (httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError):
            raise broken_off(model) from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            why = key.hide(one_line(error))
            raise permanent(
                model, f"cannot get a request ({why}): check the url and the proxies in the environment"
            ) from None

    def close(self) -> None:
        """Close all connections that no request uses; the others are closed after their request."""
        with self._lock:
            self._closed = True
            while self._idle:
                for line in self._idle.popitem()[1]:
                    line.client.close()

    def _take(self, model: ModelSpec) -> _Line:
        """Return a client that no other request uses."""
        import httpx2  # noqa: PLC0415  # only a zoo with servers needs it

        url = model.url or ""
        with self._lock:
            if self._idle[url]:
                return self._idle[url].pop()
            self._tls = self._tls or httpx2.create_ssl_context()
            try:
                client = httpx2.Client(
                    verify=self._tls,
                    trust_env=not is_loopback(url),
                    follow_redirects=False,
                    headers={"Accept-Encoding": ACCEPTED},
                )
            except (ImportError, ValueError, httpx2.InvalidURL):
                what = "cannot use the proxy in the environment: check HTTPS_PROXY and NO_PROXY"
                raise server_error(model, what) from None
            return _Line(client, Connection())

    def _give_back(self, model: ModelSpec, line: _Line) -> None:
        with self._lock:
            if not self._closed:
                self._idle[model.url or ""].append(line)
                return
        line.client.close()


@dataclass(frozen=True, slots=True)
class Key:
    """The name of the environment variable with a server's key. The key is read when it is used, and not stored."""

    variable: str | None

    @classmethod
    def of(cls, model: ModelSpec) -> Key:
        """Return a model's key. Raises BackendError if the variable is not set, or cannot be a key."""
        name = model.key_env
        if name is None:
            return cls(None)
        value = os.environ.get(name, "").strip()
        if not value:
            raise server_error(model, f"needs a key, and {name} is not set: export {name}=… first")
        if not (value.isascii() and value.isprintable()):
            raise server_error(model, f"needs a key, and {name} holds characters that no key has: export it again")
        return cls(name)

    def auth(self) -> Any:
        """Return what puts the key into a request's header; None without a key."""
        return None if self.variable is None else _bearer()(self.variable)

    def hide(self, text: str) -> str:
        """Return `text` without the key, in case a server repeats it."""
        key = os.environ.get(self.variable, "").strip() if self.variable else ""
        return text.replace(key, "(the key)") if key else text


@lru_cache(maxsize=256)
def _url(text: str) -> httpx2.URL:
    """Return an address that was taken apart; that takes long enough to do it once."""
    import httpx2  # noqa: PLC0415  # only a zoo with servers needs it

    return httpx2.URL(text)


def _bearer() -> Any:
    import httpx2  # noqa: PLC0415  # only a zoo with servers needs it

    class Bearer(httpx2.Auth):
        def __init__(self, variable: str) -> None:
            self._variable = variable

        def auth_flow(self, request: httpx2.Request) -> Iterator[httpx2.Request]:  # type: ignore[override]  # httpx2 types the base method as a generator
            request.headers["Authorization"] = f"Bearer {os.environ[self._variable].strip()}"
            yield request

    return Bearer
