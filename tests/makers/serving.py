"""A real `messctl serve` in a process of its own, for tests: with real models, servers, or scripted answers."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

SCRIPTED = """
import os, time
import messctl.backends
from messctl.backends.scripted import Scripted
def answers(model, question):
    time.sleep({seconds})
    while os.path.exists("hold-" + model.name):
        time.sleep(0.01)
    return f"{{model.name}}: " + " ".join(question.prompt.split()[:50])
messctl.backends.LlamaCpp = lambda **_: Scripted(answers)
from messctl.__main__ import main
main()
"""
"""A messctl whose models in this process answer with their names and the prompt."""

TWO = """
sla: {alpha: 0.75}
defaults: {max_tokens: 64}
models:
- {name: cheap, path: cheap.gguf, cost: {unit: USD, prompt: 1, generated: 1}}
- {name: dear, path: dear.gguf, cost: {unit: USD, prompt: 10, generated: 20}}
"""
BOX = """
sla: {alpha: 0.75}
defaults: {n_ctx: 0, max_tokens: 64, temperature: 0}
models:
- {name: pico, path: "box:pico-34k.gguf"}
- {name: mini, path: "box:mini-1m.gguf"}
"""


def until(true: Callable[[], bool], within_s: float = 20.0) -> float:
    """Wait until something is true, and return the seconds that it took."""
    started = time.monotonic()
    while not true():
        assert time.monotonic() - started < within_s
        time.sleep(0.02)
    return time.monotonic() - started


class Serving:
    """A `messctl serve` with a zoo, in a folder; it has a free port of this machine, and serves once it is entered.

    With `scripted`, its models in this process are stand-ins, each of whose answers takes that many seconds, and as
    long as the model is held.
    """

    def __init__(
        self,
        folder: Path,
        zoo: str,
        *options: str,
        scripted: float | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.state = folder / "state"
        (folder / "zoo.yaml").write_text(zoo, encoding="utf-8")
        program = ["-m", "messctl"] if scripted is None else ["-c", SCRIPTED.format(seconds=scripted)]
        self._command = [sys.executable, *program, "serve", "--port", "0", "--state", str(self.state), *options]
        self._environment = {**os.environ, **(env or {})}
        self.process: subprocess.Popen[str]
        self.url = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Start, and wait until it says that it serves."""
        self.process = subprocess.Popen(
            self._command, cwd=self.folder, env=self._environment, stderr=subprocess.PIPE, text=True,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert self.process.stderr is not None
        said = ""
        for line in self.process.stderr:
            said += line
            if found := re.match(r"messctl serves (http://\S+)/v1", line):
                self.url = found[1]
                return
        raise AssertionError(said)

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def stop(self, within_s: float = 60) -> str:
        """Stop it as a service manager does; return what it has said on stderr."""
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=within_s)
        return said

    @contextmanager
    def held(self, *models: str) -> Iterator[None]:
        """Let the answers of these scripted models wait, until the block ends."""
        files = [self.folder / f"hold-{model}" for model in models]
        for file in files:
            file.touch()
        try:
            yield
        finally:
            for file in files:
                file.unlink()

    def connection(self) -> http.client.HTTPConnection:
        """Return a connection to it."""
        return http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)

    def ask(
        self, path: str, body: Any = None, headers: Mapping[str, str] | None = None, method: str | None = None
    ) -> tuple[int, dict[str, str], Any]:
        """Send one request; return the status, the headers and the document."""
        connection = self.connection()
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.request(method or ("GET" if body is None else "POST"), path, data, dict(headers or {}))
            response = connection.getresponse()
            content = response.read()
            found = {name.lower(): value for name, value in response.getheaders()}
            return response.status, found, json.loads(content) if content else None
        finally:
            connection.close()

    def chat(self, text: str = "What is 1 + 1?", **fields: Any) -> tuple[int, dict[str, str], Any]:
        """Ask for a chat completion."""
        body = {"model": "auto", "messages": [{"role": "user", "content": text}], **fields}
        return self.ask("/v1/chat/completions", body)
