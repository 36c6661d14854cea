"""What policies have learned: several processes read and write it, and each reads no more than what has changed."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messctl.learning.snapshot import ModelSnapshot, Snapshot
from messctl.state.policy_arrays import Reading
from messctl.state.store import Store


def snapshot_of(number, *, source="J: a meter", version=3, models=("a", "b")):
    """Return a state whose values all follow from a number."""
    made = {
        name: ModelSnapshot(
            number + at, number % 7, source, {"weight": np.arange(4.0) * number},
            {"costs": np.arange(3) * (number + at)},
        )
        for at, name in enumerate(models)
    }  # fmt: skip
    shared, costs = {"counts": np.array([number]), "fixed": np.ones((2, 3))}, {"scale": np.array(float(number))}
    return Snapshot(number, number / 2, number / 4, "p", version, "words", source, shared, costs, made)


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
    """Return the names of the arrays that a reading fetches."""
    database, names = store.database, []
    table = database.table

    def watched(name, *more):
        rows = table(name, *more)
        names.extend((row["model"], row["name"]) for row in rows if name == "arrays")
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
    changed = replace(saved.snapshot, decided=2, shared={**saved.snapshot.shared, "counts": np.array([2])})
    save(one, changed, saved)
    assert fetched(other, earlier, monkeypatch) == {("", "counts")}
    assert_read(other, earlier)


def test_who_saves_knows_what_a_reading_would_give(two):
    one, other = two
    save(one, snapshot_of(1))
    mine = read(one)
    save(one, snapshot_of(2), mine)
    mine = mine.then(snapshot_of(2))
    assert (mine.saves, known(mine.snapshot)) == (read(one).saves, known(read(one).snapshot))
    save(other, snapshot_of(3), read(other))
    assert_read(one, mine)


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
            kind = data.draw(st.sampled_from(["save", "save", "save", "forget", "reset", "part"]))
            earlier = readings[store] = assert_read(store, readings[store])
            if kind == "reset":
                store.reset()
            elif kind == "forget":
                forgotten(store)
            else:
                new = snapshot_of(number)
                if kind == "part" and earlier.snapshot.models:
                    new = replace(
                        earlier.snapshot, queue=number / 8, models={**earlier.snapshot.models, "b": new.models["b"]}
                    )
                save(store, new, earlier)
                if earlier.begun:
                    readings[store] = earlier.then(new)
        for store, earlier in readings.items():
            assert_read(store, earlier)
