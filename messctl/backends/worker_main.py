"""The program of a worker process: it runs one model and answers one question after the other.

Questions come in on standard input, replies go out on standard output. The process ends at once when its input ends,
even within an answer. So it never outlives the process that started it, however that ended.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import traceback
from queue import SimpleQueue
from types import FrameType
from typing import BinaryIO

from messctl.backends.llama_cpp import LlamaCpp
from messctl.backends.llama_errors import failure
from messctl.backends.worker_messages import (
    ANSWER,
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
from messctl.errors import MessctlError


class _WorkerLoop:
    """Answers in the main thread and reads messages in another one, so that a stop arrives during an answer.

    A stop raises KeyboardInterrupt in the main thread, which LlamaCpp can handle, but never while a reply is sent.
    """

    def __init__(self, requests: BinaryIO, replies: BinaryIO) -> None:
        self._requests, self._replies = requests, replies
        self._questions: SimpleQueue[Load | Ask] = SimpleQueue()
        self._number = 0
        self._stopped_number = -1
        self._stoppable = False

    def run(self) -> None:
        """Answer questions until the process ends."""
        signal.signal(signal.SIGINT, self._on_interrupt)
        threading.Thread(target=self._read_requests, daemon=True).start()
        llama = LlamaCpp(on_warning=lambda text: self._reply(WARNING, text))
        while True:
            question = self._questions.get()
            self._number = question.number if isinstance(question, Ask) else 0
            try:
                kind, value = self._answer(llama, question)
            except KeyboardInterrupt:
                kind, value = STOPPED, None
            self._reply(kind, value)

    def _answer(self, llama: LlamaCpp, request: Load | Ask) -> tuple[str, object]:
        try:
            self._stoppable = True
            self._check_stopped()
            if isinstance(request, Load):
                llama.load(request.model)
                return ANSWER, None
            on_text = (lambda text: self._reply(TEXT, text)) if request.stream else None
            on_thinking = (lambda text: self._reply(THINKING, text)) if request.think else None
            return ANSWER, llama.complete(request.model, request.question, on_text, on_thinking)
        except MessctlError as error:
            return ERROR, error
        except Exception as error:  # noqa: BLE001  # the worker must go on, and the user gets one line
            return ERROR, failure(request.model, f"fails in its worker process: {error!r}")
        finally:
            self._stoppable = False

    def _reply(self, kind: str, value: object) -> None:
        stoppable, self._stoppable = self._stoppable, False
        send(self._replies, Reply(self._number, kind, value))
        self._stoppable = stoppable
        if stoppable:
            self._check_stopped()

    def _check_stopped(self) -> None:
        if self._stopped_number == self._number:
            raise KeyboardInterrupt

    def _on_interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._stoppable:
            self._check_stopped()

    def _read_requests(self) -> None:
        try:
            while True:
                message = receive(self._requests)
                if isinstance(message, Stop):
                    self._stopped_number = message.number
                    if self._number == message.number:  # a stop for another question does not end a load
                        _thread.interrupt_main()
                else:
                    self._questions.put(message)
        except EOFError:
            os._exit(0)
        except BaseException:  # noqa: BLE001  # without this thread a worker is useless
            traceback.print_exc()
            os._exit(1)


def main() -> None:
    """Run a worker. What libraries print on standard output is lost, because the replies go there."""
    replies = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    _WorkerLoop(sys.stdin.buffer, replies).run()


if __name__ == "__main__":
    main()
