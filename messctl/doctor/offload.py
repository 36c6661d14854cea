"""The test whether layers go to a GPU: load a model, then read llama.cpp's report and the devices' memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from messctl.backends.offload import Offload
from messctl.costs.nvml import NvmlCounter, nvml_counters
from messctl.errors import MessctlError
from messctl.zoo import ModelSpec, ZooFile
from messctl.zoo.memory import format_bytes


class Loader(Protocol):
    """A backend that loads a model and reports where its layers are."""

    def offload(self, model: ModelSpec) -> Offload:
        """Load a model, and return where its layers are. Raises BackendError."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The result of loading one model.

    offload: llama.cpp's report. grown_bytes: the growth of the devices' used memory; None if it is unknown.
    """

    model: str
    offload: Offload
    grown_bytes: int | None

    @property
    def offloaded(self) -> bool:
        """Whether layers are on a GPU: llama.cpp reports so, and the devices' memory does not contradict it."""
        return bool(self.offload.layers) and (self.grown_bytes is None or self.grown_bytes > 0)

    def __str__(self) -> str:
        layers, of = self.offload.layers, self.offload.all_layers
        report = "llama.cpp does not say that it put layers on a GPU"
        if layers is not None:
            buffers = format_bytes(self.offload.device_bytes)
            report = f"llama.cpp put {layers} of {of} layers on a GPU, with {buffers} of buffers"
        growth = (
            "unknown; this needs nvidia-ml-py and its driver"
            if self.grown_bytes is None
            else f"{'+' if self.grown_bytes >= 0 else ''}{format_bytes(self.grown_bytes)} by the load"
        )
        return f"{self.model}: {report}; memory of the devices: {growth}"


def report_of_load(zoo_file: ZooFile, backend: Loader) -> LoadReport:
    """Load the smallest model of the zoo that may go to a GPU, and return the result. Raises BackendError."""
    files = [model for model in zoo_file.models if model.path is not None]
    eligible = [model for model in files if model.gpu_layers != 0 and model.file.is_file()]
    smallest = min(eligible or files, key=lambda model: model.file.stat().st_size)
    devices = _devices()
    before = [device.memory_used() for device in devices]
    offload = backend.offload(smallest)
    grown = sum(device.memory_used() for device in devices) - sum(before) if devices else None
    return LoadReport(smallest.name, offload, grown)


def _devices() -> tuple[NvmlCounter, ...]:
    try:
        return nvml_counters()
    except MessctlError:
        return ()
