"""NVML: the energy counters of NVIDIA devices, through nvidia-ml-py.

A counter measures the whole device, for all its users, in millijoules since the driver started. It is updated in
steps, every 100 ms on an H200.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from messctl.costs.counters import Sample
from messctl.errors import BackendError, MissingExtraError

VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
PROC = Path("/proc")
OUTERMOST_PIDS = "pid:[4026531836]"  # the namespace of all processes on Linux


@dataclass(frozen=True, slots=True)
class NvmlCounter:
    """The counter of one device."""

    nvml: Any
    handle: Any
    name: str
    clock: Callable[[], float] = time.perf_counter
    joules_per_count: float = 1e-3
    range: int | None = None
    step_s: float = 0.1

    def sample(self) -> Sample:
        """See `Counter`."""
        nvml = self.nvml
        at_s = self.clock()
        try:
            count = int(nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle))
        except nvml.NVMLError as error:
            raise BackendError(
                f"{self.name}: has no energy counter that can be read ({error}); use another meter"
            ) from None
        try:
            return Sample(at_s, count, nvml.nvmlDeviceGetPowerUsage(self.handle) / 1000)
        except nvml.NVMLError:
            return Sample(at_s, count)

    def is_shared(self) -> bool:
        """See `Counter`.

        Inside a container, NVML's process ids differ from the ids seen there. One process is then taken to be ours.
        """
        try:
            running = {int(each.pid) for each in self.nvml.nvmlDeviceGetComputeRunningProcesses(self.handle)}
        except self.nvml.NVMLError:
            return False
        if _sees_all_pids():
            return any(not _ours(pid) for pid in running)
        return len(running) > 1

    def memory_used(self) -> int:
        """Return the bytes of the device's memory in use, by all processes. Raises BackendError."""
        try:
            return int(self.nvml.nvmlDeviceGetMemoryInfo(self.handle).used)
        except self.nvml.NVMLError as error:
            raise BackendError(f"{self.name}: does not report its memory ({error}); try nvidia-smi") from None


def nvml_counters(nvml: Any = None, environment: Mapping[str, str] = os.environ) -> tuple[NvmlCounter, ...]:
    """Return the counters of the devices that this process sees through CUDA, in CUDA's order.

    Raises BackendError if there is no device, MissingExtraError if nvidia-ml-py is not installed.
    """
    if nvml is None:
        try:
            nvml = importlib.import_module("pynvml")
        except ModuleNotFoundError:
            raise MissingExtraError("nvidia-ml-py", "gpu", "measuring the energy of an NVIDIA device") from None
    try:
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        names = [_text(nvml.nvmlDeviceGetName(handle)) for handle in handles]
        uuids = [_text(nvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    except nvml.NVMLError as error:
        raise BackendError(
            f"the NVIDIA driver does not answer ({error}): try nvidia-smi, or another energy.meter"
        ) from None
    seen = visible(
        environment.get(VISIBLE), uuids, by_bus=environment.get(ORDER) == "PCI_BUS_ID" or len(set(names)) < 2
    )
    if not seen:
        raise BackendError(
            f"there is no NVIDIA device to measure ({VISIBLE}={environment.get(VISIBLE, '')!r}); choose another meter"
        )
    return tuple(NvmlCounter(nvml, handles[index], f"NVML GPU {index} ({names[index]})") for index in seen)


def visible(stated: str | None, uuids: list[str], *, by_bus: bool) -> list[int]:
    """Return NVML's indices of the devices that CUDA_VISIBLE_DEVICES = `stated` leaves visible, in CUDA's order.

    Like CUDA, it stops at the first missing device, and accepts the beginning of a UUID. NVML numbers devices by their
    place on the bus. CUDA does so too if all devices are alike, or if it is configured to (`by_bus`). Raises
    BackendError if a number is ambiguous, and for a part of a device (MIG), which has no counter of its own.
    """
    if stated is None:
        return list(range(len(uuids)))
    found: list[int] = []
    for name in (part.strip() for part in stated.split(",")):
        if name.startswith("MIG-"):
            raise BackendError(
                f"{VISIBLE} names a part of a device (MIG); name a whole device, as only these count energy"
            )
        if name.isdecimal() and not by_bus:
            raise BackendError(
                f"{VISIBLE} uses numbers, but the devices differ in kind; set {ORDER}=PCI_BUS_ID, or use their UUIDs"
            )
        fitting = [
            index
            for index, uuid in enumerate(uuids)
            if (name.isdecimal() and int(name) == index) or (name.startswith("GPU-") and uuid.startswith(name))
        ]
        if len(fitting) != 1 or fitting[0] in found:
            break
        found += fitting
    return found


def _text(name: str | bytes) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name


def _sees_all_pids() -> bool:
    try:
        return os.readlink(PROC / "self" / "ns" / "pid") == OUTERMOST_PIDS  # noqa: PTH115  # a link without a target
    except OSError:
        return True


def _ours(pid: int) -> bool:
    """Return whether a process is this one or one of its descendants."""
    for _ in range(32):
        if pid == os.getpid():
            return True
        try:
            words = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            pid = int(words[1])
        except (OSError, ValueError, IndexError):
            return False
    return False
