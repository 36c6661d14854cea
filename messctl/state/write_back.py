"""SQLite's write-ahead log is brought into the file by a thread, so that no commit has to wait for the disk.

A commit writes to the log alone. Once the log is long, SQLite lets the next commit bring all of it into the file, which
takes some 20 ms, while everybody waits. A second connection can do that without keeping anybody from writing.
Source: https://sqlite.org/wal.html, "Performance Considerations".
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

BUSY_S, IDLE_S = 0.2, 1.0
"""How often the thread looks, while others write and while nobody does."""
USUAL, LONGEST = 1000, 8000
"""How many pages of 4 KiB the log has when a commit brings it into the file: without the thread, and with it."""


@contextmanager
def written_back(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Bring the log of the connection's file, at `path`, into the file during the block.

    Raises sqlite3.Error. What goes wrong later is left to the commits, which bring a log of LONGEST into the file.
    """
    ended = threading.Event()
    address = f"{path.resolve().as_uri()}?mode=rw"  # a file that was deleted meanwhile is not made anew

    def go_on() -> None:
        with suppress(sqlite3.Error), closing(sqlite3.connect(address, uri=True, isolation_level=None)) as own:
            before, pause_s = -1, BUSY_S
            while not ended.wait(pause_s):
                _, after, _ = own.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                before, pause_s = after, BUSY_S if after != before else IDLE_S

    thread = threading.Thread(target=go_on, name="messctl-write-back", daemon=True)
    connection.execute(f"PRAGMA wal_autocheckpoint = {LONGEST}")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        connection.execute(f"PRAGMA wal_autocheckpoint = {USUAL}")
