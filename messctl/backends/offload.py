"""Layers on a GPU: a model's settings as llama.cpp takes them, and llama.cpp's report of where it put the model."""

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
_BUFFER = re.compile(r"(?<!\S)(\S++)\s+(model|KV|RS|compute|output)\s+buffer size\s*=\s*([\d.]+) MiB")
_HOST = re.compile(r"CPU.*|.*_Host")


@dataclass(frozen=True, slots=True)
class Offload:
    """llama.cpp's report of a load: `layers` of `all_layers` are on GPUs, both None without a report.

    `buffers_mib` holds the sizes of the buffers in MiB, by device and content, for instance ("CUDA0", "KV").
    """

    layers: int | None
    all_layers: int | None
    buffers_mib: dict[tuple[str, str], float]

    @classmethod
    def from_log(cls, lines: Iterable[str]) -> Offload:
        """Return the report in these lines of llama.cpp's log."""
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
        """The bytes of all buffers in the memory of devices other than the CPU."""
        return 2**20 * sum(size for (device, _), size in self.buffers_mib.items() if not _HOST.fullmatch(device))


def missing_gpu(api: Any, spec: ModelSpec) -> str | None:
    """Return the problem if a model needs a GPU and this build of llama.cpp supports none; None otherwise.

    A model needs a GPU if zoo.yaml says `gpu: require`, or `gpu: auto` with a number of layers other than 0.
    """
    needs_gpu = spec.gpu == "require" or (spec.gpu == "auto" and (spec.n_gpu_layers or 0) != 0)
    if not needs_gpu or api.llama_supports_gpu_offload():
        return None
    return f"needs a GPU, but llama.cpp is built for the CPU only: {REBUILD}"


def load_remedy(errors: str) -> str:
    """Return what to do when llama.cpp cannot load a model and its log has these errors."""
    if "split buffers" in errors:
        return "set `split_mode: layer` in zoo.yaml"
    return "download the file again, or use another one"


def set_model_params(api: Any, params: Any, spec: ModelSpec) -> None:
    """Set in llama.cpp's model parameters which device holds which weights."""
    params.n_gpu_layers = _ALL_LAYERS if spec.gpu_layers < 0 else min(spec.gpu_layers, _ALL_LAYERS)
    params.split_mode = getattr(api, f"LLAMA_SPLIT_MODE_{spec.split_mode.upper()}")
    params.main_gpu = spec.main_gpu
    if spec.tensor_split:
        shares = (ctypes.c_float * max(int(api.llama_max_devices()), len(spec.tensor_split)))(*spec.tensor_split)
        params.tensor_split = ctypes.cast(shares, ctypes.POINTER(ctypes.c_float))  # ctypes keeps it with the parameters


def set_context_params(api: Any, params: Any, spec: ModelSpec) -> None:
    """Set in llama.cpp's context parameters how attention is computed, and where and how its cache is stored."""
    word = {"auto": "AUTO", "on": "ENABLED", "off": "DISABLED"}[spec.flash_attn]
    params.flash_attn_type = getattr(api, f"LLAMA_FLASH_ATTN_TYPE_{word}")
    params.type_k = getattr(api, f"GGML_TYPE_{spec.cache_type_k.upper()}")
    params.type_v = getattr(api, f"GGML_TYPE_{spec.cache_type_v.upper()}")
    if spec.gpu == "off":
        params.offload_kqv = params.op_offload = False
