"""How long a server may take to fail. Every answer needs this, so it is apart from what sends requests."""

from __future__ import annotations

from messctl.zoo import ModelSpec

CONNECT_S = 5.0
"""The longest time in seconds that a machine may take to accept a connection."""
LONGEST_PAUSE_S = 8.0
"""The longest pause before another attempt. If a server asks for a longer one, the request fails at once."""


def patience_s(model: ModelSpec) -> float:
    """Return the longest time in seconds that a model's server may take to fail: all attempts and the pauses between.

    A model on this machine has no such limit; it gets the value of a server with default settings.
    """
    silent_s = (model.retries + 1) * (CONNECT_S + model.timeout_s) + model.retries * LONGEST_PAUSE_S
    return min(silent_s, model.longest_s)
