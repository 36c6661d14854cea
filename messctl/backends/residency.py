"""The models in memory, within a budget: to load another one, the least recently used are evicted.

`Memory` does the accounting; `Residency` loads and evicts, from several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from messctl.backends.llama_library import interrupts_delayed
from messctl.errors import NoRoomError
from messctl.zoo.memory import Bytes, format_bytes

Key = TypeVar("Key", bound=Hashable)


class Memory(Generic[Key]):
    """What is in memory and how many bytes it takes, within `budget`; iterates from the least recently used."""

    def __init__(self, budget: Bytes) -> None:
        self._budget = budget
        self._taken: dict[Key, Bytes] = {}

    def __iter__(self) -> Iterator[Key]:
        return iter(tuple(self._taken))

    def use(self, key: Key) -> None:
        """Note that an entry is used now, if it is in memory."""
        if key in self._taken:
            self._taken[key] = self._taken.pop(key)

    def take(self, key: Key, need: Bytes) -> None:
        """Note that an entry is in memory now, takes `need`, and is used."""
        self._taken.pop(key, None)
        self._taken[key] = need

    def free(self, key: Key) -> None:
        """Note that an entry is no longer in memory."""
        self._taken.pop(key, None)

    def too_large(self, need: Bytes) -> str | None:
        """Return a device whose whole budget is less than `need`; None if there is none."""
        return next(iter(self._full(need, self._taken)), None)

    def to_evict(self, need: Bytes, busy: Collection[Key] = ()) -> tuple[Key, ...] | None:
        """Return the entries to evict so that `need` fits, the least recently used first, none of them in `busy`.

        Only entries on a device that is too full are evicted. Returns None if `need` does not fit even then.
        """
        going: list[Key] = []
        for key, taken in self._taken.items():
            full = self._full(need, going)
            if key not in busy and any(taken.get(device) for device in full):
                going.append(key)
        return None if self._full(need, going) else tuple(going)

    def _full(self, need: Bytes, going: Collection[Key]) -> list[str]:
        """Return the devices that are too full for `need` when the entries `going` are evicted."""
        staying = [taken for key, taken in self._taken.items() if key not in going]
        return [
            device
            for device, most in self._budget.items()
            if need.get(device) and need[device] + sum(taken.get(device, 0.0) for taken in staying) > most
        ]


class OverBudgetError(Exception):
    """A model does not fit into the budget, either at all or beside the models that are answering."""


class Resident(Protocol):
    """A model in memory. Hold `lock` while it answers, and check `closed` first."""

    lock: threading.Lock
    closed: bool

    def close(self) -> None:
        """Free its memory."""


Model = TypeVar("Model", bound=Resident)


class Residency(Generic[Key, Model]):
    """The models in memory, within `budget`. Thread-safe; one model is loaded at a time.

    A model that is answering is never evicted: the next least recently used one is evicted instead. If all of them are
    answering, the load waits for the first one. It waits without any lock that an answering thread may need. A thread
    that is itself answering might wait for itself, so there the load fails.
    """

    def __init__(self, budget: Bytes) -> None:
        self.budget = budget
        self._memory: Memory[Key] = Memory(budget)
        self._models: dict[Key, Model] = {}
        self._loading = threading.Lock()  # a thread that holds it waits for no model's lock
        self._table = threading.Lock()
        self._here = threading.local()

    def resident(self) -> tuple[Key, ...]:
        """Return the keys of the models in memory, the least recently used first."""
        with self._table:
            return tuple(self._memory)

    def holds(self, key: Key) -> bool:
        """Return whether a model is in memory; this does not count as a use."""
        return key in self._models

    def get(self, key: Key) -> Model | None:
        """Return a model in memory, which counts as a use, or None."""
        with self._table:
            self._memory.use(key)
            return self._models.get(key)

    def load(self, key: Key, need: Bytes, load: Callable[[], Model]) -> Model:
        """Return the model; call `load` if it is not in memory, after making room for `need`.

        If `load` raises NoRoomError, all models that are not answering are evicted, and `load` is called once more.
        Raises what `load` raises, and OverBudgetError if there can be no room.
        """
        device = self._memory.too_large(need) if self.budget else None
        if device is not None:
            raise OverBudgetError(
                f"needs about {format_bytes(need[device])}, but memory.{device}_gb in zoo.yaml allows "
                f"{format_bytes(self.budget[device])}: raise it, lower n_ctx, or use a smaller file"
            )
        while True:
            with self._loading, interrupts_delayed():
                model = self.get(key)
                if model is not None:
                    return model
                if self._make_room(need):
                    return self._load_now(key, need, load)
                busy = self._first_to_evict(need)
            if getattr(self._here, "answering", 0):
                raise OverBudgetError(
                    "has no room in the memory budget beside the models that are answering: raise `memory` in zoo.yaml"
                )
            if busy is not None:
                self._evict_after_answer(busy)

    @contextmanager
    def using(self, model: Model) -> Iterator[bool]:
        """Lock a model while it answers; yield whether it is still in memory."""
        with model.lock:
            self._here.answering = getattr(self._here, "answering", 0) + 1
            try:
                yield not model.closed
            finally:
                self._here.answering -= 1

    def drop(self, key: Key, model: Model) -> None:
        """Forget a model that is freed already; another model with the same key stays."""
        with self._table:
            if self._models.get(key) is model:
                del self._models[key]
                self._memory.free(key)

    def close(self) -> None:
        """Free all models; one that is answering is freed after its answer."""
        with self._loading, self._table:
            models = list(self._models.values())
            for key in self._memory:
                self._memory.free(key)
            self._models.clear()
        for model in models:
            with model.lock:
                model.close()

    def _load_now(self, key: Key, need: Bytes, load: Callable[[], Model]) -> Model:
        try:
            model = load()
        except NoRoomError:
            if not sum(self._try_evict(other) for other in self.resident()):
                raise
            model = load()
        with self._table:
            self._models[key] = model
            self._memory.take(key, need)
        return model

    def _make_room(self, need: Bytes) -> bool:
        """Evict models until `need` fits; return whether it does."""
        busy: set[Key] = set()
        while True:
            with self._table:
                going = self._memory.to_evict(need, busy)
            if not going:
                return going is not None
            if not self._try_evict(going[0]):
                busy.add(going[0])

    def _first_to_evict(self, need: Bytes) -> Key | None:
        with self._table:
            return next(iter(self._memory.to_evict(need) or ()), None)

    def _try_evict(self, key: Key) -> bool:
        """Evict a model unless it is answering; return whether it is gone."""
        model = self._models.get(key)
        if model is None:
            return True  # another thread dropped it
        if not model.lock.acquire(blocking=False):
            return False
        try:
            self._evict(key, model)
        finally:
            model.lock.release()
        return True

    def _evict(self, key: Key, model: Model) -> None:
        self.drop(key, model)
        model.close()

    def _evict_after_answer(self, key: Key) -> None:
        """Wait until a model has answered, then evict it if it is still in memory."""
        model = self._models.get(key)
        if model is not None:
            with model.lock, self._loading:
                if self._models.get(key) is model:
                    self._evict(key, model)
