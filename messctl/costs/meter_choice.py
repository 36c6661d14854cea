"""The choice of the meter that measures a zoo."""

from __future__ import annotations

from messctl.costs.counters import Counter
from messctl.costs.energy import EnergyMeter
from messctl.costs.meter import JOULE, Meter, TokenMeter
from messctl.costs.nvml import nvml_counters
from messctl.costs.rapl import rapl_counters
from messctl.costs.seconds import SecondsMeter
from messctl.costs.tokens import FlopsMeter, StatedMeter
from messctl.zoo import ZooFile


def meter_for(zoo_file: ZooFile) -> Meter:
    """Return the meter that zoo.yaml names. `auto` means stated costs if a model has them, otherwise FLOPs.

    Raises BackendError if the machine lacks the counters, MissingExtraError if nvidia-ml-py is not installed.
    """
    stated = next((model.cost for model in zoo_file.models if model.cost is not None), None)
    flops = FlopsMeter(zoo_file.flop_per_j)
    match zoo_file.meter:
        case "auto":
            return flops if stated is None else StatedMeter(stated.unit, _all_estimated(zoo_file))
        case "flops":
            return flops
        case "seconds":
            return SecondsMeter()
    expected: TokenMeter = (
        StatedMeter(JOULE, _all_estimated(zoo_file)) if stated is not None and stated.unit == JOULE else flops
    )
    return EnergyMeter(counters_for(zoo_file.meter), expected, zoo_file.idle)


def _all_estimated(zoo_file: ZooFile) -> bool:
    return all(model.cost is not None and model.cost.estimated for model in zoo_file.models)


def counters_for(meter: str) -> tuple[Counter, ...]:
    """Return the counters of `nvml`, `rapl` or `nvml+rapl`. Raises the same errors as `meter_for`."""
    devices: tuple[Counter, ...] = nvml_counters() if "nvml" in meter else ()
    return (*devices, *(rapl_counters() if "rapl" in meter else ()))
