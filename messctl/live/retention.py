"""Retention: requests older than the state keeps them go by themselves, a few at a time, beside what else is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from messctl.errors import StoreError
from messctl.state.store import Store

DAY_S = 86_400.0
"""How often a state is looked at, if it keeps requests for a day or longer."""
LOOK_S = 600.0
"""How often a server thinks of it."""
PAUSE_S = 0.2
"""How long a server lets requests alone after it pruned some."""


def prune_some(store: Store, keep_s: float) -> bool:
    """Prune some requests that are older than `keep_s` seconds, and return whether there may be more.

    Nothing is done if the state was rid of all of them within the last day, or within the last `keep_s` if that is
    less. Raises StoreError.
    """
    now = time.time()
    with store.unchanging():
        if 0.0 <= now - store.pruning.looked_at() < min(DAY_S, keep_s):
            return False
    return store.prune(now - keep_s) > 0


@contextmanager
def pruned_beside(stores: Sequence[Store], keep_s: float | None, tell: Callable[[str], None]) -> Iterator[None]:
    """Prune stores from time to time during the block, in a thread. A StoreError is reported, and it goes on."""
    ended = threading.Event()

    def go_on() -> None:
        reported = ""
        pause = PAUSE_S
        while keep_s is not None and not ended.wait(pause):
            try:
                more = [prune_some(store, keep_s) for store in stores]
                pause = PAUSE_S if any(more) else LOOK_S
            except StoreError as error:
                if str(error) != reported:
                    tell(str(error))
                reported, pause = str(error), LOOK_S

    thread = threading.Thread(target=go_on, name="messctl-retention", daemon=True)
    if keep_s is not None:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if keep_s is not None:
            thread.join()
