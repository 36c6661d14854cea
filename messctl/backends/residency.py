"""Residency: which models are in memory under a budget; the least recently used ones make room for the next.

`Memory` is the bookkeeping, `Residency` loads and evicts by it, from several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from messctl.backends.library import interrupts_held
from messctl.errors import NoRoomError
from messctl.zoo.memory import Bytes, amount

Key = TypeVar("Key", bound=Hashable)


class Memory(Generic[Key]):
    """What is in memory, and what it takes there, within `budget`; iterates from the least recently used on."""

    def __init__(self, budget: Bytes) -> None:
        self._budget = budget
        self._taken: dict[Key, Bytes] = {}

    def __iter__(self) -> Iterator[Key]:
        return iter(tuple(self._taken))

    def use(self, key: Key) -> None:
        """Note that something is used now, if it is there."""
        if key in self._taken:
            self._taken[key] = self._taken.pop(key)

    def take(self, key: Key, need: Bytes) -> None:
        """Note that something is there now, and used."""
        self._taken.pop(key, None)
        self._taken[key] = need

    def free(self, key: Key) -> None:
        """Note that something is gone."""
        self._taken.pop(key, None)

    def too_large(self, need: Bytes) -> str | None:
        """Return the device that does not hold `need` even where it holds nothing else."""
        return next(iter(self._full(need, self._taken)), None)

    def room_for(self, need: Bytes, held: Collection[Key] = ()) -> tuple[Key, ...] | None:
        """Return what has to go before `need` fits, the least recently used first, never one of `held`.

        None where not even that is enough. Only what is on a device that is too full has to go.
        """
        going: list[Key] = []
        for key, taken in self._taken.items():
            full = self._full(need, going)
            if key not in held and any(taken.get(device) for device in full):
                going.append(key)
        return None if self._full(need, going) else tuple(going)

    def _full(self, need: Bytes, going: Collection[Key]) -> list[str]:
        """Return the devices that do not hold `need` beside what stays."""
        staying = [taken for key, taken in self._taken.items() if key not in going]
        return [
            device
            for device, most in self._budget.items()
            if need.get(device) and need[device] + sum(taken.get(device, 0.0) for taken in staying) > most
        ]


class OverBudgetError(Exception):
    """A model does not fit into the budget: alone, or now."""


class Resident(Protocol):
    """A model in memory; whoever has it answer holds `lock`, and looks at `closed` first."""

    lock: threading.Lock
    closed: bool

    def close(self) -> None:
        """Let go of its memory."""


Model = TypeVar("Model", bound=Resident)


class Residency(Generic[Key, Model]):
    """The models in memory, within `budget`. Thread-safe; one model is loaded at a time.

    A model that is answering is never evicted: the next least recently used one goes instead, and where only answering
    ones are left, the load waits for the first of them. It does so without any lock that an answering thread
    could want, but one that is itself answering would wait for itself, or for one that waits for it: there the load
    fails.
    """

    def __init__(self, budget: Bytes) -> None:
        self.budget = budget
        self._memory: Memory[Key] = Memory(budget)
        self._models: dict[Key, Model] = {}
        self._loading = threading.Lock()  # whoever holds it waits for no model's lock
        self._table = threading.Lock()
        self._here = threading.local()

    def resident(self) -> tuple[Key, ...]:
        """Return what is in memory, the least recently used first."""
        with self._table:
            return tuple(self._memory)

    def holds(self, key: Key) -> bool:
        """Whether a model is in memory; asking is no use of it."""
        return key in self._models

    def get(self, key: Key) -> Model | None:
        """Return a model in memory, which is used now, or None."""
        with self._table:
            self._memory.use(key)
            return self._models.get(key)

    def load(self, key: Key, need: Bytes, load: Callable[[], Model]) -> Model:
        """Return the model, by `load` where it is not in memory, when it has room.

        Where `load` raises NoRoomError, all that are not answering are evicted and it is tried once more; the others
        stay as they are. Raises what `load` raises, and OverBudgetError where no room can be made.
        """
        device = self._memory.too_large(need) if self.budget else None
        if device is not None:
            raise OverBudgetError(
                f"needs about {amount(need[device])}, and memory.{device}_gb in zoo.yaml allows "
                f"{amount(self.budget[device])}: raise it, lower n_ctx, or use a smaller file"
            )
        while True:
            with self._loading, interrupts_held():
                model = self.get(key)
                if model is not None:
                    return model
                if self._made_room(need):
                    return self._loaded(key, need, load)
                busy = self._first_to_go(need)
            if getattr(self._here, "answering", 0):
                raise OverBudgetError("has no room in the memory budget beside the models that are answering")
            if busy is not None:
                self._wait_for(busy)

    @contextmanager
    def using(self, model: Model) -> Iterator[bool]:
        """Hold a model while it answers; yield whether it is still there."""
        with model.lock:
            self._here.answering = getattr(self._here, "answering", 0) + 1
            try:
                yield not model.closed
            finally:
                self._here.answering -= 1

    def drop(self, key: Key, model: Model) -> None:
        """Forget a model that is gone already; another one under its key stays."""
        with self._table:
            if self._models.get(key) is model:
                del self._models[key]
                self._memory.free(key)

    def close(self) -> None:
        """Let go of all models, each when it has given the answer it is at."""
        with self._loading, self._table:
            models = list(self._models.values())
            for key in self._memory:
                self._memory.free(key)
            self._models.clear()
        for model in models:
            with model.lock:
                model.close()

    def _loaded(self, key: Key, need: Bytes, load: Callable[[], Model]) -> Model:
        try:
            model = load()
        except NoRoomError:
            if not sum(self._evicted(other) for other in self.resident()):
                raise
            model = load()
        with self._table:
            self._models[key] = model
            self._memory.take(key, need)
        return model

    def _made_room(self, need: Bytes) -> bool:
        """Evict until there is room for `need`; tell whether there is."""
        held: set[Key] = set()
        while True:
            with self._table:
                going = self._memory.room_for(need, held)
            if not going:
                return going is not None
            if not self._evicted(going[0]):
                held.add(going[0])

    def _first_to_go(self, need: Bytes) -> Key | None:
        with self._table:
            return next(iter(self._memory.room_for(need) or ()), None)

    def _evicted(self, key: Key) -> bool:
        """Evict a model, unless it is answering; tell whether it is gone."""
        model = self._models.get(key)
        if model is None:
            return True  # it has been dropped
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

    def _wait_for(self, key: Key) -> None:
        """Evict a model when it has answered, unless it is gone by then."""
        model = self._models.get(key)
        if model is not None:
            with model.lock, self._loading:
                if self._models.get(key) is model:
                    self._evict(key, model)
