"""Ctrl-C in a chat at a terminal: it ends the current answer, and never the chat."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Ignore Ctrl-C in the block, for instance while the line editor starts; it handles Ctrl-C itself."""
    with _handled(_ignore):
        yield


@contextmanager
def one_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt at the first Ctrl-C in the block; later ones do nothing, however fast they come."""
    with _handled(_raise_once):
        yield


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    pass


def _raise_once(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, _ignore)
    raise KeyboardInterrupt
