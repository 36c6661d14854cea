"""Residency: which models are in memory, under a budget; the least recently used one makes room for the next."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from messctl.backends.library import interrupts_held
from messctl.errors import NoRoomError


class Resident(Protocol):
    """A model in memory; whoever has it answer holds `lock` and looks at `closed` first."""

    lock: threading.Lock
    closed: bool

    def close(self) -> None:
        """Let go of its memory."""


Key = TypeVar("Key", bound=Hashable)
Model = TypeVar("Model", bound=Resident)


class Residency(Generic[Key, Model]):
    """The models in memory. Their needs, in bytes, add up to `budget_bytes` at most; None: whatever loads, stays.

    Thread-safe. One model is loaded at a time, and one that is answering is never evicted: where only such ones could
    make room, the load waits for them; within an answer, which would wait for itself, it fails.
    """

    def __init__(self, budget_bytes: float | None = None) -> None:
        self.budget_bytes = budget_bytes
        self._loading = threading.Lock()
        self._table = threading.Lock()
        self._models: OrderedDict[Key, tuple[Model, int]] = OrderedDict()
        self._thread = threading.local()

    def resident(self) -> tuple[Key, ...]:
        """Return what is in memory, the least recently used first."""
        with self._table:
            return tuple(self._models)

    def holds(self, key: Key) -> bool:
        """Whether a model is in memory; asking is no use of it."""
        return key in self._models

    def get(self, key: Key) -> Model | None:
        """Return a model in memory, now the most recently used one, or None."""
        with self._table:
            if key not in self._models:
                return None
            self._models.move_to_end(key)
            return self._models[key][0]

    def load(self, key: Key, needs: int, load: Callable[[], Model]) -> Model:
        """Return the model, loaded by `load` where it is not in memory, after evicting what stands in its way.

        A load for which the memory is too short is tried again without the least recently used of the others, as long
        as there is one. Raises NoRoomError, and whatever else `load` raises; the others are as they were.
        """
        if self.budget_bytes is not None and needs > self.budget_bytes:
            raise NoRoomError(
                f"needs about {needs / 1e9:,.3g} GB and the memory budget is {self.budget_bytes / 1e9:,.3g} GB: "
                "lower n_ctx, raise memory.budget_gb in zoo.yaml, or use a smaller file"
            )
        while True:
            with self._loading:
                found = self.get(key)
                if found is not None:
                    return found
                if self._make_room(needs):
                    try:
                        with interrupts_held():
                            model = load()
                            with self._table:
                                self._models[key] = (model, needs)
                            return model
                    except NoRoomError:
                        if not self._evict_one():
                            raise
                        continue
                in_the_way = self._oldest()
            if getattr(self._thread, "answering", 0):
                raise NoRoomError("does not fit into the memory budget beside the models that are answering")
            if in_the_way is not None:
                with in_the_way.lock:
                    pass  # it has finished its answer

    @contextmanager
    def using(self, model: Model) -> Iterator[bool]:
        """Hold a model while it answers; yield whether it is still there. It is not evicted meanwhile."""
        with model.lock:
            self._thread.answering = getattr(self._thread, "answering", 0) + 1
            try:
                yield not model.closed
            finally:
                self._thread.answering -= 1

    def drop(self, key: Key, model: Model) -> None:
        """Forget a model that is gone already; another one under its key stays."""
        with self._table:
            if key in self._models and self._models[key][0] is model:
                del self._models[key]

    def close(self) -> None:
        """Let go of all models, each when it has given the answer it is at."""
        with self._loading:
            while self._models:
                with self._table:
                    _, (model, _) = self._models.popitem()
                with model.lock:
                    model.close()

    def _make_room(self, needs: int) -> bool:
        """Evict until `needs` bytes fit; tell whether they do."""
        while self.budget_bytes is not None and self._used() + needs > self.budget_bytes:
            if not self._evict_one():
                return False
        return True

    def _used(self) -> int:
        with self._table:
            return sum(needs for _, needs in self._models.values())

    def _oldest(self) -> Model | None:
        with self._table:
            return next((model for model, _ in self._models.values()), None)

    def _evict_one(self) -> bool:
        """Evict the least recently used model that is not answering; tell whether there was one."""
        with self._table:
            for key, (model, _) in self._models.items():
                if model.lock.acquire(blocking=False):
                    del self._models[key]
                    break
            else:
                return False
        try:
            model.close()
        finally:
            model.lock.release()
        return True
