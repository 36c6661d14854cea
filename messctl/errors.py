"""Every error that messctl raises on purpose, as one tree.

    MessctlError                 exit code 2, except for StoppedError
    ├── UsageError               an option is wrong, or two options contradict each other
    │   ├── UnknownNameError     a policy, model, format … that does not exist; names the nearest one
    │   ├── GradeError           an answer cannot be graded; the answer itself is stored
    │   └── ProposalError        nothing says what the columns of a table are; proposes options that do
    ├── InputError               a file has invalid contents
    │   ├── TraceError           a trace: file, row and column
    │   ├── SourceError          benchmark results of another project
    │   └── ConfigError          zoo.yaml: file and line
    ├── BackendError             a model cannot be loaded, or cannot answer
    │   ├── ModelFileError       its GGUF file cannot be used
    │   ├── NoRoomError          it does not fit into the memory, or not now
    │   ├── CrashedError         its process died; the next request starts a new one
    │   ├── RefusedError         its server refuses the request: only this one, or all
    │   ├── EmptyAnswerError     it answered, and there is nothing to read in its answer
    │   ├── BusyError            too many requests wait for it already
    │   ├── PromptError          it cannot answer this prompt, but can answer others
    │   │   └── PromptTooLongError   the prompt does not fit into its context
    │   └── UnfitError           no model of the zoo can serve what a request needs
    ├── StoreError               the state cannot be read or written
    ├── OutputError              a result cannot be written
    ├── StoppedError             Ctrl-C ended the work, and a part of it is stored; exit code 130
    └── MissingExtraError        an optional library is not installed

A message is one line: what is wrong, where, and what to do about it. The command line prints that line
and nothing else; a library caller can catch as narrowly as it likes.
"""

from __future__ import annotations

import copyreg
import difflib
import errno
import os
import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

DEBUG = "MESSCTL_DEBUG"
"""If this environment variable is set, an error comes with the traceback that leads to it."""
REPORT = f"this is a fault in messctl; report it to its issue tracker, with the traceback that {DEBUG}=1 shows"
FULL_OR_BROKEN = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EROFS})
"""What goes wrong with a stream that is written, standard output for example."""
_NO_MEMORY = "the memory is used up; give messctl a smaller input, or more memory"
_SHORT_OF = {
    "failed to map segment|annot allocate memory": _NO_MEMORY,
    "start new thread|launch worker thread": (
        "no more threads can be started; give messctl more memory, or raise the limits of `ulimit -u` and `ulimit -v`"
    ),
    "Too many open files": "too many files are open; raise the limit of `ulimit -n`",
    "timestamp too large to convert": "the clock of this machine is wrong; set it",
}
"""What libraries say if the system has no more of something, or a wrong time, and what messctl says instead."""
_LONGEST_COMPARED, _MOST_COMPARED = 100, 1000
"""The longest names, in characters, and how many of them `did_you_mean` compares."""


class MessctlError(Exception):
    """The root of all errors. `exit_code` is the exit code of the command line."""

    exit_code = 2

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the error with its attributes. Its constructor is not called again."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class UsageError(MessctlError):
    """An option has an impossible value, or two options contradict each other."""


class UnknownNameError(UsageError):
    """A name that does not exist. The message lists the known names and suggests the nearest."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = list(known)
        super().__init__(f"unknown {kind} {name!r}{did_you_mean(name, names)}; known: {', '.join(names)}")


class GradeError(UsageError):
    """An answer cannot be graded, for example because a regular expression takes too long on it."""


class ProposalError(UsageError):
    """Nothing says what the columns of a table are. `options` are the words of a command line that would read it."""

    def __init__(self, message: str, options: Iterable[str]) -> None:
        super().__init__(message)
        self.options = tuple(options)


class InputError(MessctlError):
    """A file has invalid contents."""


class TraceError(InputError):
    """A trace does not follow the format of `messctl.trace.format`."""


class SourceError(InputError):
    """A file with benchmark results of another project, or with prompts, cannot be understood."""


class ConfigError(InputError):
    """A zoo.yaml has an unknown key or an impossible value."""


class BackendError(MessctlError):
    """A model cannot be loaded, or cannot answer. The message says which model, why, and what to do.

    again_after_s: for how many seconds its server asks for no requests; 0 if it asks for nothing.
    forgiven: after this many failures in a row the model is still tried.
    paid: what the lost answer cost, ≥ 0, in the meter's unit; 0 if there was none, or if its cost is unknown.
    """

    forgiven: ClassVar[int] = 0
    paid: float = 0.0

    def __init__(self, message: str, *, again_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.again_after_s = again_after_s


class ModelFileError(BackendError):
    """A GGUF file cannot be used. `path` is the file; `what` says why, and what to do."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path = path
        self.what = what


