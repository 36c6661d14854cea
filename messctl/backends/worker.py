"""The backend that runs GGUF models as `LlamaCpp` does, each in a process of its own.

llama.cpp can end the process that it is in. Here that process is a worker's: a request is lost, and the next
one starts another worker. What a worker does is in `worker_main`, what it is told in `wire`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import replace
from queue import SimpleQueue
from types import TracebackType
from typing import BinaryIO, Self

from messctl.backends.base import OnText
from messctl.backends.library import interrupts_held
from messctl.backends.llama_cpp import OnWarning, instance
from messctl.backends.loaded import failure
from messctl.backends.wire import ANSWER, ERROR, TEXT, WARNING, Ask, Said, Stop, hear, tell
from messctl.records import Completion, Question
from messctl.terminal import plain
from messctl.zoo import ModelSpec

_PATIENCE_S = 5.0
_LAST_WORDS = 4096  # bytes
_LONGEST_REASON = 300  # characters


class Workers:
    """Runs GGUF models through llama.cpp, a process for each; starts one when its model is first asked.

    May be used from several threads: different models answer at once, one model answers one question after the
    other. `on_text` may not ask the same model in turn. Ctrl-C ends an answer, and leaves the worker usable. A
    worker that dies takes the request that it was at with it. None outlives this process.
    """

    def __init__(self, on_warning: OnWarning | None = None) -> None:
        self._on_warning = on_warning
        self._workers: dict[Hashable, _Worker] = {}
        self._adding = threading.Lock()

    def complete(self, model: ModelSpec, question: Question, on_text: OnText | None = None) -> Completion:
        """Return the model's answer. What starting its process takes counts as loading.

        Raises BackendError, also where the process died, and MissingExtraError as `LlamaCpp` does.
        """
        with self._adding:
            worker = self._workers.setdefault(instance(model), _Worker(self._on_warning))
        return worker.complete(model, question, on_text)

    def close(self) -> None:
        """End all processes, each when it has given the answer it is at. A model asked later has a new one."""
        with self._adding:
            workers = list(self._workers.values())
        for worker in workers:
            worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Worker:
    """What answers for one model: a process, where there is one."""

    def __init__(self, on_warning: OnWarning | None) -> None:
        self._on_warning = on_warning
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._number = 0
        self._loaded_at = 0.0

    def complete(self, model: ModelSpec, question: Question, on_text: OnText | None) -> Completion:
        called = time.perf_counter()
        with self._lock:
            completion = self._ask(self._running(model), model, question, on_text)
            ended = time.perf_counter()
            if completion.load_s > 0:
                self._loaded_at = ended - completion.latency_s
            load_s = max(0.0, self._loaded_at - called)
            return replace(completion, latency_s=ended - called - load_s, load_s=load_s)

    def close(self) -> None:
        with self._lock:
            self._end()

    def _running(self, model: ModelSpec) -> _Process:
        """Return the process, a new one where there is none or where it has died at rest."""
        if self._process is not None and not self._process.alive:
            self._end()
        if self._process is None:
            with interrupts_held():
                try:
                    self._process = _Process()
                except OSError as error:
                    raise failure(model, f"its process cannot be started: {error.strerror or error}") from error
        return self._process

    def _ask(self, process: _Process, model: ModelSpec, question: Question, on_text: OnText | None) -> Completion:
        self._number += 1
        try:
            process.tell(Ask(self._number, model, question, on_text is not None))
            said = self._listen(process, on_text)
        except _DiedError:
            raise failure(model, self._end()) from None
        except BaseException:
            with suppress(_DiedError):
                process.tell(Stop(self._number))
            raise
        if said.kind == ERROR:
            raise said.value
        if said.kind != ANSWER:
            raise failure(model, "its process was told to stop")
        answer: Completion = said.value
        return answer

    def _listen(self, process: _Process, on_text: OnText | None) -> Said:
        """Pass on what comes, and return what ends the answer. What is left of earlier answers is passed over."""
        while True:
            said = process.hear()
            if said.kind == WARNING:
                if self._on_warning is not None:
                    self._on_warning(said.value)
            elif said.number == self._number:
                if said.kind != TEXT:
                    return said
                if on_text is not None:
                    on_text(said.value)

    def _end(self) -> str:
        """End the process, where there is one, and return how it ended."""
        process = self._process
        if process is None:
            return ""
        with interrupts_held():
            end = process.end()
            self._process = None
        return end


class _DiedError(Exception):
    """A worker's process is not there any more."""


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
        self._heard: SimpleQueue[Said | None] = SimpleQueue()
        self._hearing = threading.Thread(target=self._hear, daemon=True)
        self._hearing.start()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def tell(self, message: Ask | Stop) -> None:
        """Send a message. Raises _DiedError."""
        try:
            tell(self._input, message)
        except OSError:
            raise _DiedError from None
        except BaseException:  # Ctrl-C cut the message in two, and nothing after it would be understood
            self._process.kill()
            self._process.wait()
            raise

    def hear(self) -> Said:
        """Wait for a message. Raises _DiedError."""
        said = self._heard.get()
        if said is None:
            raise _DiedError
        return said

    def end(self) -> str:
        """Have it end, and return how it did, why, and what to do."""
        with suppress(OSError):
            self._input.close()
        try:
            code = self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._hearing.join()
        self._output.close()
        with self._last_words as words:
            return f"its process {_ending(code, _last_line(words))}"

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


def _ending(code: int, reason: str) -> str:
    """Return how a process ended, why, and what to do."""
    try:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    except ValueError:
        how = f"was ended by signal {-code}"
    why = f" ({reason})" if reason else ""
    cure = "get the file again, or another"
    if how.endswith("SIGKILL"):
        why, cure = f"{why}, as the system does when memory runs out", "lower n_ctx or n_gpu_layers in zoo.yaml"
    return f"{how}{why}: ask again, and it is started anew; if it does so again, {cure}"
