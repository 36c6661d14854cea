"""zoo.yaml's `state`: where the state is, and for how long it keeps requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from messctl.inputs import LIKE_AN_ADDRESS, SCHEMES
from messctl.zoo.duration import UNITS, Duration
from messctl.zoo.schema import KEYS, Flag, Place, Text, accepted, check_fields, checked_by, read_fields, relative_path

LEAST_KEPT_S = UNITS["h"]
"""Requests are kept for at least this long: one that is being answered must not go."""


@dataclass(frozen=True, slots=True)
class StateFile:
    """The rule for the state's file, relative to the YAML file; `~` is the home folder."""

    def read(self, place: Place) -> Path | None:
        """See `Rule`."""
        text = str(place.value())
        if "://" in text or LIKE_AN_ADDRESS.match(text):  # it may hold a password, so it is not shown
            raise place.error(f"{place.name} must be a path, or {StateUrl.wanted}")
        return None if place.empty else relative_path(place, Text().read(place) or "")

    def problem(self, value: Any) -> str | None:
        """See `Rule`."""
        return None if value is None or isinstance(value, Path) else "a path"


@dataclass(frozen=True, slots=True)
class StateUrl:
    """The rule for the address of a PostgreSQL database, which may hold a password; or None."""

    secret: ClassVar[bool] = True
    wanted: ClassVar[str] = "the address of a PostgreSQL database, as in postgresql://user@host/database"

    def read(self, place: Place) -> str | None:
        """See `Rule`."""
        return accepted(self, place)

    def problem(self, value: Any) -> str | None:
        """See `Rule`."""
        valid = value is None or (isinstance(value, str) and value.startswith(SCHEMES) and value.isprintable())
        return None if valid else self.wanted


@dataclass(frozen=True, slots=True)
class StatePlace:
    """Where the state is: the file `path`, or the database at `url`; both None: in the user's state folder.

    `keep` is for how many seconds requests are kept; None: for ever. If `degraded`, a server answers without a state
    that it cannot reach. Raises UsageError for values out of range.
    """

    path: Path | None = field(default=None, metadata=checked_by(StateFile()))
    url: str | None = field(default=None, repr=False, metadata=checked_by(StateUrl()))
    keep: float | None = field(default=None, metadata=checked_by(Duration("forever", LEAST_KEPT_S)))

    degraded: bool = field(default=False, metadata=checked_by(Flag()))

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True)
class StateRule:
    """The rule for `state`: a path, an address, or keys and values."""

    def read(self, place: Place) -> StatePlace:
        """See `Rule`."""
        if place.empty or place.kind == KEYS:
            values = read_fields(StatePlace, place)
            if values.get("path") and values.get("url"):
                raise place.error(f"{place.name} has both a path and a url; keep one of them")
            return StatePlace(**values)
        text = place.value()
        if isinstance(text, str) and text.startswith(SCHEMES):
            return StatePlace(url=StateUrl().read(place))
        return StatePlace(StateFile().read(place))

    def problem(self, value: Any) -> str | None:
        """See `Rule`."""
        return None if isinstance(value, StatePlace) else "a path, an address, or keys and values"
