"""The energy counters of this machine, readable or not. NVML is queried without nvidia-ml-py."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

from messctl.costs.rapl import POWERCAP, remedy, zones

NVML = "libnvidia-ml.so.1"


@dataclass(frozen=True, slots=True)
class EnergyCounter:
    """An energy counter of this machine. `remedy` says how to make it readable; None if it is readable already."""

    name: str
    remedy: str | None


def energy_counters(powercap: Path = POWERCAP, nvml: str = NVML) -> tuple[EnergyCounter, ...]:
    """Return the energy counters of the processor (RAPL) and of the NVIDIA devices (NVML)."""
    found = []
    for zone in zones(powercap):
        try:
            int((zone / "energy_uj").read_text())
        except (OSError, ValueError):
            found.append(EnergyCounter(f"RAPL {zone.name}", remedy(zone)))
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
