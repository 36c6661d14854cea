"""HTTP as servers of models are asked: one client per server, its key, and what is told when it fails."""

from __future__ import annotations

import ipaddress
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from messctl.display.text import plain
from messctl.errors import BackendError
from messctl.zoo import ModelSpec

if TYPE_CHECKING:
    import httpx

CONNECT_S = 5.0
"""How long a machine may take to accept a connection, at most."""


class Clients:
    """The clients by server, made when they are first needed."""

    def __init__(self) -> None:
        self._clients: dict[str, httpx.Client] = {}
        self._lock = threading.Lock()

    def of(self, model: ModelSpec) -> httpx.Client:
        """Return the client for a model's server. Raises BackendError."""
        import httpx  # noqa: PLC0415  # for zoos with servers alone

        url = model.url or ""
        with self._lock:
            if url not in self._clients:
                try:
                    self._clients[url] = httpx.Client(trust_env=not _is_loopback(url), follow_redirects=False)
                except (ImportError, ValueError, httpx.InvalidURL):
                    raise failed(
                        model, "cannot be asked through the proxy that the environment names: see HTTPS_PROXY, NO_PROXY"
                    ) from None
            return self._clients[url]

    def timeout(self, model: ModelSpec) -> Any:
        """Return how long to wait for a connection, and for every piece of the response."""
        import httpx  # noqa: PLC0415

        return httpx.Timeout(model.timeout_s, connect=min(CONNECT_S, model.timeout_s))

    def close(self) -> None:
        """Close all of them."""
        with self._lock:
            while self._clients:
                self._clients.popitem()[1].close()


@dataclass(frozen=True, slots=True)
class Key:
    """A server's key: which environment variable holds it. The key itself is read where it is needed, and not kept."""

    variable: str | None

    @classmethod
    def of(cls, model: ModelSpec) -> Key:
        """Return a model's key. Raises BackendError where the variable is not set, or holds what is no key."""
        name = model.key_env
        if name is not None and not os.environ.get(name, "").strip():
            raise failed(model, f"needs a key, and {name} is not set: export {name}=… first")
        if name is not None and not (os.environ[name].strip().isascii() and os.environ[name].strip().isprintable()):
            raise failed(model, f"needs a key, and {name} holds characters that no key has: export it again")
        return cls(name)

    def auth(self) -> Any:
        """Return what puts the key into a request's header; None without one."""
        return None if self.variable is None else _bearer()(self.variable)

    def hidden(self, text: str) -> str:
        """Return `text` without the key, should a server repeat it."""
        key = os.environ.get(self.variable, "").strip() if self.variable else ""
        return text.replace(key, "(the key)") if key else text


def _bearer() -> Any:
    import httpx  # noqa: PLC0415

    class Bearer(httpx.Auth):
        def __init__(self, variable: str) -> None:
            self._variable = variable

        def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
            request.headers["Authorization"] = f"Bearer {os.environ[self._variable].strip()}"
            yield request

    return Bearer


def failed(model: ModelSpec, what: str, kind: type[BackendError] = BackendError) -> BackendError:
    """Return the error that says what is wrong with a model at a server, which one, and where."""
    return kind(f"model {plain(repr(model.name))} ({plain(model.place)}): {what}")


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
