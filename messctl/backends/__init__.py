"""Backends, which run models: llama.cpp, OpenAI-compatible servers, and scripted answers. Importing loads no model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from messctl.backends.base import Backend, OnText
from messctl.backends.dispatch import Dispatch
from messctl.backends.latest_turns import LatestTurns
from messctl.backends.llama_cpp import LlamaCpp, OnWarning
from messctl.backends.openai import OpenAICompatible
from messctl.backends.scripted import Scripted

if TYPE_CHECKING:
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


def encoder_of(settings: Settings) -> Encoder:
    """Return the encoder that makes features of prompts: the settings' embedding model, or words without one.

    Raises BackendError if the model's file cannot be used.
    """
    from messctl.learning.features import WordEncoder  # noqa: PLC0415  # it imports the compiler

    if settings.features is None:
        return WordEncoder()
    from messctl.backends.embedding import GgufEncoder  # noqa: PLC0415

    return GgufEncoder(settings.features)
