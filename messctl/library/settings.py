"""The settings of a call: those of a zoo file, if one is named, with what the caller states in their place."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from messctl.errors import UnknownNameError
from messctl.zoo import Settings, load_settings


def settings_with(zoo: str | Path | None, given: dict[str, Any]) -> Settings:
    """Return the settings of a zoo file, or the defaults without one; what is `given` replaces them.

    Raises UnknownNameError for a setting that does not exist, UsageError for an impossible value, ConfigError.
    """
    return stated(Settings() if zoo is None else load_settings(Path(zoo))[0], given)


def stated(settings: Settings, given: dict[str, Any]) -> Settings:
    """Return the settings with what is given in their place; None leaves a setting. Raises as `settings_with`."""
    known = [each.name for each in fields(Settings)]
    for name in given:
        if name not in known:
            raise UnknownNameError("setting", name, known)
    return replace(settings, **{name: value for name, value in given.items() if value is not None})
