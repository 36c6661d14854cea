"""What `messctl serve` adds to an answer under load, beside a bare pass-through to the same stub in the same run.

    python benchmarks/serve.py [--rate 100] [--connections 64] [--seconds 20] [--memory 100000]

A stub stands for the servers of two models: it answers at once. A bare Starlette application hands requests on to it,
and its answers back. `messctl serve` routes them there, logs them and learns what they cost. Requests come at a steady
rate over 64 connections, then as fast as they are answered. The two take turns, so both meet the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from rich.console import Console
from rich.table import Table
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

ANSWER = (
    b'{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"yes"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}'
)
ZOO = """
models:
- {{name: small, url: "{0}", cost: {{unit: USD, prompt: 1, generated: 1}}}}
- {{name: large, url: "{0}", cost: {{unit: USD, prompt: 5, generated: 5}}}}
"""
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
ROUNDS = 7


async def stub(scope: Any, receive: Any, send: Any) -> None:
    """Answer at once; an ASGI application."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


def bare() -> Any:
    """Return a Starlette application that hands requests on to the stub at UPSTREAM."""
    client = httpx2.AsyncClient(limits=httpx2.Limits(max_connections=128, max_keepalive_connections=128), timeout=60)
    url = f"{os.environ['UPSTREAM']}/chat/completions"

    async def hand_on(request: Request) -> Response:
        content = await request.body()
        sent = client.build_request("POST", url, content=content, headers={"content-type": "application/json"})
        response = await client.send(sent, stream=True)

        async def pieces() -> AsyncIterator[bytes]:
            async for piece in response.aiter_raw():
                yield piece
            await response.aclose()

        return StreamingResponse(pieces(), headers={"content-type": "application/json"})

    return Starlette(routes=[Route("/v1/chat/completions", hand_on, methods=["POST"])])


class Connection:
    """One HTTP/1.1 connection that sends one request after the other."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname, parts.port

    async def ask(self, body: bytes) -> float:
        """Send a request, read its whole answer, and return the seconds that it took."""
        if not hasattr(self, "_reader"):
            self._reader, self._writer = await asyncio.open_connection(*self._address)
        started = time.perf_counter()
        self._writer.write(HEAD % len(body) + body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head[:20]:
            raise SystemExit(f"an error: {head!r}{await self._reader.read(2000)!r}")
        lower = head.lower()
        if b"content-length: " in lower:
            await self._reader.readexactly(int(lower.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        else:
            while size := int((await self._reader.readuntil(b"\r\n")).strip(), 16):
                await self._reader.readexactly(size + 2)
            await self._reader.readexactly(2)
        return time.perf_counter() - started


def body(number: int) -> bytes:
    """Return a request; no two are alike."""
    return json.dumps({"model": "auto", "messages": [{"role": "user", "content": f"What is {number} + 1?"}]}).encode()


async def steady(url: str, rate: float, connections: int, seconds: float) -> list[float]:
    """Send requests at a rate, each by the next free connection; return seconds from when each was due."""
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(connections):
        free.put_nowait(Connection(url))
    took: list[float] = []

    async def one(number: int, due: float) -> None:
        connection = await free.get()
        await connection.ask(body(number))
        took.append(time.perf_counter() - due)
        free.put_nowait(connection)

    began, tasks = time.perf_counter(), []
    for number in range(int(rate * seconds)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(number, due)))
    await asyncio.gather(*tasks)
    return took


async def saturated(url: str, connections: int, requests: int) -> float:
    """Send requests as fast as they are answered; return how many were answered per second."""
    left = iter(range(requests))

    async def worker() -> None:
        connection = Connection(url)
        for number in left:
            await connection.ask(body(number))

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(connections)))
    return requests / (time.perf_counter() - began)


@contextmanager
def running(command: list[str], ready: str, **env: str) -> Iterator[tuple[str, int]]:
    """Run a server; yield its url and the id of its process, once it has written a line that begins with `ready`."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **env})
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if ready in line:
                yield next(word for word in line.split() if word.startswith("http")).removesuffix("/v1"), process.pid
                return
        raise SystemExit(f"{command} did not start")
    finally:
        process.kill()
        process.wait()


def uvicorn(name: str) -> list[str]:
    """Return the command that serves an application of this file."""
    factory = ["--factory"] if name == "bare" else []
    folder = ["--app-dir", str(Path(__file__).parent)]
    alike = ["--no-access-log", "--http", "httptools", "--loop", "uvloop", "--timeout-keep-alive", "600"]
    return [sys.executable, "-m", "uvicorn", f"serve:{name}", *factory, "--port", "0", *alike, *folder]


def spread(values: list[float], form: str) -> str:
    """Return the median of values, with the least and the most."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def memory(process: int) -> float:
    """Return the memory of a process in MB."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=35)
    parser.add_argument("--saturate", type=int, default=3500, help="requests as fast as they are answered")
    parser.add_argument("--memory", type=int, default=0, help="requests over which the memory is watched")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream, _ = stack.enter_context(running(uvicorn("stub"), "running on"))
        (folder / "zoo.yaml").write_text(ZOO.format(f"{upstream}/v1"), encoding="utf-8")
        plain, _ = stack.enter_context(running(uvicorn("bare"), "running on", UPSTREAM=f"{upstream}/v1"))
        command = [sys.executable, "-m", "messctl", "serve", "--port", "0", "--zoo", str(folder / "zoo.yaml")]
        served, process = stack.enter_context(running([*command, "--state", str(folder / "state")], "serves"))
        report(given, {"bare pass-through": plain, "messctl serve": served}, process)


def report(given: argparse.Namespace, urls: dict[str, str], process: int) -> None:
    """Measure both servers in turns, and print the table: the median of the rounds, the least, and the most."""
    halves: dict[str, list[float]] = {name: [] for name in urls}
    tails: dict[str, list[float]] = {name: [] for name in urls}
    rates: dict[str, list[float]] = {name: [] for name in urls}
    for url in urls.values():
        asyncio.run(saturated(url, given.connections, 200))  # what is loaded at first is loaded now
    for _ in range(ROUNDS):
        for name, url in urls.items():
            asyncio.run(saturated(url, given.connections, 200))  # a virtual machine takes the memory of who is idle
            took = sorted(asyncio.run(steady(url, given.rate, given.connections, given.seconds / ROUNDS)))
            halves[name].append(1000 * statistics.median(took))
            tails[name].append(1000 * took[int(len(took) * 0.99)])
            rates[name].append(asyncio.run(saturated(url, given.connections, given.saturate // ROUNDS)))
    table = Table("server", "median, ms", "99th percentile, ms", "requests/s at saturation", box=None)
    for name in urls:
        table.add_row(name, spread(halves[name], ".1f"), spread(tails[name], ".1f"), spread(rates[name], ".0f"))
    screen = Console()
    screen.print(f"{given.rate:g} requests/s, {given.connections} connections, load average {os.getloadavg()[0]:.1f}")
    screen.print(table)
    if given.memory:
        before = memory(process)
        asyncio.run(saturated(urls["messctl serve"], given.connections, given.memory))
        screen.print(f"memory: {before:.0f} MB before, {memory(process):.0f} MB after {given.memory:,} requests")


if __name__ == "__main__":
    main()
