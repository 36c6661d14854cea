"""What policies have learned: several processes read and write it, and each reads no more than what has changed."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messctl.errors import StoreError
from messctl.learning.snapshot import ModelSnapshot, Snapshot
from messctl.state import migrations
from messctl.state.databases import open_database
from messctl.state.policy_arrays import PIECE, Reading
from messctl.state.postgres_tables import FIRST
from messctl.state.store import Store


def changing(number):
    """Return an array of several pieces, of which one or two change with the number; or a small one."""
    made = np.ones((300 if number % 3 else 40, 8))
    made[number] = number
    return made


def snapshot_of(number, *, source="J: a meter", version=3, models=("a", "b")):
    """Return a state whose values all follow from a number."""
    made = {
        name: ModelSnapshot(
            number + at, number % 7, source, {"weight": changing(number)},
            {"costs": np.arange(3) * (number + at)},
        )
        for at, name in enumerate(models)
    }  # fmt: skip
    shared = {"counts": np.array([number]), "fixed": np.ones((2, 3)), "recent": changing(number)}
    costs = {"scale": np.array(float(number))}
    return Snapshot(number, number / 2, number / 4, "p", version, "words", source, shared, costs, made)


def lacking(snapshot, *names):
    """Return a snapshot without some arrays."""

    def others(arrays):
        return {name: array for name, array in arrays.items() if name not in names}

    models = {
        name: replace(each, arrays=others(each.arrays), cost_arrays=others(each.cost_arrays))
        for name, each in snapshot.models.items()
    }
    return replace(snapshot, shared=others(snapshot.shared), cost_shared=others(snapshot.cost_shared), models=models)


def known(snapshot):
    """Return a snapshot as values that can be compared."""

    def plain(arrays):
        return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}

    models = {
        name: (each.mean_cost, each.cost_count, each.cost_source, plain(each.arrays), plain(each.cost_arrays))
        for name, each in snapshot.models.items()
    }
    head = replace(snapshot, shared={}, cost_shared={}, models={})
    return head, plain(snapshot.shared), plain(snapshot.cost_shared), models


@pytest.fixture
def two(place):
    """The same state, as two processes have it open."""
    with Store(place) as one, Store(place) as other:
        yield one, other


def save(store, snapshot, reading=None):
    with store.transaction():
        store.policy.save(snapshot, None if reading is None else reading.snapshot)


def read(store, earlier=None):
    with store.unchanging():
        return store.policy.read("p", earlier)


def assert_read(store, earlier):
    """A reading that goes on from an earlier one gives what a reading of everything gives."""
    found = read(store, earlier)
    assert known(found.snapshot) == known(read(store).snapshot)
    return found


def fetched(store, earlier, monkeypatch):
    """Return the pieces of arrays that a reading fetches: model, name, number."""
    database, names = store.database, []
    table = database.table

    def watched(name, *more):
        rows = table(name, *more)
        names.extend((row["model"], row["name"], row["piece"]) for row in rows if name == "arrays")
        return rows

    with monkeypatch.context() as patched:
        patched.setattr(database, "table", watched)
        read(store, earlier)
    return set(names)


def test_only_what_others_have_saved_is_fetched(two, monkeypatch):
    one, other = two
    save(one, snapshot_of(1))
    earlier = read(other)
    assert fetched(other, earlier, monkeypatch) == set()
    saved = read(one)
    recent = saved.snapshot.shared["recent"].copy()
    recent[200, 3] = 7.0
    changed = {**saved.snapshot.shared, "counts": np.array([2]), "recent": recent}
    save(one, replace(saved.snapshot, decided=2, shared=changed), saved)
    assert fetched(other, earlier, monkeypatch) == {("", "counts", 0), ("", "recent", 200 * 8 * 8 // PIECE)}
    assert_read(other, earlier)


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM arrays WHERE name = 'recent' AND piece = 1",
        "DELETE FROM arrays WHERE name = 'recent' AND piece = 0",
        "UPDATE arrays SET piece = 7 WHERE name = 'recent' AND piece = 2",
        "UPDATE arrays SET piece = 1 WHERE name = 'fixed'",
        "UPDATE arrays SET shape = '40,8' WHERE name = 'recent' AND piece = 1",
        "UPDATE arrays SET shape = '40,8' WHERE name = 'recent'",
        "UPDATE arrays SET shape = '9999999999999,8' WHERE name = 'recent'",
        "UPDATE arrays SET type = '<i8' WHERE name = 'recent' AND piece = 2",
        "UPDATE arrays SET data = substr(data, 9) WHERE name = 'recent' AND piece = 0",
        "UPDATE arrays SET data = substr(data, 9) WHERE name = 'recent' AND piece = 2",
    ],
)
def test_pieces_that_do_not_make_an_array_are_told(place, damage):
    with Store(place) as store:
        save(store, snapshot_of(1))
        with store.transaction():
            store.database.execute(damage)
        (problem,) = list(store.policy.check())
        assert "that policy 'p' learned is damaged (" in problem
        with pytest.raises(StoreError, match="is damaged"):
            read(store)


PIECES = next(at for at, script in enumerate(migrations.MIGRATIONS) if "CREATE TABLE pieces" in script)
"""The last version of the tables in which an array was one row."""


def add_row(database, table, **values):
    """Add a row to a table of an older messctl; values that it has no columns for are left out."""
    row = {name: values[name] for name in database.form(table) if name in values}
    statement = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"
    database.execute(statement, list(row.values()))


@pytest.mark.parametrize("version", range(FIRST, PIECES + 1))
def test_the_arrays_of_an_older_messctl_are_split_without_loss(place, version, monkeypatch):
    """By whatever version the state was made, on either database."""
    arrays = {f"{length} numbers": np.arange(length) / 7 for length in (0, 1, 1023, 1024, 1025, 2048, 5000)}
    arrays |= {"one": np.array(0.5), "square": np.ones((72, 72)), "whole": np.arange(3000), "empty": np.ones((0, 8))}
    with monkeypatch.context() as patched, closing(open_database(place)) as old:
        patched.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:version])
        with old.migrating():
            old.migrate()
        add_row(old, "router", id=1, decided=0, queue=0.0, balance=0.0, saves=1)
        add_row(old, "models", name="a", mean_cost=1.0, cost_count=1, cost_source="J")
        add_row(old, "policies", name="p", version=3, encoder="words", begun="")
        for name, array in arrays.items():
            add_row(
                old, "arrays", policy="p", model="a", name=name, type=array.dtype.str,
                shape=",".join(map(str, array.shape)), data=array.tobytes(), saved=1,
            )  # fmt: skip
    with Store(place) as store:
        earlier = read(store)
        model = ModelSnapshot(1.0, 1, "J", arrays)
        assert known(earlier.snapshot) == known(Snapshot(0, 0.0, 0.0, "p", 3, "words", models={"a": model}))
        assert store.check() == []
        changed = replace(model, arrays=arrays | {"square": np.zeros((72, 72)), "whole": np.arange(9)})
        save(store, replace(earlier.snapshot, models={"a": changed}), earlier)
        assert known(read(store).snapshot) == known(replace(earlier.snapshot, models={"a": changed}))
        assert store.check() == []


def test_an_array_that_gets_smaller_leaves_nothing(place):
    with Store(place) as store:
        save(store, snapshot_of(1))
        save(store, snapshot_of(3), read(store))
        assert known(read(store).snapshot) == known(snapshot_of(3))
        save(store, snapshot_of(4), read(store))
        save(store, snapshot_of(6))  # without a word on what was saved before
        assert known(read(store).snapshot) == known(snapshot_of(6))


def test_who_saves_knows_what_a_reading_would_give(two):
    one, other = two
    save(one, snapshot_of(1))
    mine = read(one)
    save(one, snapshot_of(2), mine)
    mine = mine.then(snapshot_of(2))
    assert (mine.saves, known(mine.snapshot)) == (read(one).saves, known(read(one).snapshot))
    save(other, snapshot_of(3), read(other))
    assert_read(one, mine)


@pytest.mark.parametrize(
    "part",
    [snapshot_of(2, models=("a",)), lacking(snapshot_of(2), "weight"), lacking(snapshot_of(2), "recent")],
    ids=["a model", "arrays of the models", "an array that all models share"],
)
def test_who_does_not_know_all_that_is_stored_can_go_on_reading(two, part):
    one, other = two
    save(one, snapshot_of(1))
    mine = read(other)
    save(other, part, mine)
    mine = mine.then(part)
    assert known(mine.snapshot) == known(read(other).snapshot)
    save(one, snapshot_of(4), read(one))
    assert_read(other, mine)


def test_no_statement_has_more_values_than_a_database_takes(place, monkeypatch):
    models = tuple(f"model {number}" for number in range(2100))
    with Store(place) as store:
        execute = store.database.execute

        def limited(statement, values=()):
            assert len(values) <= 32_766, "SQLite takes no more, unless it was built to"
            execute(statement, values)

        monkeypatch.setattr(store.database, "execute", limited)
        save(store, snapshot_of(3, models=models))
        save(store, snapshot_of(6, models=models), read(store))
        assert known(read(store).snapshot) == known(snapshot_of(6, models=models))


def forgotten(store):
    with store.transaction():
        store.policy.forget("p")
        store.policy.save(replace(snapshot_of(5), shared={"counts": np.array([5])}))


DELETED = {
    "a reset": lambda store: store.reset(),
    "another version": lambda store: save(store, snapshot_of(4, version=9)),
    "a new beginning": forgotten,
    "costs of another source": lambda store: save(store, snapshot_of(4, source="USD: a price"), read(store)),
    "a new model": lambda store: save(store, snapshot_of(4, models=("a", "b", "c")), read(store)),
    "another policy": lambda store: save(store, replace(snapshot_of(4), policy="q"), read(store)),
}


@pytest.mark.parametrize("change", DELETED.values(), ids=DELETED)
@pytest.mark.parametrize("more", [0, 12])
def test_what_was_deleted_or_is_void_is_not_gone_on_from(two, change, more):
    one, other = two
    save(one, snapshot_of(1))
    earlier = read(other)
    change(one)
    for number in range(more):  # as many saves as before, and more
        save(one, replace(read(one).snapshot, decided=number), read(one))
    assert_read(other, earlier)


@given(data=st.data())
@settings(max_examples=60)
def test_processes_that_take_turns_in_any_order_know_the_same(places, data):
    path = places()
    with Store(path) as one, Store(path) as other:
        readings = {one: Reading(Snapshot()), other: Reading(Snapshot())}
        for number in range(1, data.draw(st.integers(2, 9))):
            store = data.draw(st.sampled_from([one, other]))
            kind = data.draw(
                st.sampled_from(["save", "save", "fewer models", "fewer arrays", "forget", "reset", "part"])
            )
            earlier = readings[store] = assert_read(store, readings[store])
            if kind == "reset":
                store.reset()
            elif kind == "forget":
                forgotten(store)
            else:
                new = snapshot_of(number, models=("a",) if kind == "fewer models" else ("a", "b"))
                if kind == "fewer arrays":
                    new = lacking(new, "recent", "weight", "costs")
                if kind == "part" and earlier.snapshot.models:
                    new = replace(
                        earlier.snapshot, queue=number / 8, models={**earlier.snapshot.models, "b": new.models["b"]}
                    )
                save(store, new, earlier)
                if earlier.begun:
                    readings[store] = earlier.then(new)
        for store, earlier in readings.items():
            assert_read(store, earlier)
