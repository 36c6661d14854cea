"""What a completion cost: a price or an energy per token as zoo.yaml states it, or an estimate from FLOPs.

A meter never answers with a silent zero: a zero is one that zoo.yaml states, and where nothing was counted, or a
model file cannot be read, it raises.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from messctl.errors import BackendError
from messctl.gguf_header import read_header
from messctl.records import Completion
from messctl.zoo import CostPerToken, ModelSpec, ZooFile

FLOPS_PER_PARAMETER = 2  # a multiplication and an addition, for each token
JOULE = "J"
POWERCAP = Path("/sys/class/powercap")
NVML = "libnvidia-ml.so.1"


class Meter(Protocol):
    """Tells what completions cost, in `unit`; `source` says how that is known, and is recorded with every row."""

    @property
    def unit(self) -> str:
        """The unit of all costs."""

    @property
    def source(self) -> str:
        """How the costs are known."""

    def per_token(self, model: ModelSpec) -> CostPerToken:
        """Return what one token costs. Raises BackendError where it cannot be known."""

    def cost(self, model: ModelSpec, completion: Completion) -> float:
        """Return what `completion`, by `model`, cost. Raises BackendError where it cannot be known."""


@dataclass(frozen=True, slots=True)
class StatedMeter:
    """The price or energy per token that zoo.yaml states for each model, all in one unit."""

    unit: str

    @property
    def source(self) -> str:
        """See `Meter`."""
        return f"stated: {self.unit} per prompt token and per generated token, from zoo.yaml"

    def per_token(self, model: ModelSpec) -> CostPerToken:
        """See `Meter`."""
        if model.cost is None or model.cost.unit != self.unit:
            raise BackendError(f"model {model.name!r}: has no cost in {self.unit}; state one in zoo.yaml")
        return model.cost

    def cost(self, model: ModelSpec, completion: Completion) -> float:
        """See `Meter`."""
        return _total(self.per_token(model), model, completion)


@dataclass(frozen=True, slots=True)
class FlopsMeter:
    """An estimate: 2 × active parameters × tokens, in and out, FLOPs, at `flop_per_j` FLOPs per joule.

    Every model's header is read when its first cost is asked for, once.
    """

    flop_per_j: float
    _parameters: dict[Path, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def unit(self) -> str:
        """See `Meter`."""
        return JOULE

    @property
    def source(self) -> str:
        """See `Meter`."""
        return f"estimated: {FLOPS_PER_PARAMETER} × active parameters × tokens at {self.flop_per_j:g} FLOP/J"

    def per_token(self, model: ModelSpec) -> CostPerToken:
        """See `Meter`."""
        joules = FLOPS_PER_PARAMETER * self._active(model) / self.flop_per_j
        return CostPerToken(JOULE, joules, joules)

    def _active(self, model: ModelSpec) -> float:
        if model.parameters is not None:
            return model.parameters
        if model.path is None:
            raise BackendError(f"model {model.name!r}: has neither a cost nor parameters; state one in zoo.yaml")
        if model.path not in self._parameters:
            self._parameters[model.path] = read_header(model.path).active_parameters
        return self._parameters[model.path]

    def cost(self, model: ModelSpec, completion: Completion) -> float:
        """See `Meter`."""
        return _total(self.per_token(model), model, completion)


def meter_for(zoo_file: ZooFile) -> Meter:
    """Return the meter of a zoo: stated costs where its models have them, else the estimate from FLOPs."""
    stated = next((model.cost for model in zoo_file.models if model.cost is not None), None)
    return FlopsMeter(zoo_file.flop_per_j) if stated is None else StatedMeter(stated.unit)


def _total(price: CostPerToken, model: ModelSpec, completion: Completion) -> float:
    if completion.tokens_in + completion.tokens_out <= 0:
        raise BackendError(f"model {model.name!r}: no tokens were counted for an answer, so its cost is unknown")
    return completion.tokens_in * price.prompt + completion.tokens_out * price.generated


@dataclass(frozen=True, slots=True)
class EnergyCounter:
    """An energy counter of this machine: what it is called, and, where it cannot be read, what would help."""

    name: str
    remedy: str | None


def energy_counters(powercap: Path = POWERCAP, nvml: str = NVML) -> tuple[EnergyCounter, ...]:
    """Return the energy counters of this machine's processor (RAPL) and of NVIDIA devices (NVML)."""
    found = []
    for zone in sorted(powercap.glob("intel-rapl:*")):  # AMD's are called so, too
        if zone.name.count(":") > 1:
            continue  # a part of a zone that is counted already
        try:
            int((zone / "energy_uj").read_text())
        except (OSError, ValueError):
            found.append(EnergyCounter(f"RAPL {zone.name}", f"sudo chmod a+r {zone / 'energy_uj'}"))
        else:
            found.append(EnergyCounter(f"RAPL {zone.name}", None))
    return (*found, *_nvml_counters(nvml))


def _nvml_counters(library: str) -> list[EnergyCounter]:
    try:
        nvml = ctypes.CDLL(library)
    except OSError:
        return []
    if nvml.nvmlInit_v2() != 0:
        return [EnergyCounter("NVML", "the NVIDIA driver does not answer: try nvidia-smi")]
    try:
        count = ctypes.c_uint(0)
        nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
        return [_nvml_counter(nvml, index) for index in range(count.value)]
    finally:
        nvml.nvmlShutdown()


def _nvml_counter(nvml: ctypes.CDLL, index: int) -> EnergyCounter:
    device, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
    status = nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device))
    status = status or nvml.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(millijoules))
    return EnergyCounter(f"NVML device {index}", None if status == 0 else "this device has no energy counter")
