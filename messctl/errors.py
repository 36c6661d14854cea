"""Every error that messctl raises on purpose, as one tree.

    MessctlError                 exit code 2 unless it says otherwise
    ├── UsageError               options that are wrong or that contradict each other
    │   └── UnknownNameError     a policy, model, format … that does not exist; names the nearest
    ├── InputError               something read is not as it should be
    │   ├── TraceError           a trace: which file, column and row
    │   ├── SourceError          another project's benchmark results
    │   └── ConfigError          zoo.yaml: which line
    ├── BackendError             a model cannot be loaded, or cannot answer
    │   ├── ModelFileError       its GGUF file cannot be used
    │   ├── NoRoomError          the memory does not hold it, or not now
    │   ├── CrashedError         the process that it ran in has died, and the next request starts another
    │   ├── RefusedError         its server refuses the request, this one or all: which, is not known
    │   └── PromptError          it cannot answer this prompt, and is as good as before
    │       └── PromptTooLongError   its context does not hold what it is to read
    ├── StoreError               the state cannot be read or written
    ├── OutputError              a result cannot be written
    ├── StoppedError             Ctrl-C ended work of which something is kept; exit code 130
    └── MissingExtraError        an optional library is not installed

A message is one line: what is wrong, where, and what to do about it. The command line prints that line
and nothing else; a library caller can catch as narrowly as it likes.
"""

from __future__ import annotations

import copyreg
import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar


class MessctlError(Exception):
    """The root. `exit_code` is what the command line ends with."""

    exit_code = 2

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it as it is, whatever its class takes to be made."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class UsageError(MessctlError):
    """An option has an impossible value, or two options contradict each other."""


class UnknownNameError(UsageError):
    """A name that is not among those known; the message names the nearest."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = list(known)
        super().__init__(f"unknown {kind} {name!r}{did_you_mean(name, names)}; known: {', '.join(names)}")


class InputError(MessctlError):
    """A file that was read does not hold what it should."""


class TraceError(InputError):
    """A trace is not as `messctl.trace` describes it."""


class SourceError(InputError):
    """A file of another project's benchmark results cannot be understood."""


class ConfigError(InputError):
    """A zoo.yaml has an unknown key or an impossible value."""


class BackendError(MessctlError):
    """A model cannot be loaded, or cannot answer: which one, why, and what to do.

    `again_after_s` > 0 is how long its server asks to be left alone, in seconds. `forgiven` such failures in a row are
    no reason to leave the model alone.
    """

    forgiven: ClassVar[int] = 0

    def __init__(self, message: str, *, again_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.again_after_s = again_after_s


class ModelFileError(BackendError):
    """A GGUF file cannot be used: `path`, and `what`: why, and what to do."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path = path
        self.what = what


class NoRoomError(BackendError):
    """A model does not fit into the memory, or into the budget for it, beside what is there."""


class CrashedError(BackendError):
    """The process that a model ran in has died within an answer, which is lost; the next request starts another."""

    forgiven = 1


class RefusedError(BackendError):
    """A server refuses a request: this one, as a filter of contents does, or all, as where a parameter is not known."""

    forgiven = 2


class PromptError(BackendError):
    """A model cannot answer this prompt, as one longer than its context; it can answer others."""


class PromptTooLongError(PromptError):
    """A prompt, or a conversation, is longer than the model's context; one with fewer turns may fit.

    `excess` is the share of it, 0..1, that has to go, as far as that is known.
    """

    def __init__(self, message: str, excess: float = 0.0) -> None:
        super().__init__(message)
        self.excess = excess


class StoreError(MessctlError):
    """The live state cannot be read or written: which file, and why."""


class OutputError(MessctlError):
    """A result cannot be written where it was asked for."""


class StoppedError(MessctlError):
    """Ctrl-C ended work of which something is kept: what, and how to go on."""

    exit_code = 130


class MissingExtraError(MessctlError):
    """An optional dependency is needed and is not installed."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {library}: pip install 'messctl[{extra}]'")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the nearest of `known`, or nothing where none is near."""
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""
