"""Errors about a model that runs on this machine; each message names the model and its file."""

from __future__ import annotations

from pathlib import Path

from messctl.display.text import plain
from messctl.errors import BackendError, CrashedError, NoRoomError, PromptError, PromptTooLongError
from messctl.zoo import ModelSpec


def failure(spec: ModelSpec, what: str, path: Path | None = None) -> BackendError:
    """Return an error that says `what` is wrong with a model; `path` is the part of its file if it has several."""
    return BackendError(_message(spec, what, path or spec.place))


def no_room(spec: ModelSpec, what: str) -> NoRoomError:
    """Return the error for a model that does not fit into memory."""
    return NoRoomError(_message(spec, what, spec.place))


def crashed(spec: ModelSpec, what: str) -> CrashedError:
    """Return the error for a model whose own process died during an answer."""
    return CrashedError(_message(spec, what, spec.place))


def unsuitable(spec: ModelSpec, what: str) -> PromptError:
    """Return the error for a prompt that a model cannot read; it can read others."""
    return PromptError(_message(spec, what, spec.place))


def too_long(spec: ModelSpec, what: str, excess: float) -> PromptTooLongError:
    """Return the error for a prompt that is too long; `excess`, 0..1, is the share of it to remove."""
    return PromptTooLongError(_message(spec, f"{what}, or raise n_ctx in zoo.yaml", spec.place), excess)


def _message(spec: ModelSpec, what: str, path: Path | str) -> str:
    return f"model {plain(repr(spec.name))} ({plain(str(path))}): {what}"
