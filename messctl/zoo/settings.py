"""The settings: what is promised, and how the router keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from messctl.zoo.models import ModelPath
from messctl.zoo.schema import KEYS, Number, Place, Text, check_fields, quoted, ruled

MESSPLUS_V = 0.2


@dataclass(frozen=True, slots=True)
class _Features:
    """A rule: `words`, or `{gguf: path}`."""

    wanted: ClassVar[str] = "words, or {gguf: a file}"

    def read(self, place: Place) -> Path | None:
        if place.kind != KEYS:
            if place.value() != "words":
                raise place.error(f"{place.name} is {quoted(place.value())}; it must be {self.wanted}")
            return None
        below = place.entries(("gguf",)).get("gguf")
        if below is None:
            raise place.error(f"{place.name} has no gguf; it is {self.wanted}")
        return ModelPath().read(below)

    def problem(self, value: Any) -> str | None:
        return None if value is None or isinstance(value, Path) else self.wanted


@dataclass(frozen=True, slots=True)
class Settings:
    """What is promised, and how the router keeps it: zoo.yaml's `sla` and `router` sections.

    `alpha` (0..1) is the promised share, and the router aims `margin` (0..1) above it; `v` ≥ 0 weighs cost against
    debt, None leaves that to the policy; exploration has probability min(1, c / t^exponent), c ≥ 0; costs are divided
    by `cost_scale` (> 0), or, where it is None, by the running mean cost of the costliest model; `seed` ≥ 0.
    Trials of other models may cost `trial_budget` (≥ 0) of all that was paid, beyond what the choices would have; None
    sets no bound. `features` is the GGUF embedding model by which prompts are seen, None for their words. Raises
    UsageError for anything else.
    """

    alpha: float = field(default=0.8, metadata=ruled(Number(0, 1)))
    policy: str = field(default="bandit", metadata=ruled(Text()))
    margin: float = field(default=0.0, metadata=ruled(Number(0, 1)))
    v: float | None = field(default=None, metadata=ruled(Number(0, 1e100, absent="auto")))
    c: float = field(default=0.5, metadata=ruled(Number(0)))
    exponent: float = field(default=0.25, metadata=ruled(Number(0)))
    cost_scale: float | None = field(default=None, metadata=ruled(Number(0, above=True, absent="auto")))
    reference: str | None = field(default=None, metadata=ruled(Text(optional=True)))
    trial_budget: float | None = field(default=None, metadata=ruled(Number(0, absent="none")))
    seed: int = field(default=0, metadata=ruled(Number(0, whole=True)))
    features: Path | None = field(default=None, metadata=ruled(_Features()))

    @property
    def aim(self) -> float:
        """What the router takes for its α, 0..1: one that ends near it from both sides surely keeps what lies below."""
        return min(1.0, self.alpha + self.margin)

    @property
    def weight(self) -> float:
        """V as MESS+ needs it, which cannot find one by itself: `v`, or 0.2."""
        return MESSPLUS_V if self.v is None else self.v

    def __post_init__(self) -> None:
        check_fields(self)
