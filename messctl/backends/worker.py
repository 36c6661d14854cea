"""A model in a process of its own: when llama.cpp dies, one answer is lost, and not the session.

What a worker does is in `worker_main`, and what the two processes tell each other in `wire`.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import BinaryIO

from messctl.backends.base import OnText
from messctl.backends.library import interrupted
from messctl.backends.loaded import crashed, failure
from messctl.backends.wire import ERROR, STOPPED, TEXT, WARNING, Ask, Load, Said, Stop, hear, tell
from messctl.display.text import plain
from messctl.records import Completion, Question
from messctl.zoo import ModelSpec

_PATIENCE_S = 5.0
_GLANCE_S = 0.05
_LAST_WORDS = 4096  # bytes
_LONGEST_REASON = 300  # characters


class Worker:
    """A loaded model in a process of its own. Raises BackendError where it cannot be loaded.

    Not thread-safe, as `Loaded`: whoever uses it holds `lock` and looks at `closed`. Ctrl-C ends an answer, and leaves
    the worker usable; a model that is being loaded is given up.
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
            raise failure(spec, f"its process cannot be started: {error.strerror or error}") from error
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
        """Whether the process is gone without having been told to, as between two answers."""
        return not self.closed and not self._process.alive

    def complete(self, model: ModelSpec, question: Question, on_text: OnText | None = None) -> Completion:
        """Return the model's answer. Raises BackendError; CrashedError where the worker died, and is `closed`."""
        self._number += 1
        try:
            self._process.tell(Ask(self._number, replace(model, isolate=False), question, on_text is not None))
            said = self._listen(on_text)
        except _DiedError:
            self.close()
            ended = self._process.end()
            what = f"its worker process {ended}: this answer is lost; it starts again when it is next asked"
            raise crashed(self._spec, f"{what}; if that ends so too, {ended.cure}") from None
        except BaseException:
            with suppress(_DiedError):
                self._process.tell(Stop(self._number))
            raise
        if said.kind == ERROR:
            raise said.value
        assert isinstance(said.value, Completion)
        return said.value

    def close(self) -> None:
        """End the process; may be called twice."""
        self.closed = True
        self._process.end()

    def _load(self) -> None:
        try:
            self._process.tell(Load(self._spec))
            while (said := self._process.hear(_GLANCE_S)) is None or said.kind == WARNING:
                if said is not None:
                    self.warnings.append(said.value)
                if interrupted():
                    raise failure(self._spec, "was being loaded when it was interrupted")
        except _DiedError:
            ended = self._process.end()
            raise failure(self._spec, f"its worker process, while it loaded, {ended}: {ended.cure}") from None
        if said.kind == ERROR:
            raise said.value

    def _listen(self, on_text: OnText | None) -> Said:
        """Pass on what comes, and return what ends the answer. What is left of earlier answers is passed over."""
        while True:
            said = self._process.hear()
            assert said is not None
            if said.kind == WARNING:
                self.warnings.append(said.value)
            elif said.number == self._number:
                if said.kind not in (TEXT, STOPPED):
                    return said
                if on_text is not None and said.kind == TEXT:
                    on_text(said.value)


class _DiedError(Exception):
    """A worker's process is not there any more."""


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a process ended and why, as text; `cure` is what helps if it ends so again."""

    text: str
    cure: str

    def __str__(self) -> str:
        return self.text

    @classmethod
    def of(cls, code: int, reason: str) -> _Ending:
        """Return what an exit code means; `reason` is what the process last said, if anything."""
        try:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        except ValueError:
            how = f"was ended by signal {-code}"
        why = f" ({reason})" if reason else ""
        if code == -signal.SIGKILL:
            why = f"{why}, as the system does when memory runs out"
            return cls(f"{how}{why}", "lower n_ctx or n_gpu_layers in zoo.yaml")
        return cls(f"{how}{why}", "get the file again, or another")


class _Process:
    """A worker's process. Its output is heard in a thread, so that Ctrl-C never cuts a message in two.

    It is in a process group of its own, where Ctrl-C at a terminal does not reach it. Raises OSError where it
    cannot be started.
    """

    def __init__(self) -> None:
        self._last_words = tempfile.TemporaryFile()  # noqa: SIM115  # `end` closes it
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "messctl.backends.worker_main"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._last_words,
                env=_environment(),
                process_group=0,
            )
        except BaseException:
            self._last_words.close()
            raise
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input: BinaryIO = self._process.stdin  # type: ignore[assignment]
        self._output: BinaryIO = self._process.stdout  # type: ignore[assignment]
        self._heard: queue.SimpleQueue[Said | None] = queue.SimpleQueue()
        self._hearing = threading.Thread(target=self._hear, daemon=True)
        self._hearing.start()
        self._reason = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def tell(self, message: Load | Ask | Stop) -> None:
        """Send a message. Raises _DiedError."""
        try:
            tell(self._input, message)
        except OSError:
            raise _DiedError from None
        except BaseException:  # Ctrl-C cut the message in two, and nothing after it would be understood
            self._process.kill()
            self._process.wait()
            raise

    def hear(self, within_s: float | None = None) -> Said | None:
        """Wait for a message, and return None where none comes within that time. Raises _DiedError."""
        try:
            said = self._heard.get(timeout=within_s)
        except queue.Empty:
            return None
        if said is None:
            raise _DiedError
        return said

    def end(self) -> _Ending:
        """Have it end, and return how it did; may be called twice."""
        with suppress(OSError):
            self._input.close()
        try:
            code = self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._hearing.join()
        self._output.close()
        if not self._last_words.closed:
            with self._last_words as words:
                self._reason = _last_line(words)
        return _Ending.of(code, self._reason)

    def _hear(self) -> None:
        try:
            with suppress(Exception):  # it died, perhaps within a message
                while True:
                    self._heard.put(hear(self._output))
        finally:
            self._heard.put(None)


def _environment() -> dict[str, str]:
    """Return what lets a worker find the same modules as this process, and die without a debugger starting."""
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)  # noqa: PTH109
    return os.environ | {"PYTHONPATH": paths, "GGML_NO_BACKTRACE": "1"}


def _last_line(words: BinaryIO) -> str:
    """Return the last line that a process wrote on its stderr."""
    words.seek(max(0, words.seek(0, os.SEEK_END) - _LAST_WORDS))
    lines = [" ".join(line.split()) for line in words.read().decode("utf-8", "replace").splitlines()]
    return plain(next((line for line in reversed(lines) if line), ""))[:_LONGEST_REASON]
