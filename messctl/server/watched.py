"""Whose figures are shown to whom: by the page, by its events, and by the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from messctl.live.router import Router
from messctl.server.metrics import Reading

if TYPE_CHECKING:
    from messctl.server.service import Service

DEFAULT_TENANT = "default"
"""The only tenant, if none are configured."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A tenant that is watched: its name, and the router that keeps its promise."""

    name: str
    router: Router

    def reading(self) -> Reading:
        """Return what metrics read from the state. Raises StoreError."""
        return Reading(self.router.settings.alpha, self.router.ledger(), self.router.zoo.models)


def all_watched(service: Service) -> list[Watched]:
    """Return every tenant of a service."""
    return [Watched(DEFAULT_TENANT, service.router)]


def readings(service: Service) -> Mapping[str, Reading]:
    """Return what metrics read from the state, by tenant. Raises StoreError."""
    return {watched.name: watched.reading() for watched in all_watched(service)}
