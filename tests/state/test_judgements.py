"""The virtual queue over stored feedback: corrected anywhere, it is the plain recursion to the last bit."""

import math
import random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from long_states import counting, judged, new_store, work

from messctl.errors import StoreError
from messctl.learning.virtual_queue import advance
from messctl.state import checkpoints, judgements, migrations
from messctl.state.sqlite_file import MEMORY
from messctl.state.store import Store
from messctl.state.walks import shifted, walked

HALVES = st.builds(lambda odd, places: (2 * odd - 1) * 2.0**-places, st.integers(1, 2**30), st.integers(33, 50))
"""Shares with few binary places: many lie halfway between two large floats."""
SHARES = st.one_of(st.sampled_from([0.0, 0.1, 0.25, 0.8, 1.0]), st.floats(0, 1))


def plain(queue, steps):
    """Return the queue before each step and after the last."""
    path = [queue]
    for alpha, satisfied in steps:
        path.append(advance.plain(path[-1], alpha, satisfied))
    return path


def one_block(steps):
    """Return steps as one block."""
    return np.array([[alpha, -satisfied] for alpha, satisfied in steps]).reshape(1, -1)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(judgements, "BLOCK", 4)
    monkeypatch.setattr(checkpoints, "FULL", 3)


@given(st.floats(0, 1e6), st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=60))
def test_a_walk_over_packed_steps_is_the_plain_recursion(queue, steps):
    assert walked(queue, one_block(steps))[0, 0] == plain(queue, steps)[-1]


@given(st.floats(0, 1e6), st.lists(st.tuples(SHARES, SHARES), min_size=12, max_size=60), st.integers(1, 4))
def test_blocks_walked_together_are_those_walked_one_by_one(queue, steps, size):
    steps = steps[: len(steps) // size * size]
    blocks = one_block(steps).reshape(-1, 2 * size)
    for block, walk in zip(blocks, walked(queue, blocks), strict=True):
        assert walk.tolist() == walked(queue, block[None])[0].tolist()
        queue = walk[0]


@example(8192.000000000007, [(0.8, 0.8)], -4)
@given(
    st.floats(1, 1e6),
    st.lists(st.tuples(st.one_of(SHARES, HALVES), st.one_of(SHARES, HALVES)), min_size=1, max_size=40),
    st.one_of(st.integers(-2000, 2000), st.floats(-100, 100)),
)
def test_a_shifted_walk_is_the_plain_recursion(queue, steps, shift):
    """Also for steps halfway between two floats; shifts of a few spacings, and large ones."""
    block = one_block(steps)
    other = queue + (shift * math.ulp(queue) if isinstance(shift, int) else shift)
    for moved in shifted(walked(queue, block), other - queue):
        if other >= 0:
            assert moved[0] == plain(other, steps)[-1]
            assert moved.tolist() == walked(other, block)[0].tolist()


def test_most_blocks_of_a_growing_debt_are_shifted():
    """Blocks between two powers of two are; one that crosses a power of two is not, nor one with ties."""
    steps = one_block([(0.8, 1.0), (0.8, 0.0)] * 256)
    halfway = one_block([(0.5 + math.ulp(5000.0) / 2, 0.5)] * 512)
    walks = np.concatenate([walked(queue, steps) for queue in (5000.0, 6000.0, 4090.0, 5000.0)])
    assert len(shifted(walks, -1.0)) == 2
    assert len(shifted(walks[1:2], -1000.0)) == 1
    assert len(shifted(walks[:1], -1000.0)) == 0
    assert len(shifted(walked(0.0, steps), 1.0)) == 0
    assert len(shifted(walked(5000.0, halfway), math.ulp(5000.0))) == 0


FEEDBACK = st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=40)
CORRECTIONS = st.lists(st.tuples(st.integers(0, 10**6), SHARES), min_size=1, max_size=8)


@given(FEEDBACK, CORRECTIONS)
def test_a_queue_with_corrections_is_the_plain_recursion(feedback, corrections):
    assert_corrected(MEMORY, feedback, corrections)


@settings(max_examples=8)
@given(feedback=FEEDBACK, corrections=CORRECTIONS)
@pytest.mark.slow
def test_a_queue_with_corrections_is_the_plain_recursion_on_postgres_too(postgres, feedback, corrections):
    assert_corrected(postgres.fresh(), feedback, corrections)


def assert_corrected(place, feedback, corrections):
    """The debt is the recursion after every correction."""
    with pytest.MonkeyPatch.context() as patch, Store(place) as store:
        patch.setattr(judgements, "BLOCK", 4)
        patch.setattr(checkpoints, "FULL", 3)
        feedback = list(feedback)
        judged(store, feedback)
        assert store.requests.queue() == plain(0.0, feedback)[-1]
        for where, satisfied in corrections:
            place = where % len(feedback)
            alpha, before = feedback[place]
            assert store.requests.set_feedback(f"r{place}", {"a": satisfied}, "a") == before
            feedback[place] = (alpha, satisfied)
            assert store.requests.queue() == plain(0.0, feedback)[-1]
            assert store.requests.judgements.check(plain(0.0, feedback)[-1]) == []


@pytest.mark.parametrize("good", [0.95, 0.8, 0.3])
def test_a_long_queue_with_many_corrections_is_the_plain_recursion(good, places):
    """With blocks of the real size; a good log is often without debt, a bad one never."""
    rng = random.Random(5)
    feedback = [(0.8, float(rng.random() < good)) for _ in range(3000)]
    with Store(places()) as store:
        judged(store, feedback)
        for place in (0, 2999, 1, 511, 512, 1023, *(rng.randrange(3000) for _ in range(40))):
            feedback[place] = (0.8, rng.choice([0.0, 1.0, 0.5, rng.random()]))
            store.requests.set_feedback(f"r{place}", {"a": feedback[place][1]}, "a")
            assert store.requests.queue() == plain(0.0, feedback)[-1]
        assert store.requests.judgements.check(store.requests.queue()) == []
        assert store.requests.feedback_sums().satisfied == pytest.approx(sum(each[1] for each in feedback), abs=1e-9)


