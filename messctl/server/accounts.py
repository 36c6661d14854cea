"""Accounts: for each tenant a router of its own, and how many requests it may send."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping

from messctl.display.text import plain
from messctl.live.fallback import Fallback
from messctl.live.router import Router
from messctl.server.errors import busy
from messctl.server.keys import Keys
from messctl.server.origins import refuse_foreign_pages
from messctl.zoo.tenants import Tenant

NOBODY = ""
"""The name of the one account of a server without tenants."""
DEFAULT_TENANT = "default"
"""How NOBODY is shown."""
MINUTE_S = 60.0


class Account:
    """Whom a request is answered for: a `name`, the `router` with its promise, and a limit of requests per minute.

    A `fallback` answers if the state of the router is away; None: then nobody does.
    """

    def __init__(
        self, name: str, router: Router, per_minute: int | None = None, fallback: Fallback | None = None
    ) -> None:
        self.name = name
        self.router = router
        self.fallback = fallback
        self._per_minute = per_minute
        self._left = float(per_minute or 0)
        self._at = time.monotonic()
        self._lock = threading.Lock()

    @property
    def label(self) -> str:
        """The name that is shown, which is never empty."""
        return self.name or DEFAULT_TENANT

    def count(self) -> None:
        """Count a request. Raises ProtocolError if there were too many within the last minute."""
        if self._per_minute is None:
            return
        with self._lock:
            now = time.monotonic()
            self._left = min(self._per_minute, self._left + (now - self._at) * self._per_minute / MINUTE_S)
            self._at = now
            if self._left < 1.0:
                wait_s = (1.0 - self._left) * MINUTE_S / self._per_minute
                raise busy(f"more than {self._per_minute} requests per minute; wait", wait_s)
            self._left -= 1.0


def _tell(message: str) -> None:
    """Say something in the server's own output."""
    sys.stderr.write(f"messctl: warning: {plain(message)}\n")


class Accounts:
    """All accounts of a server, by name; without keys there is one, NOBODY, for whoever asks."""

    def __init__(self, accounts: Mapping[str, Account], keys: Keys) -> None:
        self._accounts = accounts
        self._keys = keys

    @classmethod
    def of(
        cls, routers: Mapping[str, Router], tenants: Iterable[Tenant], keys: Keys, *, degraded: bool = False
    ) -> Accounts:
        """Return the accounts of routers, by tenant; NOBODY's without tenants. If `degraded`, with fallbacks."""
        limits = {tenant.name: tenant.per_minute for tenant in tenants}
        accounts = {
            name: Account(name, router, limits.get(name), Fallback(router, _tell) if degraded else None)
            for name, router in routers.items()
        }
        return cls(accounts, keys)

    @property
    def degraded(self) -> bool:
        """Whether requests are answered without their state, too."""
        return all(account.fallback is not None for account in self)

    def __iter__(self) -> Iterator[Account]:
        return iter(self._accounts.values())

    @property
    def have_keys(self) -> bool:
        """Whether a request needs a key."""
        return bool(self._keys)

    def asking(self, headers: Iterable[tuple[bytes, bytes]]) -> Account:
        """Return the account that a request belongs to.

        Raises ProtocolError for a wrong key; without keys, for a request of a page of another site.
        """
        if self._keys:
            return self._accounts[self._keys.tenant_of(headers)]
        refuse_foreign_pages(headers)
        return self._accounts[NOBODY]

    def others(self, account: Account) -> list[Account]:
        """Return all other accounts."""
        return [other for other in self._accounts.values() if other is not account]
