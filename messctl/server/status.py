"""What a service says about itself: its models, whether it is alive and ready, and whether the promise is kept."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from messctl.server.accounts import Account
from messctl.server.request import AUTO
from messctl.server.service import Service


def models_document(account: Account) -> dict[str, Any]:
    """Return the list of models: `auto`, by which the router chooses, then those of the zoo."""
    return {"object": "list", "data": [model_document(name) for name in (AUTO, *account.router.zoo.models)]}


def model_document(name: str) -> dict[str, Any]:
    """Return what is said of one model."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "messctl"}


def status_document(service: Service, account: Account) -> dict[str, Any]:
    """Return how well the promise is kept, what was spent, and how many requests wait. Raises StoreError."""
    router = account.router
    ledger = router.ledger()
    return {
        "version": 1,
        "tenant": account.name or None,
        "alpha": router.settings.alpha,
        "margin": router.settings.margin,
        "policy": router.settings.policy,
        "sla_met": ledger.standing.meets(router.settings.alpha),
        "running": service.running,
        "waiting": service.queues.waiting(),
        **asdict(ledger),
    }
