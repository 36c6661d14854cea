"""HTTP requests to servers of models: one client per server, the server's key, one response at a time."""

from __future__ import annotations

import ipaddress
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from messctl.backends.complaint import complaint_in
from messctl.backends.openai_errors import (
    NOT_OPENAI,
    broken_off,
    one_line,
    permanent,
    refused,
    server_error,
    silent,
    temporary,
    unreachable,
)
from messctl.backends.patience import CONNECT_S
from messctl.zoo import ModelSpec

if TYPE_CHECKING:
    import httpx2

_MOST_BYTES = 2**26
_OK = 200


class Clients:
    """One HTTP client per server, made at its first request. Thread-safe."""

    def __init__(self) -> None:
        self._clients: dict[str, httpx2.Client] = {}
        self._lock = threading.Lock()

    @contextmanager
    def send(
        self, model: ModelSpec, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Iterator[httpx2.Response]:
        """Send one request to `path` below the model's url; yield its response, whose body is not read yet.

        `body` is sent as JSON. Raises BackendError for a key or a proxy that cannot be used, and AttemptFailedError for
        a status other than 200 and for what goes wrong while the response is read.
        """
        import httpx2  # noqa: PLC0415  # only a zoo with servers needs it

        key = Key.of(model)
        client, timeout = self._client(model), httpx2.Timeout(model.timeout_s, connect=min(CONNECT_S, model.timeout_s))
        try:
            with client.stream(method, f"{model.url}/{path}", json=body, auth=key.auth(), timeout=timeout) as response:
                if response.status_code != _OK:
                    complaint = complaint_in(read_body(model, response.iter_bytes()))
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
        """Close all connections."""
        with self._lock:
            while self._clients:
                self._clients.popitem()[1].close()

    def _client(self, model: ModelSpec) -> httpx2.Client:
        import httpx2  # noqa: PLC0415  # only a zoo with servers needs it

        url = model.url or ""
        with self._lock:
            if url not in self._clients:
                try:
                    self._clients[url] = httpx2.Client(trust_env=not _is_loopback(url), follow_redirects=False)
                except (ImportError, ValueError, httpx2.InvalidURL):
                    what = "cannot use the proxy in the environment: check HTTPS_PROXY and NO_PROXY"
                    raise server_error(model, what) from None
            return self._clients[url]


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


def read_body(model: ModelSpec, pieces: Iterable[bytes]) -> bytes:
    """Return the whole body of a response. Raises AttemptFailedError if it is larger than any answer, 64 MiB."""
    content = bytearray()
    for piece in pieces:
        content += piece
        if len(content) > _MOST_BYTES:
            raise temporary(model, f"sends more than {_MOST_BYTES >> 20} MiB for one answer: {NOT_OPENAI}")
    return bytes(content)


def _bearer() -> Any:
    import httpx2  # noqa: PLC0415  # only a zoo with servers needs it

    class Bearer(httpx2.Auth):
        def __init__(self, variable: str) -> None:
            self._variable = variable

        def auth_flow(self, request: httpx2.Request) -> Iterator[httpx2.Request]:  # type: ignore[override]  # httpx2 types the base method as a generator
            request.headers["Authorization"] = f"Bearer {os.environ[self._variable].strip()}"
            yield request

    return Bearer


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
