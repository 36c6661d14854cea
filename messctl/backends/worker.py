"""A model in a process of its own: when llama.cpp dies, one answer is lost, and not the session.

The two processes speak over a pair of sockets. The worker hears nothing of the terminal (no Ctrl-C, no output), and
ends when its end of the line is closed, which the system does even where the parent is killed.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from messctl import errors
from messctl.backends.base import OnText
from messctl.errors import BackendError, MessctlError
from messctl.records import Completion, Question
from messctl.zoo import ModelSpec

_PATIENCE_S = 1.0  # how long an interrupted worker may go on before it is ended
_PROGRAM = "from messctl.backends.worker import main; main()"


class _Interrupted(Exception):  # noqa: N818  # it is no error
    """The parent wants no more of this answer."""


class Worker:
    """A loaded model in a process of its own. Raises BackendError where it cannot be loaded.

    Not thread-safe, as `Loaded`: whoever uses it holds `lock` and looks at `closed`.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.lock = threading.Lock()
        self.closed = False
        self.warned: str | None = None
        self._reading = False
        self._spec = spec
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C at the terminal is for the parent
            )
        self._line = Connection(ours.detach())
        try:
            self._send((sys.path, replace(spec, isolate=False)))
            self._receive(None)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    def complete(self, model: ModelSpec, question: Question, on_text: OnText | None = None) -> Completion:
        """Return the model's answer. Raises BackendError; where the worker died, it is `closed` after it."""
        try:
            self._send(("ask", replace(model, isolate=False), question))
            completion = self._receive(on_text)
        except MessctlError:
            raise
        except BaseException:
            self._interrupt()
            raise
        assert isinstance(completion, Completion)
        return completion

    def close(self) -> None:
        """End the process; may be called twice."""
        self.closed = True
        self._line.close()
        self._process.kill()
        self._process.wait()

    def _send(self, message: object) -> None:
        try:
            self._line.send(message)
        except OSError:
            raise self._died() from None

    def _receive(self, on_text: OnText | None) -> Any:
        """Return what the worker has to say in the end; pass on what it says before."""
        while True:
            try:
                self._line.poll(None)
                self._reading = True
                kind, *rest = self._line.recv()
                self._reading = False
            except (EOFError, OSError):
                raise self._died() from None
            if kind == "done":
                return rest[0]
            if kind == "failed":
                raise _rebuilt(*rest)
            if kind == "warning":
                self.warned = rest[0]
            elif on_text is not None:
                on_text(rest[0])

    def _interrupt(self) -> None:
        """End an answer of which no more is wanted; a worker that does not heed it in time is ended."""
        try:
            if not self._reading:  # else half a message is lost
                self._line.send(("stop",))
            while not self._reading and self._line.poll(_PATIENCE_S):
                kind, *_ = self._line.recv()
                if kind in ("done", "failed"):
                    return
        except (EOFError, OSError):
            pass
        self.close()

    def _died(self) -> BackendError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE_S)
        code = self._process.poll()
        self.close()
        if code is None:
            how = "stopped to answer"
        elif code < 0:
            how = f"was ended by {_signal_name(-code)}"
        else:
            how = f"ended with exit code {code}"
        return BackendError(
            f"model {self._spec.name!r} ({self._spec.place}): its worker process {how}: this answer is lost; "
            "the next request starts it again"
        )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _rebuilt(kind: str, message: str, about: dict[str, Any]) -> MessctlError:
    """Return an error as it was raised in the worker."""
    error: MessctlError = getattr(errors, kind).__new__(getattr(errors, kind), message)
    error.__dict__.update(about)
    return error


def main() -> None:
    """Be a worker: the parent's socket is the file descriptor that the last argument names."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = Connection(int(sys.argv[-1]))
    sys.path[:], spec = line.recv()
    from messctl.backends.llama_cpp import LlamaCpp  # noqa: PLC0415  # it starts workers, in turn

    asked: queue.SimpleQueue[Any] = queue.SimpleQueue()
    stop = threading.Event()

    def listen() -> None:
        try:
            while True:
                message = line.recv()
                if message[0] == "stop":
                    stop.set()
                else:
                    stop.clear()
                    asked.put(message)
        except (EOFError, OSError):
            os._exit(0)  # the parent is gone, or wants no more

    def say(text: str) -> None:
        if stop.is_set():
            raise _Interrupted
        line.send(("text", text))

    def answer(message: Any) -> tuple[Any, ...]:
        try:
            if message is None:
                backend.load(spec)
                return "done", None
            return "done", backend.complete(message[1], message[2], say)
        except MessctlError as error:
            kind = next(kind.__name__ for kind in type(error).__mro__ if hasattr(errors, kind.__name__))
            return "failed", kind, str(error), error.__dict__
        except _Interrupted:
            return "failed", BackendError.__name__, "the answer was interrupted", {}

    backend = LlamaCpp(lambda text: line.send(("warning", text)))
    threading.Thread(target=listen, daemon=True).start()
    line.send(answer(None))
    while True:
        line.send(answer(asked.get()))
