"""What the machine offers to this process: physical cores and free memory. Nothing is assumed that cannot be read."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_CPUS = Path("/sys/devices/system/cpu")


def physical_cores() -> int:
    """Return how many physical cores this process may use, ≥ 1.

    Two hardware threads of one core share its arithmetic units, and a container's quota throttles whoever runs
    more threads than it pays for: both make a model slower, not faster.
    """
    usable = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else list(range(os.cpu_count() or 1))
    cores = len({_core(cpu) for cpu in usable})
    quota = _quota()
    return max(1, cores if quota is None else min(cores, int(quota)))


def free_memory() -> int | None:
    """Return the bytes that this process may still take before the system would have to kill; None where unknown."""
    known = [bytes_ for bytes_ in (_available_memory(), _container_memory()) if bytes_ is not None]
    return min(known, default=None)


def _core(cpu: int) -> tuple[str, ...]:
    """Return what names the core that a logical CPU is part of."""
    topology = _CPUS / f"cpu{cpu}" / "topology"
    names = (_text(topology / "physical_package_id"), _text(topology / "core_id"))
    return (str(cpu),) if None in names else tuple(str(name) for name in names)


def _quota() -> float | None:
    """Return the cores' worth of time that the container may use."""
    words = (_text(_CGROUP / "cpu.max") or "").split()
    if len(words) != 2:
        words = [_text(_CGROUP / "cpu" / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period")]
    quota, period = (int(word) if word.isdecimal() else 0 for word in words)
    return quota / period if quota and period else None


def _available_memory() -> int | None:
    for line in (_text(Path("/proc/meminfo")) or "").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    return None


def _container_memory() -> int | None:
    limit, used = _text(_CGROUP / "memory.max"), _text(_CGROUP / "memory.current")
    if limit is None or used is None or not (limit.isdecimal() and used.isdecimal()):
        return None
    statistics = dict(line.split() for line in (_text(_CGROUP / "memory.stat") or "").splitlines())
    return int(limit) - int(used) + int(statistics.get("inactive_file", 0))


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
