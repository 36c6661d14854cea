"""Opening a router: its backends, and all that a zoo file says of it."""

from __future__ import annotations

from collections.abc import Callable

from messctl.backends import Dispatch, encoder_of
from messctl.backends.base import Backend
from messctl.costs.load_costs import Loads
from messctl.costs.meter import Meter
from messctl.costs.meter_choice import meter_for
from messctl.graders import Grader
from messctl.live.router import Router
from messctl.state.store import Store
from messctl.zoo import Settings, ZooFile


def backends_of(described: ZooFile, warn: Callable[[str], None]) -> Backend:
    """Return one backend for all models of a zoo: llama.cpp for files, and a client for servers."""

    def files() -> Backend:
        from messctl.backends import LlamaCpp  # noqa: PLC0415  # only a model with a file needs it

        return LlamaCpp(on_warning=warn, budget=described.budget)

    def servers() -> Backend:
        from messctl.backends import OpenAICompatible  # noqa: PLC0415  # only a model at a server needs it

        return OpenAICompatible()

    return Dispatch(files, servers)


def router_over(
    described: ZooFile,
    store: Store,
    backend: Backend,
    settings: Settings,
    grader: Grader | None,
    *,
    accept_empty: bool = False,
) -> Router:
    """Return the router of a zoo file's models over a store, with these settings; see `Router`."""
    meter = meter_for(described)
    return Router(
        {model.name: model for model in described.models},
        settings,
        backend,
        meter,
        store,
        grader,
        encoder_of(described.settings),
        loads_of(described, meter),
        accept_empty=accept_empty,
    )


def loads_of(described: ZooFile, meter: Meter) -> Loads:
    """Return the costs of loading models. `load_watts` counts only if loads are neither measured nor stated."""
    estimated = not meter.includes_loads and all(model.cost is None for model in described.models)
    return Loads(described.load_watts if estimated else None)
