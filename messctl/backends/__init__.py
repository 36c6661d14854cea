"""What runs models: llama.cpp in this process, servers elsewhere, and a scripted stand-in. Importing loads none."""

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
    """Return what makes features of prompts: the settings' embedding model, or else their words.

    Raises BackendError for a file that cannot be used.
    """
    from messctl.learning.features import WordEncoder  # noqa: PLC0415  # it brings the compiler with it

    if settings.features is None:
        return WordEncoder()
    from messctl.backends.embedding import GgufEncoder  # noqa: PLC0415

    return GgufEncoder(settings.features)
