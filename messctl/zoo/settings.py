"""The settings: the promise, and how the router keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from messctl.zoo.models import ModelPath
from messctl.zoo.schema import KEYS, Choice, Number, Place, Text, check_fields, checked_by, quoted

MESSPLUS_V = 0.2


@dataclass(frozen=True, slots=True)
class _Features:
    """The rule for `words` or `{gguf: path}`; the value is None or the path."""

    wanted: ClassVar[str] = "words, or {gguf: a file}"

    def read(self, place: Place) -> Path | None:
        if place.kind != KEYS:
            if place.value() != "words":
                raise place.error(f"{place.name} is {quoted(place.value())}; it must be {self.wanted}")
            return None
        below = place.entries(("gguf",)).get("gguf")
        if below is None:
            raise place.error(f"{place.name} has no gguf; it must be {self.wanted}")
        return ModelPath().read(below)

    def problem(self, value: Any) -> str | None:
        return None if value is None or isinstance(value, Path) else self.wanted


@dataclass(frozen=True, slots=True)
class Settings:
    """The promise and how the router keeps it: zoo.yaml's sections `sla` and `router`.

    - `alpha` (0..1) is the promised share of satisfied answers. The router aims for `margin` (0..1) above it.
    - `policy` is the policy's name.
    - `v` ≥ 0 weighs cost against the virtual queue (debt); None: the policy chooses it.
    - `c` ≥ 0 and `exponent` (0..10): MESS+ explores request t with probability min(1, c / t^exponent).
    - `cost_scale` > 0 divides the costs; None: the running mean cost of the costliest model.
    - `reference` is the model that exploration serves; None: the costliest.
    - `trial_budget` ≥ 0 limits the extra cost of trials of other models, as a share of the total cost; None: no limit.
    - `asks` (1..3) is how many models may be asked for one request.
    - `equal` says when two answers are equal: by their `text`, `numeric` or `choice` as graders do, or never (`none`).
    - `seed` ≥ 0 is the seed of all random streams.
    - `features` is a GGUF embedding model that makes the features of prompts; None: their words do.

    Raises UsageError for a value out of range. Source of `v`, `c` and `exponent`: MESS+, arXiv:2505.19947.
    """

    alpha: float = field(default=0.8, metadata=checked_by(Number(0, 1)))
    policy: str = field(default="bandit", metadata=checked_by(Text()))
    margin: float = field(default=0.0, metadata=checked_by(Number(0, 1)))
    v: float | None = field(default=None, metadata=checked_by(Number(0, 1e100, absent="auto")))
    c: float = field(default=0.5, metadata=checked_by(Number(0)))
    exponent: float = field(default=0.25, metadata=checked_by(Number(0, 10)))
    cost_scale: float | None = field(default=None, metadata=checked_by(Number(0, above=True, absent="auto")))
    reference: str | None = field(default=None, metadata=checked_by(Text(optional=True)))
    trial_budget: float | None = field(default=None, metadata=checked_by(Number(0, absent="none")))
    asks: int = field(default=1, metadata=checked_by(Number(1, 3, whole=True)))
    equal: str = field(default="text", metadata=checked_by(Choice(("text", "numeric", "choice", "none"))))
    seed: int = field(default=0, metadata=checked_by(Number(0, whole=True)))
    features: Path | None = field(default=None, metadata=checked_by(_Features()))

    @property
    def aim(self) -> float:
        """The share that the router aims for, 0..1: α plus the margin, 1 at most."""
        return min(1.0, self.alpha + self.margin)

    @property
    def weight(self) -> float:
        """V for MESS+, which cannot choose one by itself: `v`, or 0.2 without one."""
        return MESSPLUS_V if self.v is None else self.v

    def __post_init__(self) -> None:
        check_fields(self)
