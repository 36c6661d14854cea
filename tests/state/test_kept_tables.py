"""Small tables stay in memory between transactions, and are read again if anybody may have changed them."""

from contextlib import closing, suppress

import pytest

from messctl.state.databases import open_database
from messctl.state.store import Store

ADD = "INSERT INTO outages (model, place, failures, since, until) VALUES (?, 'here', 1, 0.0, 1.0)"


def count(database):
    """Return how many outages a transaction sees, from memory if it may."""
    with database.unchanging():
        return len(database.kept("outages"))


@pytest.fixture
def database(place):
    with Store(place) as store:
        yield store.database


def write(database, *models):
    with database.transaction():
        database.execute_many(ADD, [(model,) for model in models])


def test_what_this_process_writes_is_seen_within_the_transaction_and_after_it(database):
    with database.transaction():
        assert database.kept("outages") == []
        database.execute(ADD, ("a",))
        assert [row["model"] for row in database.kept("outages")] == ["a"]
        database.execute("UPDATE outages SET failures = 5 WHERE model = 'a'")
        assert [row["failures"] for row in database.kept("outages")] == [5]
        database.execute("DELETE FROM outages")
        assert database.kept("outages") == []
    write(database, "b", "c")
    assert count(database) == 2


def test_what_another_process_writes_is_seen(database, place):
    assert count(database) == 0
    with closing(open_database(place)) as other:
        write(other, "a")
        assert count(database) == 1
        write(other, "b")
    assert count(database) == 2


def test_what_was_undone_is_not_seen(database):
    assert count(database) == 0
    with suppress(ZeroDivisionError), database.transaction():
        database.execute(ADD, ("a",))
        assert len(database.kept("outages")) == 1
        raise ZeroDivisionError
    assert count(database) == 0


def test_a_reset_empties_what_is_kept(database):
    write(database, "a")
    assert count(database) == 1
    database.erase()
    assert count(database) == 0


def test_a_table_that_nobody_writes_is_read_once(database, monkeypatch):
    assert count(database) == 0
    monkeypatch.setattr(database, "table", None)
    assert count(database) == 0
    with database.transaction():
        database.execute("INSERT INTO request_sums VALUES ('p', 0, 1)")
        database.execute_many(ADD, [])
        assert database.kept("outages") == []


def test_outside_of_a_transaction_nothing_comes_from_memory(database, place):
    assert count(database) == 0
    with closing(open_database(place)) as other:
        write(other, "a")
    assert len(database.kept("outages")) == 1


def test_what_is_read_ahead_is_what_is_known_when_it_is_read(database, place):
    assert count(database) == 0
    with closing(open_database(place)) as other:
        write(other, "a")
    with database.transaction():
        database.ahead(["outages", "unknown"])
        database.execute(ADD, ("b",))
        assert [row["model"] for row in database.kept("outages")] == ["a", "b"]
    assert count(database) == 2


@pytest.mark.slow
def test_what_another_process_changed_comes_in_one_go(postgres, monkeypatch):
    place = postgres.fresh()
    with Store(place) as store, closing(open_database(place)) as other:
        database = store.database
        read = "SELECT place, model FROM outages WHERE model = ?"
        with database.transaction():
            database.kept("outages"), database.kept("router")
        write(other, "a")
        with database.transaction():
            database.ahead(["outages", "router"], read, ["a", "b"])
            monkeypatch.setattr(database, "_sent", None)  # nothing more is sent
            assert [len(database.kept(table)) for table in ("outages", "router")] == [1, 0]
            assert [row and tuple(row) for row in (database.row(read, ("b",)), database.row(read, ("a",)))] == [
                None,
                ("here", "a"),
            ]
