"""Pages of other sites: a browser on this machine reaches the server, and so does every page that is open in it.

A page may send without asking whatever a form may send. It may also bind its own name to 127.0.0.1 (DNS rebinding), and
then even read what comes back. Without keys, requests of a browser are therefore taken only from pages of this machine,
and only if they were sent to a name of this machine. Programs with an origin of their own kind are no such pages.
Source: the Fetch standard, "`Origin` header"; W3C, "Fetch metadata request headers".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from messctl.server.errors import ProtocolError
from messctl.zoo.server_keys import is_local

SITES = ("http:", "https:")


def refuse_foreign_pages(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise ProtocolError for a request of a page of another site."""
    held = {name: value.decode("latin-1") for name, value in headers}
    origin, site = held.get(b"origin"), held.get(b"sec-fetch-site")
    if origin is None and site is None:
        return
    if origin is None:
        foreign = site == "cross-site"
    else:
        foreign = origin == "null" or (origin.startswith(SITES) and not is_local(_host(origin)))
    if foreign or not _is_here(held):
        raise _refused()


def refuse_other_names(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise ProtocolError for a request that was sent to another name than this machine's.

    A browser says of a page that only reads from its own site neither its origin nor its site, if it came over `http`.
    """
    held = {name: value.decode("latin-1") for name, value in headers}
    if b"host" in held and not _is_here(held):
        raise _refused()


def _is_here(held: Mapping[bytes, str]) -> bool:
    return is_local(_host(f"//{held.get(b'host', '')}"))


def _refused() -> ProtocolError:
    message = "pages of other sites may not use a server without keys; add `tenants` to zoo.yaml"
    return ProtocolError(403, message, code="foreign_origin")


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
