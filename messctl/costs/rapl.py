"""RAPL: the energy counters of Intel's and AMD's processors, as Linux shows them under /sys/class/powercap."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from messctl.costs.counters import Sample
from messctl.errors import BackendError

POWERCAP = Path("/sys/class/powercap")
WHOLE_PLATFORM = "psys"


@dataclass(frozen=True, slots=True)
class RaplCounter:
    """The counter of one processor package, in microjoules. `range` values, and then it begins again at 0.

    A package holds its cores and its graphics; memory has a counter of its own on some machines, which is not read.
    """

    folder: Path
    name: str
    range: int | None
    clock: Callable[[], float] = time.perf_counter
    joules_per_count: float = 1e-6
    step_s: float = 0.005  # it is brought up to date about every millisecond

    def sample(self) -> Sample:
        """See `Counter`."""
        file = self.folder / "energy_uj"
        at_s = self.clock()
        try:
            return Sample(at_s, int(file.read_text(encoding="ascii")))
        except PermissionError:
            raise BackendError(f"{self.name}: {file} may not be read: {remedy(self.folder)}") from None
        except (OSError, ValueError) as error:
            raise BackendError(f"{self.name}: {file} cannot be read ({error}): choose another energy.meter") from None

    def others(self) -> bool:
        """See `Counter`; every processor has other processes, and nobody can tell what they used."""
        return False


def rapl_counters(powercap: Path = POWERCAP) -> tuple[RaplCounter, ...]:
    """Return the counters of this machine's processor packages. Raises BackendError where there is none."""
    found = tuple(
        RaplCounter(zone, f"RAPL {_text(zone / 'name') or zone.name}", _range(zone)) for zone in zones(powercap)
    )
    if not found:
        raise BackendError(f"energy.meter is rapl, and {powercap} has no counter: choose flops, seconds or auto")
    return found


def zones(powercap: Path = POWERCAP) -> list[Path]:
    """Return the folders of the packages, each once.

    Left out: a part of a package, which the package counts too, and the whole platform, which counts the packages.
    """
    top = [
        zone for zone in sorted(powercap.glob("intel-rapl:*")) if zone.name.count(":") == 1
    ]  # AMD's are called so, too
    packages = [zone for zone in top if _text(zone / "name") != WHOLE_PLATFORM]
    return packages or top


def remedy(zone: Path) -> str:
    """Return the command by which a counter becomes readable, until the next start of the machine."""
    return f"sudo chmod a+r {zone / 'energy_uj'}"


def _range(zone: Path) -> int | None:
    text = _text(zone / "max_energy_range_uj") or ""
    return int(text) + 1 if text.isdecimal() and int(text) else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
