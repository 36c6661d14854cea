"""Backends, which run models: llama.cpp, OpenAI-compatible servers, and scripted answers.

Importing loads no model. A backend's own module is imported when its name is first used, since a command rarely needs
more than one.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from messctl.backends.base import Backend, OnText
    from messctl.backends.dispatch import Dispatch
    from messctl.backends.latest_turns import LatestTurns
    from messctl.backends.llama_cpp import LlamaCpp, OnWarning
    from messctl.backends.openai import OpenAICompatible
    from messctl.backends.scripted import Scripted
    from messctl.learning.features import Encoder
    from messctl.zoo import Settings

__all__ = [
    "Backend",
    "Dispatch",
    "LatestTurns",
    "LlamaCpp",
    "OnText",
    "OnWarning",
    "OpenAICompatible",
    "Scripted",
    "encoder_of",
]

_MODULES = {
    "Backend": "base",
    "Dispatch": "dispatch",
    "LatestTurns": "latest_turns",
    "LlamaCpp": "llama_cpp",
    "OnText": "base",
    "OnWarning": "llama_cpp",
    "OpenAICompatible": "openai",
    "Scripted": "scripted",
}


def __getattr__(name: str) -> Any:
    """Import a backend's module when the name is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def encoder_of(settings: Settings) -> Encoder:
    """Return the encoder that makes features of prompts: the settings' embedding model, or words without one.

    Raises BackendError if the model's file cannot be used.
    """
    from messctl.learning.features import WordEncoder  # noqa: PLC0415  # it imports numpy

    if settings.features is None:
        return WordEncoder()
    from messctl.backends.embedding import GgufEncoder  # noqa: PLC0415  # it imports llama.cpp and pyarrow

    return GgufEncoder(settings.features)
