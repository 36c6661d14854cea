"""A worker's own side: a process that runs one model and answers one question after the other.

Questions come in on its standard input, answers go out on its standard output. It ends when the input does, whatever
it is at, and so never outlives the process that started it, however that one ended.
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
from messctl.backends.loaded import failure
from messctl.backends.wire import ANSWER, ERROR, STOPPED, TEXT, WARNING, Ask, Load, Said, Stop, hear, tell
from messctl.errors import MessctlError


class _Worker:
    """Answers in the main thread, and hears in another what it is asked, so that a stop is heard in time.

    A stop becomes a KeyboardInterrupt in the main thread, which LlamaCpp knows how to take, but never within a message.
    """

    def __init__(self, asked: BinaryIO, said: BinaryIO) -> None:
        self._asked, self._said = asked, said
        self._questions: SimpleQueue[Load | Ask] = SimpleQueue()
        self._number = 0
        self._stopped = -1
        self._stoppable = False

    def work(self) -> None:
        """Answer, without end."""
        signal.signal(signal.SIGINT, self._interrupted)
        threading.Thread(target=self._listen, daemon=True).start()
        llama = LlamaCpp(on_warning=lambda text: self._say(WARNING, text))
        while True:
            ask = self._questions.get()
            self._number = ask.number if isinstance(ask, Ask) else 0
            try:
                kind, value = self._answer(llama, ask)
            except KeyboardInterrupt:
                kind, value = STOPPED, None
            self._say(kind, value)

    def _answer(self, llama: LlamaCpp, ask: Load | Ask) -> tuple[str, object]:
        try:
            self._stoppable = True
            self._heed()
            if isinstance(ask, Load):
                llama.load(ask.model)
                return ANSWER, None
            on_text = (lambda text: self._say(TEXT, text)) if ask.listened else None
            return ANSWER, llama.complete(ask.model, ask.question, on_text)
        except MessctlError as error:
            return ERROR, error
        except Exception as error:  # noqa: BLE001  # the process has more to answer, and its asker one line to read
            return ERROR, failure(ask.model, f"fails in its process: {error!r}")
        finally:
            self._stoppable = False

    def _say(self, kind: str, value: object) -> None:
        stoppable, self._stoppable = self._stoppable, False
        tell(self._said, Said(self._number, kind, value))
        self._stoppable = stoppable
        if stoppable:
            self._heed()

    def _heed(self) -> None:
        if self._stopped == self._number:
            raise KeyboardInterrupt

    def _interrupted(self, _number: int, _frame: FrameType | None) -> None:
        if self._stoppable:
            self._heed()

    def _listen(self) -> None:
        try:
            while True:
                message = hear(self._asked)
                if isinstance(message, Stop):
                    self._stopped = message.number
                    if self._number == message.number:  # a model being loaded for another question is not given up
                        _thread.interrupt_main()
                else:
                    self._questions.put(message)
        except EOFError:
            os._exit(0)
        except BaseException:  # noqa: BLE001  # without its ears a worker is of no use
            traceback.print_exc()
            os._exit(1)


def main() -> None:
    """Work as a worker, with its output to itself: what libraries print there is lost."""
    said = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    _Worker(sys.stdin.buffer, said).work()


if __name__ == "__main__":
    main()
