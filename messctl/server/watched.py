"""Whose figures are shown to whom: by the page, by its events, and by the metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from messctl.live.router import Router
from messctl.server.metrics import Reading

if TYPE_CHECKING:
    from messctl.server.service import Service


@dataclass(frozen=True, slots=True)
class Watched:
    """A tenant that is watched: its name, and the router that keeps its promise."""

    name: str
    router: Router

    def reading(self) -> Reading:
        """Return what metrics read from the state. Raises StoreError."""
        return Reading(self.router.settings.alpha, self.router.ledger(), self.router.zoo.models)


def watched_by(service: Service, headers: Iterable[tuple[bytes, bytes]]) -> list[Watched]:
    """Return what the tenant may watch whose key a request carries. Raises ProtocolError for a wrong key."""
    account = service.accounts.asking(headers)
    return [Watched(account.label, account.router)]


def readings(service: Service) -> Mapping[str, Reading]:
    """Return what metrics read from the state, by tenant. Raises StoreError."""
    return {account.label: Watched(account.label, account.router).reading() for account in service.accounts}
