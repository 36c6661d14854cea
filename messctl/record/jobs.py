"""Several requests at once: threads do the work, and the caller gets each result as soon as it is there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def results(work: Callable[[Item], Result], items: Iterable[Item], jobs: int) -> Iterator[tuple[Item, Result]]:
    """Yield every item with the result of `work`, `jobs` ≥ 1 at a time.

    With one job the caller's own thread works, in order. Otherwise results come in the order in which they are ready,
    and no further item is begun while the caller is busy with one. An error of `work` is raised here.
    """
    if jobs == 1:
        for item in items:
            yield item, work(item)
        return
    todo: SimpleQueue[Item | None] = SimpleQueue()
    done: SimpleQueue[tuple[Item, Result] | BaseException] = SimpleQueue()

    def labour() -> None:
        while (item := todo.get()) is not None:
            try:
                done.put((item, work(item)))
            except BaseException as error:  # noqa: BLE001  # the caller's thread raises it
                done.put(error)

    # A thread that waits for a server must not delay the end of the program after Ctrl-C.
    for _ in range(jobs):
        threading.Thread(target=labour, daemon=True).start()
    try:
        running = 0
        for item in items:
            if running == jobs:
                yield _ready(done)
                running -= 1
            todo.put(item)
            running += 1
        for _ in range(running):
            yield _ready(done)
    finally:
        for _ in range(jobs):
            todo.put(None)


def _ready(done: SimpleQueue[tuple[Item, Result] | BaseException]) -> tuple[Item, Result]:
    """Wait for the next result, and return it or raise its error."""
    found = done.get()
    if isinstance(found, BaseException):
        raise found
    return found
