"""The service: the router and all that its endpoints share."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from typing import Any

from messctl.errors import StoreError
from messctl.live.router import Answered, Router
from messctl.records import LeftError
from messctl.server.accounts import Account, Accounts
from messctl.server.errors import ProtocolError, busy, protocol_error, unknown_model
from messctl.server.latest import Key, Latest
from messctl.server.metrics import Metrics, Reading
from messctl.server.queues import Queues
from messctl.server.request import ParsedRequest
from messctl.server.state_watch import StateWatch
from messctl.server.waiting import Done, Failed, WaitingClient

MOST_THREADS = 256
"""How many requests are answered or wait at a time; others are told to come again."""
MOST_REMEMBERED = 65_536
"""How many calls of tools, and how many sessions, are remembered, each with the model that answered."""
DEFAULT_MAX_BODY = 32 * 10**6


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a service: the most bytes of a body, and for how many seconds answers go on after a stop."""

    max_body: int
    grace_s: float


class Service:
    """What answers requests: the `accounts` with their routers, the `queues` before models, threads to answer in.

    `state` says whether requests can be stored.
    """

    def __init__(self, accounts: Accounts, queues: Queues, limits: Limits) -> None:
        self.accounts = accounts
        self.queues = queues
        self.limits = limits
        self.stopping = False
        self.state = StateWatch(self._check_state)
        self.metrics = Metrics(self._readings, queues.waiting)
        self._pool = ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="messctl-answer")
        self._callers: Latest[str] = Latest(MOST_REMEMBERED)
        self._sessions: Latest[str] = Latest(MOST_REMEMBERED)
        self._checked = cycle(accounts)
        self._next_checked = next(self._checked)
        self._running: set[WaitingClient] = set()
        self._lock = threading.Lock()

    @property
    def running(self) -> int:
        """The number of requests that are being answered, or wait."""
        return len(self._running)

    def start(self, account: Account, parsed: ParsedRequest, waiting: WaitingClient) -> str:
        """Begin to answer; return the request's id. Raises ProtocolError for an unknown model, or if too many wait."""
        names = account.router.zoo.models
        if parsed.model is not None and parsed.model not in names:
            raise unknown_model(parsed.model, ", ".join(names[:20]))
        with self._lock:
            if len(self._running) >= MOST_THREADS:
                raise busy(f"{MOST_THREADS} requests are being answered, as many as may be")
            self._running.add(waiting)
        waiting.measured = self.metrics.begin(account.label)
        request_id = secrets.token_hex(12)
        self._pool.submit(self._answer, account, request_id, parsed, waiting)
        return request_id

    def dismiss(self) -> None:
        """End all answers that are being given."""
        with self._lock:
            running = list(self._running)
        for waiting in running:
            waiting.leave()

    def close(self) -> None:
        """End all answers, and take no more requests."""
        self.stopping = True
        self.dismiss()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.state.close()

    def refusal(self, error: BaseException) -> ProtocolError:
        """Return what a client gets for any error; what is wrong with the state is noted."""
        if isinstance(error, StoreError):
            self.state.failed(error)
        return protocol_error(error)

    async def in_thread(self, call: Any, *arguments: Any) -> Any:
        """Return what a call returns that reads or writes the state, without keeping the loop from others."""
        import asyncio  # noqa: PLC0415

        return await asyncio.get_running_loop().run_in_executor(self._pool, call, *arguments)

    def _readings(self) -> dict[str, Reading]:
        away = self.state.problem() is not None
        return {account.label: self._reading(account.router, away=away) for account in self.accounts}

    def _reading(self, router: Router, *, away: bool) -> Reading:
        if not away:
            try:
                return Reading.of(router)
            except StoreError as error:
                self.state.failed(error)
        return Reading.without_state(router)

    def _check_state(self) -> None:
        """Raise StoreError if the state of one account cannot be used; then the next account's is checked next time."""
        try:
            self._next_checked.router.check_state()
        except StoreError:
            self._next_checked = next(self._checked)
            raise

    def _answer(self, account: Account, request_id: str, parsed: ParsedRequest, waiting: WaitingClient) -> None:
        try:
            waiting.check()
            if waiting.measured:
                waiting.measured.deciding()
            ask = partial(self._ask, account, request_id, parsed, waiting)
            if account.fallback is None:
                answered = ask(account.router)
            else:
                answered = account.fallback.answer(ask, lambda: waiting.shown)
            if not answered.degraded:
                self.state.worked()
            self._remember(account, parsed, answered.decision.served, waiting.parts)
            waiting.end(Done(answered))
        except (LeftError, Exception) as error:  # noqa: BLE001  # the client gets every error
            if isinstance(error, StoreError):
                self.state.failed(error)
            waiting.end(Failed(error))
        finally:
            with self._lock:
                self._running.discard(waiting)

    def _ask(
        self, account: Account, request_id: str, parsed: ParsedRequest, waiting: WaitingClient, router: Router
    ) -> Answered:
        return router.ask(
            replace(parsed.question, recipient=waiting),
            model=parsed.model or self._caller(account, parsed),
            on_text=waiting.text if waiting.streams else None,
            on_thinking=waiting.thinking,
            on_decision=waiting.decided,
            request_id=request_id,
            warm=self._sessions.get(_key(account, parsed.session)),
            lenient=True,
        )

    def _caller(self, account: Account, parsed: ParsedRequest) -> str | None:
        """Return the model that called the tool whose result is the last message; None if it is no such result."""
        assert parsed.question.chat is not None
        last = parsed.question.chat.messages[-1]
        call = last.get("tool_call_id") if last["role"] == "tool" else None
        model = self._callers.get(_key(account, call if isinstance(call, str) else None))
        return model if model in account.router.zoo.models else None

    def _remember(self, account: Account, parsed: ParsedRequest, model: str, parts: list[Mapping[str, Any]]) -> None:
        session = _key(account, parsed.session)
        if session is not None:
            self._sessions.set(session, model)
        for part in parts:
            for call in part.get("delta", {}).get("tool_calls") or ():
                identity = call.get("id") if isinstance(call, Mapping) else None
                key = _key(account, identity if isinstance(identity, str) else None)
                if key is not None:
                    self._callers.set(key, model)


def _key(account: Account, name: str | None) -> Key | None:
    """Return a name that belongs to one account alone."""
    return None if name is None else (account.name, name)
