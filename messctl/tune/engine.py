"""Engines: they run independent pieces of work in parallel. Results do not depend on the engine."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeVar

from messctl.errors import MissingExtraError, UnknownNameError, UsageError

T = TypeVar("T")
ENGINES = ("threads", "loky", "ray")


def check_engine(engine: str, address: str | None) -> None:
    """Raise UnknownNameError for an unknown engine, UsageError for an address without the engine `ray`."""
    if engine not in ENGINES:
        raise UnknownNameError("engine", engine, ENGINES)
    if address and engine != "ray":
        raise UsageError(f"--address names a Ray cluster, but the engine is {engine!r}; add --engine ray")


@contextmanager
def running(
    work: Callable[..., T], pieces: Sequence[tuple[Any, ...]], engine: str = "threads", address: str | None = None
) -> Iterator[Iterator[T]]:
    """Yield an iterator over `work(*piece)` for every piece, in their order, on all cores.

    The engines are joblib's. `threads` share memory, and compiled code runs in all of them at once. `loky` uses
    processes. `ray` uses the cluster at `address`, or starts a small one on this machine and ends it after the work.
    Raises UnknownNameError for an unknown engine, MissingExtraError if Ray is not installed, UsageError for an address
    without the engine `ray` or without a cluster behind it.
    """
    check_engine(engine, address)
    from joblib import Parallel, delayed  # noqa: PLC0415  # a quarter of a second, for this alone

    calls = [delayed(work)(*piece) for piece in pieces]
    if engine == "ray":
        with _ray(address) as cores, Parallel(n_jobs=-1, backend="ray") as parallel:
            # Ray's backend returns only complete batches, so the pieces go in batches of two per core.
            slices = (calls[first : first + 2 * cores] for first in range(0, len(calls), 2 * cores))
            yield (result for part in slices for result in parallel(part))
        return
    backend = "threading" if engine == "threads" else engine
    results = Parallel(n_jobs=-1, backend=backend, return_as="generator")(calls)
    try:
        yield results
    finally:
        with warnings.catch_warnings():
            # After an early stop, joblib warns of tasks whose results were not read.
            warnings.filterwarnings("ignore", message=".*tasks", category=UserWarning)
            results.close()


@contextmanager
def _ray(address: str | None) -> Iterator[int]:
    """Connect joblib to Ray, and yield the number of its cores."""
    try:
        ray = import_module("ray")
    except ImportError:
        raise MissingExtraError("Ray", "ray", "--engine ray") from None
    try:
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        ray.init(address, **quiet, **({} if address else {"include_dashboard": False}))
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"no Ray cluster at {address or 'this machine'} ({reason}); see `ray status`") from None
    try:
        import_module("ray.util.joblib").register_ray()
        yield max(1, int(ray.cluster_resources().get("CPU", 1)))
    finally:
        ray.shutdown()
