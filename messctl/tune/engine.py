"""Engines: what runs independent pieces of work at once. Results do not depend on which one does."""

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
    """Raise UnknownNameError for an engine that is none, and UsageError for an address that it does not take."""
    if engine not in ENGINES:
        raise UnknownNameError("engine", engine, ENGINES)
    if address and engine != "ray":
        raise UsageError(f"--address says where a Ray cluster is, but the engine is {engine!r}; add --engine ray")


@contextmanager
def running(
    work: Callable[..., T], pieces: Sequence[tuple[Any, ...]], engine: str = "threads", address: str | None = None
) -> Iterator[Iterator[T]]:
    """Yield an iterator over `work(*piece)` of every piece, in their order, on all cores.

    The engines are joblib's: `threads` share memory, and compiled code runs in all of them at once; `loky` has
    processes; `ray` has the cluster at `address`, or a small one of its own on this machine, which ends with the work.
    Raises UnknownNameError for an engine, MissingExtraError where Ray is not installed, UsageError for an address
    that no engine takes or where there is no cluster.
    """
    check_engine(engine, address)
    from joblib import Parallel, delayed  # noqa: PLC0415  # a quarter of a second, for this alone

    calls = [delayed(work)(*piece) for piece in pieces]
    if engine == "ray":
        with _ray(address) as cores, Parallel(n_jobs=-1, backend="ray") as parallel:
            # Ray's backend hands over only what is complete: so many pieces at a time.
            slices = (calls[first : first + 2 * cores] for first in range(0, len(calls), 2 * cores))
            yield (result for part in slices for result in parallel(part))
        return
    backend = "threading" if engine == "threads" else engine
    results = Parallel(n_jobs=-1, backend=backend, return_as="generator")(calls)
    try:
        yield results
    finally:
        with warnings.catch_warnings():
            # Whoever stops early knows that some of the work was for nothing.
            warnings.filterwarnings("ignore", message=".*tasks", category=UserWarning)
            results.close()


@contextmanager
def _ray(address: str | None) -> Iterator[int]:
    """Connect joblib to Ray, and yield the number of cores that it has."""
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
