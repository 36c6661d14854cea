"""What models take of a machine's memory: of the processor's (CPU), and of all graphics devices' together (GPU)."""

from __future__ import annotations

from collections.abc import Mapping

from messctl.gguf import Header
from messctl.zoo.models import ModelSpec

CPU, GPU = "cpu", "gpu"
GB = 10**9

Bytes = Mapping[str, float]
"""Bytes by device. As a budget: a device that is not named has no bound."""


def needed(spec: ModelSpec, header: Header, *, offload: bool) -> Bytes:
    """Return an estimate of what a loaded model takes; `offload` tells whether its `gpu_layers` go to a GPU.

    The file and a full cache are shared out by layers, all taken to be of one size, the output counted as one.
    """
    all_layers = header.block_count + 1
    layers = all_layers if spec.gpu_layers < 0 else min(spec.gpu_layers, all_layers)
    total, share = header.memory_bytes(spec.context(header.context_length)), layers / all_layers if offload else 0.0
    parts = {CPU: total * (1 - share), GPU: total * share}
    return {device: part for device, part in parts.items() if part}


def amount(size: float) -> str:
    """Return a number of bytes as a person reads it, in the decimal units of a budget."""
    number, units = float(f"{size:.3g}"), ["B", "kB", "MB", "GB"]
    while abs(number) >= 1000 and len(units) > 1:
        number, units = number / 1000, units[1:]
    return f"{number:.3g} {units[0]}" if abs(number) < 1000 else f"{number:,.0f} {units[0]}"
