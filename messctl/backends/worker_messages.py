"""The messages between a worker and its parent process: pickled tuples, one after the other, on two pipes.

Both processes run the same installation, and one started the other, so pickle is safe: nobody else can write there.
"""

from __future__ import annotations

import pickle
from typing import Any, BinaryIO, NamedTuple

from messctl.records import Question
from messctl.zoo import ModelSpec

TEXT, THINKING, WARNING, ANSWER, ERROR, STOPPED = "text", "thinking", "warning", "answer", "error", "stopped"


class Load(NamedTuple):
    """Load a model. Replies to it have number 0, and the value of its ANSWER is None."""

    model: ModelSpec


class Ask(NamedTuple):
    """Answer a question, numbered from 1. With `stream`, send the answer's pieces too; with `think`, the thinking's."""

    number: int
    model: ModelSpec
    question: Question
    stream: bool
    think: bool = False


class Stop(NamedTuple):
    """Stop answering a question: nobody waits for the answer any more."""

    number: int


class Reply(NamedTuple):
    """One reply to question `number`: any number of TEXT, THINKING and WARNING, then one ANSWER, ERROR or STOPPED.

    `value` is the piece of text or the warning, a Completion, a MessctlError, or None.
    """

    number: int
    kind: str
    value: Any


def send(pipe: BinaryIO, message: Load | Ask | Stop | Reply) -> None:
    """Write a message to a pipe. Raises OSError if the other end is closed."""
    pipe.write(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))
    pipe.flush()


def receive(pipe: BinaryIO) -> Any:
    """Wait for a message and return it.

    Raises EOFError if the other end is closed, UnpicklingError if it was closed within a message.
    """
    return pickle.load(pipe)
