"""RAPL: the energy counters of Intel's and AMD's processors, under /sys/class/powercap on Linux."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from messctl.backends.machine import kernel_text
from messctl.costs.counters import Sample
from messctl.errors import BackendError

POWERCAP = Path("/sys/class/powercap")
WHOLE_PLATFORM = "psys"


@dataclass(frozen=True, slots=True)
class RaplCounter:
    """The counter of one processor package, in microjoules. After `range` values it starts again at 0.

    A package includes its cores and its graphics. Some machines have a separate counter for memory; it is not read.
    """

    folder: Path
    name: str
    range: int | None
    clock: Callable[[], float] = time.perf_counter
    joules_per_count: float = 1e-6
    step_s: float = 0.005  # the counter is updated about every millisecond

    def sample(self) -> Sample:
        """See `Counter`."""
        file = self.folder / "energy_uj"
        at_s = self.clock()
        try:
            return Sample(at_s, int(file.read_text(encoding="ascii")))
        except PermissionError:
            raise BackendError(f"{self.name}: no permission to read {file}; run: {remedy(self.folder)}") from None
        except (OSError, ValueError) as error:
            raise BackendError(f"{self.name}: {file} cannot be read ({error}); choose another energy.meter") from None

    def is_shared(self) -> bool:
        """See `Counter`. Other processes always use the processor; their part is unknown and ignored."""
        return False


def rapl_counters(powercap: Path = POWERCAP) -> tuple[RaplCounter, ...]:
    """Return the counters of this machine's processor packages. Raises BackendError if there is none."""
    found = tuple(
        RaplCounter(zone, f"RAPL {kernel_text(zone / 'name') or zone.name}", _range(zone)) for zone in zones(powercap)
    )
    if not found:
        raise BackendError(f"energy.meter is rapl, but {powercap} has no counter; choose flops, seconds or auto")
    return found


def zones(powercap: Path = POWERCAP) -> list[Path]:
    """Return the folders of the processor packages.

    Parts of a package and the whole platform are left out, because they would count the same energy twice.
    """
    found = sorted(powercap.glob("intel-rapl:*"))  # AMD's have this name too
    top = [zone for zone in found if zone.name.count(":") == 1]
    packages = [zone for zone in top if kernel_text(zone / "name") != WHOLE_PLATFORM]
    return packages or top


def remedy(zone: Path) -> str:
    """Return the command that makes a counter readable until the next boot."""
    return f"sudo chmod a+r {zone / 'energy_uj'}"


def _range(zone: Path) -> int | None:
    text = kernel_text(zone / "max_energy_range_uj") or ""
    return int(text) + 1 if text.isdecimal() and int(text) else None
