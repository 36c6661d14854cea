"""The proxy that the environment names for a server: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, in both cases."""

from __future__ import annotations

import urllib.request
from base64 import b64encode
from contextlib import suppress
from ipaddress import ip_address, ip_network
from urllib.parse import unquote_to_bytes

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

PORTS = {"http": 80, "https": 443}
"""The schemes of servers and proxies, and their usual ports."""


def proxy_before(server: Url) -> Url | None:
    """Return the proxy before a server; None if it is asked directly. Raises ValueError, whose text says what to do."""
    proxies = urllib.request.getproxies()
    named = proxies.get(server.scheme or "") or proxies.get("all")
    if not named or urllib.request.proxy_bypass(server.netloc or ""):
        return None
    if any(_holds(place.strip(), (server.host or "").strip("[]")) for place in proxies.get("no", "").split(",")):
        return None
    with suppress(LocationParseError):
        proxy = parse_url(named if "://" in named else f"http://{named}")
        if proxy.scheme in PORTS and proxy.host:
            return proxy
    raise ValueError("cannot use the proxy in the environment: check HTTPS_PROXY and NO_PROXY")


def _holds(place: str, host: str) -> bool:
    """Return whether a host is in a network or domain of NO_PROXY, such as 10.0.0.0/8, fd00::1 or *.test."""
    if place.startswith("*."):
        return host.endswith(place[1:].lower())
    with suppress(ValueError):
        return ip_address(host) in ip_network(place, strict=False)
    return False


def authorization(proxy: Url) -> dict[str, str]:
    """Return the header with the name and the password that a proxy wants; none if its url has none."""
    if not proxy.auth:
        return {}
    name, _, password = proxy.auth.partition(":")
    who = b64encode(unquote_to_bytes(f"{name}:{password}")).decode()
    return {"Proxy-Authorization": f"Basic {who}"}
