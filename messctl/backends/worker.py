"""A model in a process of its own: if llama.cpp crashes, one answer is lost, and the session goes on.

`worker_main` is what that process runs; `worker_messages` are the messages between the two.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import BinaryIO

from messctl.backends.base import OnText
from messctl.backends.llama_errors import crashed, failure
from messctl.backends.llama_library import interrupted
from messctl.backends.worker_messages import (
    ERROR,
    STOPPED,
    TEXT,
    THINKING,
    WARNING,
    Ask,
    Load,
    Reply,
    Stop,
    receive,
    send,
)
from messctl.display.text import plain
from messctl.records import Completion, Question, Recipient
from messctl.zoo import ModelSpec

_PATIENCE_S = 5.0
_POLL_S = 0.05
_STDERR_BYTES = 4096
_LONGEST_REASON = 300  # characters


class Worker:
    """A loaded model in a process of its own. Raises BackendError if it cannot be loaded.

    Not thread-safe, like `LlamaModel`: hold `lock` to use it, and check `closed` first. Ctrl-C ends an answer and
    leaves the worker usable; it also ends the loading of a model.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.lock = threading.Lock()
        self.closed = False
        self.warnings: list[str] = []
        self._number = 0
        self._spec = replace(spec, isolate=False)
        try:
            self._process = _Process()
        except OSError as error:
            why = error.strerror or error
            raise failure(spec, f"its worker process cannot start: {why}: set isolate: false in zoo.yaml") from error
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def died(self) -> bool:
        """Whether the process ended without `close`, for instance between two answers."""
        return not self.closed and not self._process.alive

    def complete(
        self,
        model: ModelSpec,
        question: Question,
        on_text: OnText | None = None,
        on_thinking: OnText | None = None,
    ) -> Completion:
        """Return the model's answer. Raises BackendError; CrashedError if the process died, which closes the worker."""
        self._number += 1
        try:
            listeners = {TEXT: on_text, THINKING: on_thinking}
            streamed = [listener is not None for listener in listeners.values()]
            asked = replace(question, recipient=None)
            self._process.send(Ask(self._number, replace(model, isolate=False), asked, *streamed))
            reply = self._await_reply(listeners, question.recipient)
        except _DiedError:
            self.close()
            ending = self._process.end()
            what = f"its worker process {ending.text}: this answer is lost; the next request starts a new one"
            raise crashed(self._spec, f"{what}; if it dies again, {ending.remedy}") from None
        except BaseException:
            with suppress(_DiedError):
                self._process.send(Stop(self._number))
            raise
        if reply.kind == ERROR:
            raise reply.value
        assert isinstance(reply.value, Completion)
        return reply.value

    def close(self) -> None:
        """End the process; may be called twice."""
        self.closed = True
        self._process.end()

    def _load(self) -> None:
        try:
            self._process.send(Load(self._spec))
            while (reply := self._process.receive(_POLL_S)) is None or reply.kind == WARNING:
                if reply is not None:
                    self.warnings.append(reply.value)
                if interrupted():
                    raise failure(self._spec, "was interrupted while it was loaded")
        except _DiedError:
            ending = self._process.end()
            what = f"cannot be loaded: its worker process {ending.text}: {ending.remedy}"
            raise failure(self._spec, what) from None
        if reply.kind == ERROR:
            raise reply.value

    def _await_reply(self, listeners: Mapping[str, OnText | None], recipient: Recipient | None) -> Reply:
        """Pass each piece of text on to the listener of its kind, and return the reply that ends the answer.

        Skip what is left of older answers. Raises LeftError if whoever waits has left.
        """
        while True:
            reply = self._process.receive(None if recipient is None else _POLL_S)
            if recipient is not None:
                recipient.check()
            if reply is None:
                continue
            if reply.kind == WARNING:
                self.warnings.append(reply.value)
            elif reply.number == self._number:
                if reply.kind not in (*listeners, STOPPED):
                    return reply
                listener = listeners.get(reply.kind)
                if listener is not None:
                    listener(reply.value)


class _DiedError(Exception):
    """A worker's process has ended."""


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a process ended and why, as text; `remedy` is what to do if it happens again."""

    text: str
    remedy: str

    @classmethod
    def of(cls, code: int, reason: str) -> _Ending:
        """Return what an exit code means; `reason` is the last line of the process's stderr, or ""."""
        try:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        except ValueError:
            how = f"was ended by signal {-code}"
        why = f" ({reason})" if reason else ""
        if code == -signal.SIGKILL:
            why = f"{why}, as the system does when memory runs out"
            return cls(f"{how}{why}", "lower n_ctx or n_gpu_layers in zoo.yaml")
        return cls(f"{how}{why}", "download the file again, or use another one")


class _Process:
    """A worker's process. A thread reads its output, so that Ctrl-C never cuts a message in two.

    The process has a process group of its own, so Ctrl-C at the terminal does not reach it. Raises OSError if it
    cannot start.
    """

    def __init__(self) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # `end` closes it
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "messctl.backends.worker_main"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=_environment(),
                process_group=0,
            )
        except BaseException:
            self._stderr.close()
            raise
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input: BinaryIO = self._process.stdin  # type: ignore[assignment]
        self._output: BinaryIO = self._process.stdout  # type: ignore[assignment]
        self._replies: queue.SimpleQueue[Reply | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read_replies, daemon=True)
        self._reader.start()
        self._reason = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, message: Load | Ask | Stop) -> None:
        """Send a message. Raises _DiedError."""
        try:
            send(self._input, message)
        except OSError:
            raise _DiedError from None
        except BaseException:  # Ctrl-C cut the message in two, so the worker cannot read any message after it
            self._process.kill()
            self._process.wait()
            raise

    def receive(self, within_s: float | None = None) -> Reply | None:
        """Wait for a reply; return None if none comes within that time. Raises _DiedError."""
        try:
            reply = self._replies.get(timeout=within_s)
        except queue.Empty:
            return None
        if reply is None:
            raise _DiedError
        return reply

    def end(self) -> _Ending:
        """End the process, and return how it ended; may be called twice."""
        with suppress(OSError):
            self._input.close()
        try:
            code = self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._reader.join()
        self._output.close()
        if not self._stderr.closed:
            with self._stderr as stderr:
                self._reason = _last_line(stderr)
        return _Ending.of(code, self._reason)

    def _read_replies(self) -> None:
        try:
            with suppress(Exception):  # the process died, perhaps within a message
                while True:
                    self._replies.put(receive(self._output))
        finally:
            self._replies.put(None)


def _environment() -> dict[str, str]:
    """Return an environment in which a worker finds the same modules, and starts no debugger when it crashes."""
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)  # noqa: PTH109
    return os.environ | {"PYTHONPATH": paths, "GGML_NO_BACKTRACE": "1"}


def _last_line(stderr: BinaryIO) -> str:
    """Return the last line in a file that is not blank."""
    stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - _STDERR_BYTES))
    lines = [" ".join(line.split()) for line in stderr.read().decode("utf-8", "replace").splitlines()]
    return plain(next((line for line in reversed(lines) if line), ""))[:_LONGEST_REASON]
