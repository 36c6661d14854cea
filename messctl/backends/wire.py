"""What a worker and whoever asks it tell each other: pickled tuples, one after the other, on two pipes.

Both ends are the same installation, and one started the other; nothing else can write there.
"""

from __future__ import annotations

import pickle
from typing import Any, BinaryIO, NamedTuple

from messctl.records import Question
from messctl.zoo import ModelSpec

TEXT, WARNING, ANSWER, ERROR, STOPPED = "text", "warning", "answer", "error", "stopped"


class Load(NamedTuple):
    """A model that is to be loaded; what is said to it has number 0, and the ANSWER's value is None."""

    model: ModelSpec


class Ask(NamedTuple):
    """A question, numbered from 1; `listened` asks for its answer's pieces, too."""

    number: int
    model: ModelSpec
    question: Question
    listened: bool


class Stop(NamedTuple):
    """Nobody waits for the answer to a question any more."""

    number: int


class Said(NamedTuple):
    """Something on question `number`: pieces of TEXT and WARNINGs, then an ANSWER, an ERROR, or that it was STOPPED.

    `value` is accordingly the text, a Completion, a MessctlError, or None.
    """

    number: int
    kind: str
    value: Any


def tell(pipe: BinaryIO, message: Load | Ask | Stop | Said) -> None:
    """Send a message."""
    pipe.write(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))
    pipe.flush()


def hear(pipe: BinaryIO) -> Any:
    """Wait for a message and return it. Raises EOFError, or UnpicklingError within one, where the other end is gone."""
    return pickle.load(pipe)
