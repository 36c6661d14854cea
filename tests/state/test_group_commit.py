"""Group commit: work that waits is done together, in order, and committed once; what fails spoils nothing else."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from messctl.errors import StoreError, UsageError
from messctl.learning.snapshot import Snapshot
from messctl.state import group_commit
from messctl.state.store import Store

WRITE = "INSERT INTO policies VALUES (?, ?, '', '')"
LONG_S = 30.0


class Counted(Store):
    """A store that notes its transactions: what began, and whether it was committed."""

    def __init__(self, place):
        self.began = []
        super().__init__(place)

    @contextmanager
    def transaction(self, *, synced=False):
        self.began.append([synced, "undone"])
        mine = self.began[-1]
        with super().transaction(synced=synced):
            yield
        mine[1] = "committed"


@pytest.fixture
def store(place):
    with Counted(place) as opened:
        yield opened


def writes(store, name, error=None, *, before=False):
    """Return work that writes a row and returns its name; or fails, after it has written or `before`."""

    def call():
        if before and error:
            raise error
        store.database.execute(WRITE, (name, 1))
        if error:
            raise error
        return name

    return call


def stored(store):
    """Return the rows in the order in which they were written."""
    return [row["name"] for row in store.database.rows("SELECT name FROM policies ORDER BY name")]


def together(store, *calls, synced=(), meanwhile=lambda: None):
    """Let threads bring calls, in this order, while another transaction is under way; return what they get.

    `meanwhile` is called when all wait.
    """
    begun, free = threading.Event(), threading.Event()

    def first():
        begun.set()
        assert free.wait(LONG_S)

    def outcome(number, call):
        try:
            return store.together(call, synced=number in synced)
        except Exception as error:  # noqa: BLE001  # the test looks at every error
            return str(error)

    with ThreadPoolExecutor(len(calls) + 1) as pool:
        leader = pool.submit(store.together, first)
        assert begun.wait(LONG_S)
        store.began.clear()
        waiting = []
        for number, call in enumerate(calls):
            waiting.append(pool.submit(outcome, number, call))
            until = time.monotonic() + LONG_S
            while len(store._commits._waiting) < len(waiting):
                assert time.monotonic() < until
        meanwhile()
        free.set()
        leader.result()
        return [each.result() for each in waiting]


def test_work_that_waits_is_done_in_one_transaction_in_the_order_in_which_it_came(store):
    seen = []

    def notes(name):
        def call():
            seen.append(name)
            return writes(store, name)()

        return call

    names = [f"p{number:02}" for number in range(20)]
    assert together(store, *map(notes, names)) == names
    assert seen == stored(store) == names
    assert store.began == [[False, "committed"]]


def test_a_thread_that_comes_alone_has_a_transaction_of_its_own(store):
    assert [store.together(writes(store, name)) for name in "abc"] == ["a", "b", "c"]
    assert store.began == [[False, "committed"]] * 3


def test_no_transaction_does_more_than_so_much_work(store, monkeypatch):
    monkeypatch.setattr(group_commit, "MOST", 3)
    names = [f"p{number}" for number in range(7)]
    assert together(store, *(writes(store, name) for name in names)) == names
    assert stored(store) == names
    assert len(store.began) == 3


def test_a_transaction_is_synced_if_one_of_those_that_wait_wants_it(store):
    names = ["a", "b", "c"]
    assert together(store, *(writes(store, name) for name in names), synced={1}) == names
    assert store.began == [[True, "committed"]]


def test_work_that_wants_to_be_synced_does_not_join_a_transaction_that_is_not(store, monkeypatch):
    """It came after the transaction was begun."""
    begin, came = Store.transaction, []

    @contextmanager
    def with_a_guest(self, *, synced=False):
        with begin(self, synced=synced):
            if not came:
                came.append(pool.submit(store.together, writes(store, "b"), synced=True))
                until = time.monotonic() + LONG_S
                while len(store._commits._waiting) < 2:
                    assert time.monotonic() < until
            yield

    with ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(Store, "transaction", with_a_guest)
        assert store.together(writes(store, "a")) == "a"
        assert came[0].result() == "b"
    assert [synced for synced, _ in store.began] == [False, True]


@pytest.mark.parametrize("error", [StoreError("the disk is full"), UsageError("unknown"), ValueError("what?")])
@pytest.mark.parametrize("at", [0, 2, 4])
def test_work_that_fails_after_it_has_written_spoils_no_other(store, error, at):
    names = ["a", "b", "c", "d", "e"]
    calls = [writes(store, name, error if number == at else None) for number, name in enumerate(names)]
    expected = [str(error) if number == at else name for number, name in enumerate(names)]
    assert together(store, *calls) == expected
    assert stored(store) == [name for number, name in enumerate(names) if number != at]


def test_an_error_of_the_database_spoils_no_other(store):
    """Also if the database tells of it after others have worked."""

    def twice():
        store.database.execute(WRITE, ("b", 1))
        store.database.execute(WRITE, ("b", 1))

    a, b, c = together(store, writes(store, "a"), twice, writes(store, "c"))
    assert (a, c) == ("a", "c")
    assert str(store.path) in b
    assert stored(store) == ["a", "c"]


def test_work_that_fails_before_it_writes_undoes_nothing(store):
    unknown = writes(store, "b", UsageError("unknown"), before=True)
    assert together(store, writes(store, "a"), unknown, writes(store, "c")) == ["a", "unknown", "c"]
    assert stored(store) == ["a", "c"]
    assert store.began == [[False, "committed"]]


@pytest.mark.parametrize("fails", ["begin", "commit"])
def test_if_the_transaction_fails_all_its_work_does_and_nothing_is_stored(store, monkeypatch, fails):
    begin = Store.transaction

    @contextmanager
    def failing(self, *, synced=False):
        with begin(self, synced=synced):
            if fails == "begin":
                raise StoreError("away")
            yield
            raise StoreError("away")

    calls = [writes(store, name) for name in "abc"]
    found = together(store, *calls, meanwhile=lambda: monkeypatch.setattr(Store, "transaction", failing))
    assert found == ["away"] * 3
    monkeypatch.undo()
    assert stored(store) == []
    assert store.together(writes(store, "d")) == "d"
    assert stored(store) == ["d"]


def test_what_is_to_be_done_later_is_done_once_before_the_commit_and_not_if_it_is_undone(store):
    done = []

    def due():
        done.append(store.database.inside)

    with store.transaction():
        for _ in range(3):
            store.database.later(due)
        assert done == []
    assert done == [True]
    with pytest.raises(ValueError, match="no"), store.transaction():
        store.database.later(due)
        raise ValueError("no")
    with store.transaction():
        pass
    assert done == [True]
    store.database.later(due)
    assert done == [True, False]  # at once, since nothing was begun


def test_what_is_saved_later_is_saved_before_it_is_read(store):
    with store.transaction():
        store.policy.later(lambda: store.policy.save(Snapshot(decided=7, queue=1.5)))
        assert store.policy.queue() == 1.5
        assert store.policy.snapshot().decided == 7


def test_what_work_returns_is_known_to_its_thread_only_after_the_commit(store, place):
    with Store(place, looking=True) as other, ThreadPoolExecutor(16) as pool:

        def known(number):
            name = store.together(writes(store, f"p{number:03}"))
            with other.unchanging():
                return other.database.row("SELECT 1 FROM policies WHERE name = ?", (name,)) is not None

        assert all(pool.map(known, range(200)))


@pytest.mark.parametrize("leads", [True, False])
def test_a_thread_that_is_interrupted_keeps_no_other_waiting(store, leads):
    """As by Ctrl-C, which comes to the main thread alone."""
    begun, free = threading.Event(), threading.Event()

    def interrupted():
        raise KeyboardInterrupt

    def first():
        begun.set()
        assert free.wait(LONG_S)

    with ThreadPoolExecutor(4) as pool:
        if leads:
            with pytest.raises(KeyboardInterrupt):
                store.together(interrupted)
        else:
            leader = pool.submit(store.together, first)
            assert begun.wait(LONG_S)
            work = group_commit._Work(lambda: None, synced=False)

            class Interrupted:
                def acquire(self):
                    raise KeyboardInterrupt

            with pytest.MonkeyPatch.context() as patch:
                work.turn = Interrupted()
                patch.setattr(group_commit, "_Work", lambda call, about, synced: work)
                with pytest.raises(KeyboardInterrupt):
                    store.together(writes(store, "never"))
            after = pool.submit(store.together, writes(store, "a"))
            free.set()
            leader.result(LONG_S)
            assert after.result(LONG_S) == "a"
        assert pool.submit(store.together, writes(store, "b")).result(LONG_S) == "b"
    assert "never" not in stored(store)
    assert not store._commits._leading


def test_the_main_thread_does_its_own_work_alone(store):
    """Ctrl-C may interrupt it anywhere, and would take the work of others with it."""
    begun, free = threading.Event(), threading.Event()

    def first():
        begun.set()
        assert free.wait(LONG_S)

    def wait_for(count):
        until = time.monotonic() + LONG_S
        while len(store._commits._waiting) < count:
            assert time.monotonic() < until

    def others():
        wait_for(1)
        later = [pool.submit(store.together, writes(store, name)) for name in "bc"]
        wait_for(3)
        free.set()
        return [each.result() for each in later]

    with ThreadPoolExecutor(4) as pool:
        pool.submit(store.together, first)
        assert begun.wait(LONG_S)
        store.began.clear()
        rest = pool.submit(others)
        assert store.together(writes(store, "a")) == "a"
        assert rest.result() == ["b", "c"]
    assert store.began == [[False, "committed"]] * 2


def test_a_transaction_within_another_is_refused(store):
    """It would wait for itself."""

    def within():
        store.database.execute(WRITE, ("a", 1))
        return store.together(writes(store, "b"))

    with pytest.raises(StoreError, match="within another"):
        store.together(within)
    with pytest.raises(StoreError, match="within another"), store.transaction():
        store.together(writes(store, "c"))
    with pytest.raises(StoreError, match="within another"), store.transaction(), store.transaction():
        pass
    assert store.together(writes(store, "d")) == "d"
    assert stored(store) == ["d"]
