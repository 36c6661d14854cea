"""The physical cores and the free memory that this process may use, within the limits of its container."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_CPUS = Path("/sys/devices/system/cpu")
_MEMINFO = Path("/proc/meminfo")


def physical_cores() -> int:
    """Return the number of physical cores that this process may use, ≥ 1.

    More threads than that make a model slower: two hardware threads of one core share its arithmetic units, and a
    container's quota stops a process that uses more time than it allows.
    """
    usable = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else list(range(os.cpu_count() or 1))
    cores = len({_core(cpu) for cpu in usable})
    quota = _quota()
    return max(1, cores if quota is None else min(cores, int(quota)))


def free_memory() -> int | None:
    """Return the memory in bytes, ≥ 0, that this process may still take; None if it cannot be read.

    It is the least of what the machine has available and what the container's limit leaves (cgroup v2 or v1).
    """
    known = [free for free in (_available_memory(), _container_memory()) if free is not None]
    return max(0, min(known)) if known else None


def _core(cpu: int) -> tuple[str, ...]:
    """Return what identifies the core that a logical CPU is part of."""
    topology = _CPUS / f"cpu{cpu}" / "topology"
    names = (kernel_text(topology / "physical_package_id"), kernel_text(topology / "core_id"))
    return (str(cpu),) if None in names else tuple(str(name) for name in names)


def _quota() -> float | None:
    """Return the number of cores whose time the container may use; None without a limit."""
    words = (kernel_text(_CGROUP / "cpu.max") or "").split()
    if len(words) != 2:
        words = [kernel_text(_CGROUP / "cpu" / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period")]
    quota, period = (int(word) if word.isdecimal() else 0 for word in words)
    return quota / period if quota and period else None


def _available_memory() -> int | None:
    for line in (kernel_text(_MEMINFO) or "").splitlines():
        name, _, rest = line.partition(":")
        size = rest.split()
        if name == "MemAvailable" and size and size[0].isdecimal():
            return int(size[0]) * 1024
    return None


def _container_memory() -> int | None:
    """Return the container's limit less what it uses. Its file cache counts as free: the system can drop it."""
    for folder, limit_name, used_name, cache_name in (
        (_CGROUP, "memory.max", "memory.current", "inactive_file"),
        (_CGROUP / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, used = kernel_text(folder / limit_name) or "", kernel_text(folder / used_name) or ""
        if limit.isdecimal() and used.isdecimal():
            statistics = dict(
                line.split(maxsplit=1) for line in (kernel_text(folder / "memory.stat") or "").splitlines()
            )
            return int(limit) - int(used) + int(statistics.get(cache_name, 0))
    return None


def kernel_text(path: Path) -> str | None:
    """Return what a file of the kernel says, as under /proc or /sys; None if it cannot be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