class NoRoomError(BackendError):
    """A model does not fit into the free memory, or into the memory budget."""


class CrashedError(BackendError):
    """A model's process died during an answer. The answer is lost; the next request starts a new process."""

    forgiven = 1


class RefusedError(BackendError):
    """A server refuses a request: only this one (a content filter), or every one (an unknown parameter)."""

    forgiven = 2


class EmptyAnswerError(BackendError):
    """A model's answer is empty. The message says why: the limit of tokens, a filter, or the model itself."""

    forgiven = 2


class BusyError(BackendError):
    """A model has as many waiting requests as it may have. It is not out of order."""


class PromptError(BackendError):
    """A model cannot answer this prompt, for example because it is too long. It can answer others."""


class PromptTooLongError(PromptError):
    """A prompt or conversation is longer than the model's context. One with fewer turns may fit.

    excess: the share of it that has to go, 0..1; 0 if that is unknown.
    """

    def __init__(self, message: str, excess: float = 0.0) -> None:
        super().__init__(message)
        self.excess = excess


class UnfitError(BackendError):
    """No model can serve a request.

    field: the field of the request that none can serve. too_long: the request is longer than every context.
    """

    def __init__(self, message: str, field: str, *, too_long: bool = False) -> None:
        super().__init__(message)
        self.field = field
        self.too_long = too_long


class StoreError(MessctlError):
    """The live state cannot be read or written. The message says which file, and why."""


class UndoneError(StoreError):
    """A transaction could not be committed since a part of it failed: for certain, nothing of it is stored."""


class OutputError(MessctlError):
    """A result cannot be written to the given path."""


class StoppedError(MessctlError):
    """Ctrl-C ended the work. The message says which part is stored, and how to continue."""

    exit_code = 130


class MissingExtraError(MessctlError):
    """An optional dependency is needed and is not installed."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {library}: pip install 'messctl[{extra}]'")


def last_resort(error: BaseException) -> str:
    """Return one line about an error that messctl does not raise on purpose: what happened, and what to do."""
    kind, text = type(error).__name__, " ".join(_text_of(error).split())
    if isinstance(error, MemoryError) or shortage(error):
        return shortage(error) or _NO_MEMORY
    if isinstance(error, RecursionError):
        return f"something is nested too deeply ({text}); if it is not your input, {REPORT}"
    if isinstance(error, ImportError):
        return f"{text}; the installation is incomplete: install messctl again, or {REPORT}"
    if isinstance(error, FileNotFoundError) and error.filename is None:  # as os.getcwd raises it
        return "the current folder does not exist any more; change to another one"
    if isinstance(error, OSError) and (error.filename or error.errno in FULL_OR_BROKEN):
        where = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
        return f"{where or 'standard output'}: {error.strerror or error}; choose another place"
    return f"unexpected {kind}: {text or 'no more is known'}; {REPORT}"


def shortage(error: BaseException) -> str:
    """Return what the system has no more of, and what to do, if that is the cause of an error; else an empty text."""
    text = _text_of(error)
    return next((advice for words, advice in _SHORT_OF.items() if re.search(words, text)), "")


def traceback_of(error: BaseException) -> str:
    """Return the traceback of an error if MESSCTL_DEBUG asks for it, else an empty text."""
    if os.environ.get(DEBUG, "") in ("", "0"):
        return ""
    import traceback  # noqa: PLC0415  # only who looks for a fault needs it

    return "".join(traceback.format_exception(error))


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # an error whose own text fails is an error all the same
        return ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the nearest of `known`, or an empty text if none is near.

    Long names and the last of many are not compared, which would take long.
    """
    if len(name) > _LONGEST_COMPARED:
        return ""
    compared = [each for each in islice(known, _MOST_COMPARED) if len(each) <= _LONGEST_COMPARED]
    nearest = difflib.get_close_matches(name, compared, n=1, cutoff=0.5)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""
