"""Putting layers on a GPU: what a model's settings are to llama.cpp, and what llama.cpp says it has done."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from messctl.zoo import ModelSpec

REBUILD = "CMAKE_ARGS=-DGGML_CUDA=on pip install --force-reinstall --no-cache-dir llama-cpp-python"
"""The command that builds llama.cpp for NVIDIA devices."""

_ALL_LAYERS = 2**31 - 1
_OFFLOADED = re.compile(r"offloaded (\d+)/(\d+) layers to GPU")
_BUFFER = re.compile(r"(\S+)\s+(model|KV|RS|compute|output)\s+buffer size\s*=\s*([\d.]+) MiB")
_HOST = re.compile(r"CPU.*|.*_Host")


@dataclass(frozen=True, slots=True)
class Offload:
    """What llama.cpp reported of a load: `layers` of `all_layers` are on GPUs, None where it did not say.

    `buffers_mib` are the buffers' sizes in MiB by device and by what is in them, as in ("CUDA0", "KV").
    """

    layers: int | None
    all_layers: int | None
    buffers_mib: dict[tuple[str, str], float]

    @classmethod
    def heard(cls, lines: Iterable[str]) -> Offload:
        """Read the lines of llama.cpp's log."""
        layers: tuple[int, int] | None = None
        buffers: dict[tuple[str, str], float] = {}
        for line in lines:
            if found := _OFFLOADED.search(line):
                layers = int(found[1]), int(found[2])
            elif found := _BUFFER.search(line):
                place = found[1], found[2]
                buffers[place] = buffers.get(place, 0.0) + float(found[3])
        return cls(layers and layers[0], layers and layers[1], buffers)

    @property
    def device_bytes(self) -> float:
        """How much of it is in the memory of devices."""
        return 2**20 * sum(size for (device, _), size in self.buffers_mib.items() if not _HOST.fullmatch(device))


def lacking(api: Any, spec: ModelSpec) -> str | None:
    """Return what a model asks for that this build of llama.cpp cannot do, None where all is well.

    Layers are asked for where zoo.yaml states their number, or that there must be a GPU.
    """
    asked = spec.gpu == "require" or (spec.gpu == "auto" and (spec.n_gpu_layers or 0) != 0)
    if not asked or api.llama_supports_gpu_offload():
        return None
    return f"is to run on a GPU, and llama.cpp is built for the CPU alone: {REBUILD}"


def cure(complaint: str) -> str:
    """Return what to do where llama.cpp complains so of a model that it does not load."""
    if "split buffers" in complaint:
        return "set `split_mode: layer` in zoo.yaml"
    return "get the file again, or another"


def put_model(api: Any, params: Any, spec: ModelSpec) -> None:
    """State in llama.cpp's model parameters where the weights go."""
    params.n_gpu_layers = _ALL_LAYERS if spec.gpu_layers < 0 else min(spec.gpu_layers, _ALL_LAYERS)
    params.split_mode = getattr(api, f"LLAMA_SPLIT_MODE_{spec.split_mode.upper()}")
    params.main_gpu = spec.main_gpu
    if spec.tensor_split:
        shares = (ctypes.c_float * max(int(api.llama_max_devices()), len(spec.tensor_split)))(*spec.tensor_split)
        params.tensor_split = ctypes.cast(shares, ctypes.POINTER(ctypes.c_float))  # ctypes keeps it with the parameters


def put_context(api: Any, params: Any, spec: ModelSpec) -> None:
    """State in llama.cpp's context parameters how attention is computed, and where its cache lies."""
    word = {"auto": "AUTO", "on": "ENABLED", "off": "DISABLED"}[spec.flash_attn]
    params.flash_attn_type = getattr(api, f"LLAMA_FLASH_ATTN_TYPE_{word}")
    params.type_k = getattr(api, f"GGML_TYPE_{spec.cache_type_k.upper()}")
    params.type_v = getattr(api, f"GGML_TYPE_{spec.cache_type_v.upper()}")
    if spec.gpu == "off":
        params.offload_kqv = params.op_offload = False
