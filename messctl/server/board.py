"""The board: all that the page shows, as one document, and as events when it changes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from messctl.display.text import clipped
from messctl.records import is_blank
from messctl.server.accounts import Account
from messctl.server.history import History
from messctl.state.request_log import LoggedRequest
from messctl.state.sqlite_file import MEMORY

if TYPE_CHECKING:
    from messctl.server.service import Service

NEWEST = 20
"""The number of latest requests that are shown."""
LONGEST_TEXT = 2000
"""The longest part of a prompt or an answer that is shown, in characters."""
LOOK_S = 0.5
"""How often the state is looked at for changes, as long as somebody watches."""
ALIVE_S = 10.0
"""How often something is sent in any case: what has changed only with time, and that the connection lives."""


class Board:
    """What is shown of the tenants of a `service`. Prompts and answers are shown only if `show_prompts`."""

    def __init__(self, service: Service, *, show_prompts: bool = False) -> None:
        self._service = service
        self._show_prompts = show_prompts
        self._histories: dict[str, History] = {}
        self._opening = threading.Lock()

    def document(self, account: Account) -> dict[str, Any]:
        """Return all that is shown to an account. Raises StoreError."""
        models, waiting = account.router.zoo.models, self._service.queues.waiting()
        return {
            "version": 1,
            "at": time.time(),
            "prompts": self._show_prompts,
            "running": self._service.running,
            "waiting": {name: count for name, count in waiting.items() if name in models},
            "tenants": [self._tenant(account)],
        }

    async def changes(self, account: Account) -> AsyncIterator[dict[str, Any]]:
        """Yield the document now and after every change, until the service stops. Raises StoreError."""
        seen, sent_at = None, 0.0
        while not self._service.stopping:
            stamp = await self._service.in_thread(self._stamp, account)
            if stamp != seen or time.monotonic() - sent_at >= ALIVE_S:
                seen, sent_at = stamp, time.monotonic()
                yield await self._service.in_thread(self.document, account)
            await asyncio.sleep(LOOK_S)

    def close(self) -> None:
        """Close what was opened to read."""
        for history in self._histories.values():
            history.close()

    def _stamp(self, account: Account) -> tuple[Any, ...]:
        history = self._history(account)
        return self._service.running, self._service.queues.waiting(), history and history.stamp()

    def _history(self, account: Account) -> History | None:
        """Return the history of an account; None if its state is only in memory."""
        path = account.router.state_path
        if path == MEMORY:
            return None
        with self._opening:
            if account.label not in self._histories:
                self._histories[account.label] = History(path)
            return self._histories[account.label]

    def _tenant(self, account: Account) -> dict[str, Any]:
        router, history = account.router, self._history(account)
        settings, ledger = router.settings, router.ledger()
        return {
            "name": account.label,
            "alpha": settings.alpha,
            "margin": settings.margin,
            "policy": settings.policy,
            "models": list(router.zoo.models),
            "sla_met": ledger.standing.meets(settings.alpha),
            **asdict(ledger),
            "logged": history is not None,
            "history": history.curve() if history else {},
            "latency": {name: asdict(each) for name, each in history.latencies().items()} if history else {},
            "requests": [self._request(each) for each in history.newest(NEWEST)] if history else [],
        }

    def _request(self, logged: LoggedRequest) -> dict[str, Any]:
        decision, served = logged.decision, logged.answers.get(logged.decision.served)
        costs = [outcome.cost for outcome in (*logged.answers.values(), *logged.empty.values())]
        shown = {
            "id": decision.request.request_id,
            "at": logged.asked_at.timestamp(),
            "model": decision.served,
            "answered": served is not None,
            "explored": decision.explored,
            "forced": logged.circumstances.forced,
            "satisfied": logged.satisfied,
            "cost": sum(cost for cost in costs if cost is not None),
            "unit": logged.circumstances.cost_unit,
            "latency_s": served.latency_s if served else None,
            "lost": sorted(logged.lost),
        }
        if self._show_prompts:
            shown["prompt"] = _shown(decision.request.prompt)
            shown["answer"] = _shown(served.answer) if served else None
        return shown


def _shown(text: str | None) -> str | None:
    return None if text is None or is_blank(text) else clipped(text, LONGEST_TEXT)
