"""Route each prompt to the cheapest model of a zoo while a service-level promise holds.

The names here are loaded when they are first used, so that `import messctl` is quick. See docs/python.md.
"""

import sys
from importlib import import_module
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from messctl.errors import MessctlError
    from messctl.library.evaluation import Evaluated, evaluate
    from messctl.library.replay import Replayed, replay
    from messctl.library.router import Router, open_router
    from messctl.library.trace import Trace
    from messctl.library.tuning import Tuned, tune
    from messctl.records import Decision
    from messctl.state.ledger import Standing

__version__ = "0.1.0"
__all__ = [
    "Decision", "Evaluated", "MessctlError", "Replayed", "Router", "Standing", "Trace", "Tuned", "evaluate",
    "open_router", "replay", "tune",
]  # fmt: skip
_PLACES = {
    "Decision": "messctl.records",
    "Evaluated": "messctl.library.evaluation",
    "MessctlError": "messctl.errors",
    "Replayed": "messctl.library.replay",
    "Router": "messctl.library.router",
    "Standing": "messctl.state.ledger",
    "Trace": "messctl.library.trace",
    "Tuned": "messctl.library.tuning",
    "evaluate": "messctl.library.evaluation",
    "open_router": "messctl.library.router",
}
"""The names that are loaded late, and the modules that have them."""
_CALLED = {"replay": "messctl.library.replay", "tune": "messctl.library.tuning"}
"""The functions that are named like a subpackage, and the modules that have them."""


class _CalledPackage(ModuleType):
    """A subpackage that can be called: `messctl.replay` is both, whichever was imported first."""

    def __call__(self, *arguments: "Any", **options: "Any") -> "Any":
        name = self.__name__.rpartition(".")[2]
        return getattr(import_module(_CALLED[name]), name)(*arguments, **options)


class _Package(ModuleType):
    """This package. A subpackage that is named like a function becomes callable as it is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _CALLED and isinstance(value, ModuleType):
            value.__class__ = _CalledPackage
        super().__setattr__(name, value)


def __getattr__(name: str) -> "Any":
    if name in _CALLED:
        return import_module(f"messctl.{name}")
    if name not in _PLACES:
        raise AttributeError(f"module 'messctl' has no attribute {name!r}")
    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


sys.modules[__name__].__class__ = _Package
