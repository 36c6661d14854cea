"""Running a service: the socket, the signals that stop it, and the question that it asks itself."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn
from starlette.types import ASGIApp

from messctl.errors import UsageError
from messctl.server.http import Connection
from messctl.server.service import Service

Started = Callable[[Callable[[], None]], None]
"""What is called once a server serves; it gets a function that stops the server."""
SWITCH_S = 0.001
"""How soon a thread that computes lets the loop go on, which answers everybody; Python's own 5 ms would add up."""
LONGEST_FAREWELL_S = 5
"""How long threads may take to end after the last answer."""
BACKLOG = 2048


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that has an address, and takes no connections yet; port 0 takes a free one.

    So nobody else can have the address, and clients are refused until `run`. Raises UsageError if it cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--host {host!r} is no address of this machine ({error}); give another one") from None
    try:
        try:
            listening.bind(address)
        except OSError:  # connections that have ended may still hold it
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
    except OSError as error:
        listening.close()
        raise _taken(host, port, error) from None
    return listening


def _listen(listening: socket.socket) -> None:
    """Take connections. Raises UsageError if somebody else listens there since."""
    host, port = listening.getsockname()[:2]
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not before: two could be bound at once
        listening.listen(BACKLOG)
    except OSError as error:
        raise _taken(host, port, error) from None


def _taken(host: str, port: int, error: OSError) -> UsageError:
    why = error.strerror or error
    return UsageError(f"cannot listen at {host}, port {port} ({why}); choose another one with --port")


def address_of(listening: socket.socket) -> str:
    """Return the url at which a socket listens."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class _Server(uvicorn.Server):
    """A server that ends in order on a signal: its process does not die of it."""

    def __init__(self, config: uvicorn.Config, service: Service, started: Started) -> None:
        super().__init__(config)
        self._service = service
        self._on_start = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell."""
        await super().startup(sockets)
        if self.started:
            self._on_start(self._stop)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more requests, and let those finish that are being answered, for as long as is granted."""
        self._service.stopping = True
        dismissing = asyncio.get_running_loop().call_later(self._service.limits.grace_s, self._service.dismiss)
        await super().shutdown(sockets)
        dismissing.cancel()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let SIGTERM and Ctrl-C stop the server; a second one ends it at once."""
        names = (signal.SIGINT, signal.SIGTERM)
        before = {name: signal.signal(name, self.handle_exit) for name in names}
        try:
            yield
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)

    def _stop(self) -> None:
        self.should_exit = True


def run(application: ASGIApp, service: Service, listening: socket.socket, started: Started) -> None:
    """Serve at a bound socket until a signal comes, then let answers finish. Raises UsageError if it cannot listen.

    `started` is called once it serves, with what stops it.
    """
    for name in ("uvicorn.error", "uvicorn.access"):  # it would log requests that cannot be read, with tracebacks
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False
    config = uvicorn.Config(
        application,
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=math.ceil(service.limits.grace_s) + LONGEST_FAREWELL_S,
    )
    _listen(listening)
    gc.collect()
    gc.freeze()  # what was loaded stays: to look through it again and again costs a tenth of the time
    sys.setswitchinterval(SWITCH_S)
    server = _Server(config, service, started)
    with _as_many_files_as_allowed(), asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(server.serve([listening]))
    threading.Thread(target=_end_anyway, daemon=True).start()


def _end_anyway() -> None:
    """End the process if a thread does not: a model that is being loaded cannot be interrupted."""
    time.sleep(LONGEST_FAREWELL_S)
    os._exit(0)


@contextmanager
def _as_many_files_as_allowed() -> Iterator[None]:
    """Let the process have as many connections as the system allows it."""
    try:
        import resource  # noqa: PLC0415  # not on every system
    except ImportError:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
