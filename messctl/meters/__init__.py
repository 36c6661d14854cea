"""What a completion cost: measured by an energy counter or a clock, stated in zoo.yaml, or estimated from FLOPs.

A meter never answers with a silent zero: a zero is one that zoo.yaml states, and where nothing was counted, or a
model file cannot be read, it raises, or gives an estimate that is called so.
"""

from messctl.meters.base import JOULE, Meter, PerToken, Reading
from messctl.meters.choice import meter_for
from messctl.meters.counters import Counter, Sample
from messctl.meters.energy import EnergyMeter
from messctl.meters.found import EnergyCounter, energy_counters
from messctl.meters.seconds import SecondsMeter
from messctl.meters.tokens import FlopsMeter, StatedMeter

__all__ = [
    "JOULE",
    "Counter",
    "EnergyCounter",
    "EnergyMeter",
    "FlopsMeter",
    "Meter",
    "PerToken",
    "Reading",
    "Sample",
    "SecondsMeter",
    "StatedMeter",
    "energy_counters",
    "meter_for",
]
