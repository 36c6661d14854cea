"""zoo.yaml's `tenants`: who may ask a server, with which key, and what is promised to each."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

from messctl.zoo.schema import LIST, Number, Place, accepted, checked_by, read_fields
from messctl.zoo.server_keys import VariableName

HASH = "sha256:"
"""What a key's hash begins with."""
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class TenantName:
    """The rule for a tenant's name, which is part of a file's name."""

    wanted: ClassVar[str] = "a name of small letters, digits, - and _, of at most 63 characters"

    def read(self, place: Place) -> str:
        """See `Rule`."""
        value = place.value()
        if self.problem(value):
            raise place.error(f"{place.name} must be {self.wanted}")
        return str(value)

    def problem(self, value: Any) -> str | None:
        """See `Rule`."""
        return None if isinstance(value, str) and NAME.fullmatch(value) else self.wanted


@dataclass(frozen=True, slots=True)
class KeyHash:
    """The rule for the hash of a key, as `messctl serve key` prints it; or None."""

    secret: ClassVar[bool] = True
    wanted: ClassVar[str] = f"{HASH} and 64 hexadecimal digits, as `messctl serve key NAME` prints them"

    def read(self, place: Place) -> str | None:
        """See `Rule`."""
        return accepted(self, place)

    def problem(self, value: Any) -> str | None:
        """See `Rule`."""
        valid = value is None or (isinstance(value, str) and re.fullmatch(rf"{HASH}[0-9a-f]{{64}}", value))
        return None if valid else self.wanted


@dataclass(frozen=True, slots=True)
class ModelNames:
    """The rule for a list of models; empty: all."""

    def read(self, place: Place) -> tuple[str, ...]:
        """See `Rule`."""
        if place.kind != LIST and not place.empty:
            raise place.error(f"{place.name} must be a list of models, such as [small, large]")
        return tuple(str(each.value()) for each in place.elements())

    def problem(self, value: Any) -> str | None:
        """See `Rule`."""
        return None if isinstance(value, tuple) else "a list of models"


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who may ask: a `name`, and a key that either is in the environment variable `key_env`, or has a `key_hash`.

    `alpha` and `margin`, 0..1, are what is promised; None: the same as in `sla` and `router`. `models` may answer;
    empty: all. `per_minute` ≥ 1 limits the requests; None: no limit.
    """

    name: str = field(metadata=checked_by(TenantName()))
    key_env: str | None = field(default=None, metadata=checked_by(VariableName()))
    key_hash: str | None = field(default=None, metadata=checked_by(KeyHash()))
    alpha: float | None = field(default=None, metadata=checked_by(Number(0, 1, absent="inherited")))
    margin: float | None = field(default=None, metadata=checked_by(Number(0, 1, absent="inherited")))
    models: tuple[str, ...] = field(default=(), metadata=checked_by(ModelNames()))
    per_minute: int | None = field(default=None, metadata=checked_by(Number(1, 10**6, whole=True, absent="none")))


def read_tenants(place: Place | None, models: tuple[str, ...]) -> tuple[Tenant, ...]:
    """Return the tenants at a place of zoo.yaml. Raises ConfigError, with the line."""
    tenants: list[Tenant] = []
    for below in [] if place is None else place.elements():
        values = read_fields(Tenant, below)
        if "name" not in values:
            raise below.error(f"{below.name} has no name; give it one")
        tenant = Tenant(**values)
        if (tenant.key_env is None) == (tenant.key_hash is None):
            raise below.error(f"tenant {tenant.name!r} needs either key_env or key_hash; see `messctl serve key NAME`")
        if any(tenant.name == other.name for other in tenants):
            raise below.error(f"tenant {tenant.name!r} is given twice; give each tenant its own name")
        unknown = next((name for name in tenant.models if name not in models), None)
        if unknown is not None:
            raise below.error(f"tenant {tenant.name!r} names the model {unknown!r}; known: {', '.join(models)}")
        tenants.append(tenant)
    return tuple(tenants)
