"""Ctrl-C in a chat at a terminal: it ends what is being done, once, and never the chat."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Have Ctrl-C do nothing in the block, as where a line editor that knows better is being started."""
    with _handled(_ignore):
        yield


@contextmanager
def one_interrupt() -> Iterator[None]:
    """Have the first Ctrl-C in the block raise KeyboardInterrupt; those after it do nothing, however fast they come."""
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
