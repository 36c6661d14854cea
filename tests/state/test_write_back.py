"""The thread that brings SQLite's log into the file while a server runs."""

import shutil
import sqlite3
import threading
import time
from contextlib import closing, suppress

import pytest

from messctl.errors import StoreError
from messctl.state.sqlite_file import MEMORY
from messctl.state.store import Store
from messctl.state.write_back import LONGEST, USUAL

PATIENCE_S = 30.0


def noted(store, count):
    """Let a number of transactions leave a row each."""
    for number in range(count):
        with store.transaction():
            store.database.execute(f"INSERT OR REPLACE INTO policies VALUES ('policy {number}', 1, '', '')")


def in_file_alone(path, folder):
    """Return how many rows the file holds without its log; none while it is being written."""
    copy = folder / "copy.sqlite"
    shutil.copyfile(path, copy)
    with closing(sqlite3.connect(copy)) as alone, suppress(sqlite3.DatabaseError):
        return alone.execute("SELECT count(*) FROM policies").fetchone()[0]
    return 0


def wait_for(rows, path, folder):
    """Wait until the file holds some rows without its log. Fails if that takes too long."""
    gives_up = time.monotonic() + PATIENCE_S
    while in_file_alone(path, folder) < rows:
        assert time.monotonic() < gives_up
        time.sleep(0.05)


def longest_log(store):
    return store.database.row("PRAGMA wal_autocheckpoint")[0]


def threads():
    return [thread.name for thread in threading.enumerate() if thread.name == "messctl-write-back"]


def test_what_was_committed_reaches_the_file_though_no_commit_brings_it_there(tmp_path):
    path = tmp_path / "state.sqlite"
    with Store(path) as store:
        noted(store, 1)
        assert in_file_alone(path, tmp_path) == 0
        with store.tended():
            noted(store, 20)
            wait_for(20, path, tmp_path)


def test_a_commit_brings_a_long_log_into_the_file_itself_and_after_the_block_a_short_one(tmp_path):
    with Store(tmp_path / "state.sqlite") as store:
        assert longest_log(store) == USUAL
        with store.tended():
            assert longest_log(store) == LONGEST
            assert threads()
        assert longest_log(store) == USUAL
        assert not threads()


def test_nobody_takes_the_thread_for_another_process_that_writes(tmp_path):
    path = tmp_path / "state.sqlite"
    with Store(path) as store, store.tended():
        noted(store, 5)
        with store.unchanging():
            before = store.policy.stamp
        wait_for(5, path, tmp_path)
        with store.unchanging():
            assert store.policy.stamp == before


def test_a_file_that_is_deleted_meanwhile_is_not_made_anew(tmp_path):
    path = tmp_path / "state.sqlite"
    with Store(path) as store:
        path.unlink()
        with store.tended():
            gives_up = time.monotonic() + PATIENCE_S
            while threads() and time.monotonic() < gives_up:
                time.sleep(0.01)
            assert not threads()
            assert not path.exists()


def test_a_state_in_memory_needs_no_thread():
    with Store(MEMORY) as store, store.tended():
        assert not threads()


def test_the_thread_ends_with_a_block_that_fails(tmp_path):
    with Store(tmp_path / "state.sqlite") as store:
        with pytest.raises(StoreError, match="it failed"), store.tended():
            raise StoreError("it failed")
        assert not threads()
