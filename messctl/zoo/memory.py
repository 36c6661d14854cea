"""The memory that models need: of the processor (CPU), and of all graphics devices together (GPU)."""

from __future__ import annotations

from collections.abc import Mapping

from messctl.gguf import Header
from messctl.zoo.models import ModelSpec

CPU, GPU = "cpu", "gpu"
GB = 10**9

Bytes = Mapping[str, float]
"""Bytes, ≥ 0, by device. In a budget, a device without an entry has no limit."""


def memory_needed(spec: ModelSpec, header: Header, *, offload: bool) -> Bytes:
    """Return an estimate of the bytes that a loaded model takes; with `offload`, its `gpu_layers` are on a GPU.

    The file and a full cache are divided by layers, as if all layers and the output had the same size.
    """
    all_layers = header.block_count + 1
    layers = all_layers if spec.gpu_layers < 0 else min(spec.gpu_layers, all_layers)
    total, share = header.memory_bytes(spec.context(header.context_length)), layers / all_layers if offload else 0.0
    parts = {CPU: total * (1 - share), GPU: total * share}
    return {device: part for device, part in parts.items() if part}


def format_bytes(size: float) -> str:
    """Return a number of bytes as text with three digits and a decimal unit, such as 76.8 kB."""
    number, units = float(f"{size:.3g}"), ["B", "kB", "MB", "GB"]
    while abs(number) >= 1000 and len(units) > 1:
        number, units = number / 1000, units[1:]
    return f"{number:.3g} {units[0]}" if abs(number) < 1000 else f"{number:,.0f} {units[0]}"
