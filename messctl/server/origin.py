"""Pages of other sites: a browser lets them send requests to this machine, and a server without keys refuses these.

A page may send without asking whatever a form may send. It may also bind its own name to 127.0.0.1, and then even read
what comes back. A browser tells the first by the header `Origin`, and the second by the header `Host`.
Source: the Fetch standard, "`Origin` header"; RFC 6454.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from messctl.server.accounts import Accounts
from messctl.server.errors import ProtocolError
from messctl.server.run import is_local
from messctl.server.sending import send_error

Headers = Iterable[tuple[bytes, bytes]]


class OwnPagesOnly:
    """An application that pages of other sites cannot use, unless requests carry keys."""

    def __init__(self, app: ASGIApp, accounts: Accounts) -> None:
        self._app = app
        self._open = not accounts.have_keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if self._open and scope["type"] == "http" and _is_foreign(_value(scope["headers"], b"origin")):
            await send_error(send, _refused())
            return
        await self._app(scope, receive, send)


def check_host(accounts: Accounts, headers: Headers) -> None:
    """Raise ProtocolError if a request names another host than this machine, unless requests carry keys."""
    host = _value(headers, b"host")
    if not accounts.have_keys and host and not _is_this_machine(f"http://{host}"):
        raise _refused()


def _is_foreign(origin: str) -> bool:
    """Return whether an origin is another site's, or hidden. Programs with an origin of their own kind are none."""
    return origin == "null" or (origin.startswith(("http:", "https:")) and not _is_this_machine(origin))


def _is_this_machine(url: str) -> bool:
    try:
        name = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return is_local(name) or name.endswith(".localhost")


def _value(headers: Headers, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in headers if key == name), "")


def _refused() -> ProtocolError:
    message = "pages of other sites may not use a server without keys; add `tenants` to zoo.yaml"
    return ProtocolError(403, message, code="foreign_origin")