@pytest.mark.parametrize("good", [0.9, 0.3])
def test_a_correction_in_a_long_log_reads_few_rows(good, monkeypatch):
    """Counted, not timed: with ten times the log, a correction makes SQLite go at most half as many steps more."""
    steps = {}
    for size in (2000, 20_000):
        with new_store() as store:
            rng = random.Random(1)
            judged(store, [(0.8, float(rng.random() < good)) for _ in range(size)])
            steps[size] = []
            for place in (0, size // 2, size - 1):
                counted = counting(store)
                store.requests.set_feedback(f"r{place}", {"a": 0.25}, "a")
                store.requests.queue()
                store.requests.feedback_sums()
                steps[size].append(counted())
    assert max(steps[20_000]) <= 1.5 * max(steps[2000])


def steady(size, level, rng):
    """Return feedback whose debt stays near a level."""
    queue, feedback = 0.0, []
    for _ in range(size):
        feedback.append((0.8, float(rng.random() < (0.9 if queue > level else 0.7))))
        queue = advance.plain(queue, *feedback[-1])
    return feedback


@pytest.mark.parametrize("debt", ["grows", "stays near a power of two"])
def test_a_correction_of_the_oldest_takes_few_statements_in_a_long_log(debt, places, monkeypatch):
    """Counted, with 16 times the log. The rows are blocks that cannot be shifted: near a power of two they are many."""
    monkeypatch.setattr(judgements, "BLOCK", 8)
    taken = {}
    for size in (100, 1600):
        rng = random.Random(1)
        feedback = [(0.8, 0.0)] * size if debt == "grows" else steady(size, 16.0, rng)
        with Store(places()) as store:
            judged(store, feedback)
            with store.transaction():
                counted = work(store)
                feedback[0] = (0.8, 0.3)
                store.requests.set_feedback("r0", {"a": 0.3}, "a")
                assert store.requests.queue() == plain(0.0, feedback)[-1]
                taken[size] = counted()
            assert store.requests.judgements.check(store.requests.queue()) == []
    statements, rows = zip(*taken.values(), strict=True)
    assert statements[1] <= 2 * statements[0]
    assert rows[1] <= (2 * rows[0] if debt == "grows" else size // judgements.BLOCK)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, 1.5, -2.0])
def test_a_block_of_steps_that_holds_no_satisfaction_is_damage(wrong, small_blocks, place):
    """Whichever of the blocks on the way of a correction it is in; nothing is changed then."""
    with Store(place) as store:
        judged(store, [(0.8, 0.8)] * 20)
        queue = store.requests.queue()
        (last, block) = list(store.database.rows("SELECT last, packed FROM steps ORDER BY last"))[3]
        damaged = np.frombuffer(block, "<f8").copy()
        damaged[3] = wrong
        store.database.execute("UPDATE steps SET packed = ? WHERE last = ?", (damaged.tobytes(), last))
        with pytest.raises(StoreError, match=f"the packed steps up to feedback {last} hold what is no satisfaction"):
            store.requests.set_feedback("r0", {"a": 0.0}, "a")
        assert store.requests.queue() == queue


def test_feedback_after_a_reset_starts_a_new_queue(small_blocks, place):
    with Store(place) as store:
        judged(store, [(0.8, 0.0)] * 10)
        store.reset()
        assert (store.requests.queue(), store.requests.count(), store.requests.feedback_sums().count) == (0.0, 0, 0)
        judged(store, [(0.5, 0.0)] * 9)
        store.requests.set_feedback("r1", {"a": 1.0}, "a")
        assert store.requests.queue() == plain(0.0, [(0.5, 0.0), (0.5, 1.0), *[(0.5, 0.0)] * 7])[-1]


def test_feedback_reads_checkpoints_only_if_one_is_due(small_blocks, place, monkeypatch):
    with Store(place) as store:
        packed_after, pack = [], store.requests.judgements._pack

        def noted():
            packed_after.append(store.requests.feedback_sums().count)
            return pack()

        monkeypatch.setattr(store.requests.judgements, "_pack", noted)
        for number in range(3 * judgements.BLOCK + 1):
            judged(store, [(0.8, 0.0)], first=number)
        assert sorted(set(packed_after)) == [judgements.BLOCK, 2 * judgements.BLOCK, 3 * judgements.BLOCK]
        assert store.requests.judgements.check(store.requests.queue()) == []


def test_steps_that_an_older_messctl_packed_are_packed_anew(small_blocks, place, monkeypatch):
    """Once, when the state is opened: the queue stays, and corrections lead where the plain recursion does."""
    rng = random.Random(5)
    given = [(0.8, rng.random()) for _ in range(30)]
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[: migrations.KEPT - 1])
        with Store(place) as store:
            judged(store, given)
            ends = [row["last"] for row in store.database.rows("SELECT last FROM steps ORDER BY last")]
            for end, first in zip(ends, range(0, 30, 4), strict=False):
                pairs = one_block(given[first : first + 4]).tobytes()
                store.database.execute("UPDATE steps SET packed = ? WHERE last = ?", (pairs, end))
            queue = store.requests.queue()
    with Store(place) as store:
        assert store.requests.queue() == queue
        store.requests.set_feedback("r1", {"a": 0.0}, "a")
        given[1] = (0.8, 0.0)
        assert store.requests.queue() == plain(0.0, given)[-1]
        assert store.requests.judgements.check(store.requests.queue()) == []
