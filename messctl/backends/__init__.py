"""What runs models: llama.cpp in this process, and a scripted stand-in. Importing this loads neither."""

from messctl.backends.base import Backend, OnText
from messctl.backends.latest_turns import LatestTurns
from messctl.backends.llama_cpp import LlamaCpp, OnWarning
from messctl.backends.scripted import Scripted

__all__ = ["Backend", "LatestTurns", "LlamaCpp", "OnText", "OnWarning", "Scripted"]
