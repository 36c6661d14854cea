"""Importers: benchmark results of other projects become traces. Each format is one small module that yields trace rows.

A format is a module of this package with a constant `FORMAT`. Adding one changes no other file.
"""

from __future__ import annotations

import importlib
import pkgutil

from messctl.errors import UnknownNameError
from messctl.importers.base import Columns, Format, ImportOptions
from messctl.importers.conversion import CostStatement, ImportSummary, convert

__all__ = ["Columns", "CostStatement", "Format", "ImportOptions", "ImportSummary", "convert", "formats", "get_format"]


def formats() -> dict[str, Format]:
    """Return all formats by name, sorted."""
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    found = (getattr(module, "FORMAT", None) for module in modules)
    return {known.name: known for known in sorted(filter(None, found), key=lambda known: known.name)}


def get_format(name: str) -> Format:
    """Return the format with this name. Raises UnknownNameError, which names the nearest."""
    known = formats()
    if name not in known:
        raise UnknownNameError("format", name, known)
    return known[name]
