"""Servers for tests, on loopback: one that misbehaves as the test says, and llama-cpp-python's real one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


def chunk(**choice: Any) -> dict[str, Any]:
    """Return one piece of a streamed answer."""
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "finish_reason": None, **choice}]}


def events(*documents: Any, done: bool = True) -> bytes:
    """Return documents as server-sent events."""
    lines = [f"data: {json.dumps(document, ensure_ascii=False)}\n\n" for document in documents]
    return "".join([*lines, "data: [DONE]\n\n"] if done else lines).encode()


def streamed(*pieces: str, usage: Any = USAGE, finish: str = "stop", done: bool = True) -> bytes:
    """Return a valid streamed answer."""
    documents = [chunk(delta={"role": "assistant"}), *(chunk(delta={"content": piece}) for piece in pieces)]
    documents.append(chunk(delta={}, finish_reason=finish))
    return events(*documents, *([{"choices": [], "usage": usage}] if usage else []), done=done)


class Handler(BaseHTTPRequestHandler):
    """Answers with the server's behaviours, one per request; the last one answers all further requests."""

    protocol_version = "HTTP/1.1"
    server: Misbehaving

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        self._serve(json.loads(self.rfile.read(length)))

    def do_GET(self) -> None:
        self._serve(None)

    def _serve(self, body: Any) -> None:
        server = self.server
        with server.lock:
            server.requests.append((self.path, dict(self.headers), body))
            behaviour = server.behaviours[min(server.served, len(server.behaviours) - 1)]
            server.served += 1
        behaviour(self)

    def answer(
        self,
        content: bytes,
        status: int = 200,
        kind: str | None = "text/event-stream",
        length: int | None = None,
        **headers: str,
    ) -> None:
        """Send a response; with a `length` above the content's, close the connection too early."""
        self.send_response(status)
        if kind is not None:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()
        if length is not None:
            self.close_connection = True

    def log_message(self, *_arguments: Any) -> None:
        pass


class Misbehaving(ThreadingHTTPServer):
    """An HTTP server on loopback that misbehaves, and stores the requests that it gets."""

    daemon_threads = True

    def __init__(self, *behaviours: Callable[[Handler], None]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviours: Sequence[Callable[[Handler], None]] = behaviours
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.served = 0
        self.lock = threading.Lock()
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@contextmanager
def misbehaving(*behaviours: Callable[[Handler], None]) -> Iterator[Misbehaving]:
    """Run a server that misbehaves."""
    with Misbehaving(*behaviours) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()


def free_port() -> int:
    """Return a port on loopback that is not in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LlamaServer:
    """llama-cpp-python's server with one GGUF file; it can be killed and started again on the same port."""

    def __init__(self, file: Path, alias: str, folder: Path, api_key: str | None = None) -> None:
        self.port = free_port()
        self._log = folder / f"{alias}.log"
        self._command = [
            sys.executable, "-m", "llama_cpp.server", "--model", str(file), "--model_alias", alias,
            "--host", "127.0.0.1", "--port", str(self.port), "--n_ctx", "512",
        ]  # fmt: skip
        self._environment = {**os.environ, **({"API_KEY": api_key} if api_key else {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=self._environment)
        for _ in range(1200):
            try:
                urllib.request.urlopen(f"{self.url}/models", timeout=5).close()
            except urllib.error.HTTPError:
                return  # it runs and needs a key
            except OSError:
                assert self._process.poll() is None, self._log.read_text()
                time.sleep(0.1)
            else:
                return
        raise AssertionError(self._log.read_text())

    def kill(self) -> None:
        """Kill it, as the system does when memory runs out."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> LlamaServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
