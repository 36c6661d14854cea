"""The curve of a promise: its points are the recursion's, also after corrections and resets, and few."""

import random
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from long_states import judged, new_store, pruned

from messctl.errors import StoreError
from messctl.learning.virtual_queue import advance
from messctl.server.history import History, Latency
from messctl.state import curve as curve_module
from messctl.state import judgements
from messctl.state.curve import SINCE, Curve


def stepped(feedback):
    """Return what was attained, certain and owed after each feedback."""
    found, queue, total, aims = [], 0.0, 0.0, 0.0
    for count, (alpha, satisfied) in enumerate(feedback, 1):
        queue, total, aims = advance.plain(queue, alpha, satisfied), total + satisfied, aims + alpha
        found.append((count, total / count, (aims - queue) / count, queue))
    return found


def shown(history):
    curve = history.curve()
    return list(zip(*(curve[name] for name in ("judged", "attained", "certificate", "queue")), strict=True))


def assert_shown(history, feedback):
    expected = {step[0]: step for step in stepped(feedback)}
    points = shown(history)
    for point in points:
        assert point == pytest.approx(expected[point[0]], abs=1e-6)
    assert (points[-1][0] if points else 0) == len(feedback)
    return points


@pytest.fixture
def feedback():
    rng = random.Random(7)
    return [(rng.choice([0.75, 0.8]), rng.choice([0.0, 0.5, 1.0, 1.0])) for _ in range(300)]


@pytest.fixture
def file(tmp_path):
    """A state in a file: SQLite takes any value in any column."""
    with new_store(tmp_path / "state") as store:
        yield store


@pytest.fixture
def store(place):
    with new_store(place) as store:
        yield store


@pytest.fixture
def history(store):
    history = History(store.path)
    yield history
    history.close()


def test_a_state_without_feedback_has_no_curve(history):
    assert shown(history) == []
    assert history.newest(5) == []
    assert history.latencies() == {}


def test_every_point_is_what_the_recursion_gives_and_new_feedback_prolongs_the_curve(store, history, feedback):
    for begin in range(0, 300, 60):
        judged(store, feedback[begin : begin + 60], first=begin)
        assert len(assert_shown(history, feedback[: begin + 60])) == begin + 60


def test_a_long_curve_keeps_few_points_and_the_latest(store, history, feedback):
    history._curve = Curve(most=40)
    judged(store, feedback)
    points = assert_shown(history, feedback)
    assert 20 <= len(points) <= 41
    assert len({later[0] - earlier[0] for earlier, later in pairwise(points[:-1])}) == 1


@pytest.mark.parametrize("most", [40, 400])
@pytest.mark.parametrize("corrected", [[0], [299], [150], [13, 200], [200, 13]])
def test_a_correction_changes_the_curve_from_there_on(store, history, feedback, most, corrected):
    history._curve = Curve(most)
    judged(store, feedback)
    assert_shown(history, feedback)
    for place in corrected:
        alpha, satisfied = feedback[place]
        feedback[place] = (alpha, 1.0 - satisfied if satisfied != 0.5 else 0.0)
        with store.transaction():
            store.requests.set_feedback(f"r{place}", {"a": feedback[place][1]}, "a")
    assert_shown(history, feedback)
    assert_shown(history, feedback)


def test_a_correction_changes_the_curve_even_if_the_clock_went_back(store, history, feedback, monkeypatch):
    judged(store, feedback)
    for place, clock in ((13, 2e9), (200, 1e9), (150, 1e9)):
        assert_shown(history, feedback)
        monkeypatch.setattr("time.time", lambda clock=clock: clock)
        feedback[place] = (feedback[place][0], 1.0 - feedback[place][1])
        with store.transaction():
            store.requests.set_feedback(f"r{place}", {"a": feedback[place][1]}, "a")
    assert_shown(history, feedback)


def test_a_reset_begins_a_new_curve(store, history, feedback):
    judged(store, feedback)
    assert_shown(history, feedback)
    store.reset()
    assert shown(history) == []
    judged(store, feedback[100:200])
    assert_shown(history, feedback[100:200])


@pytest.mark.parametrize("value", ["'bad'", "9e999", "x'00'"])
def test_a_damaged_feedback_is_an_error_that_ends_with_the_damage(file, feedback, value):
    history = History(file.path)
    judged(file, feedback)
    (kept,) = file._database.row("SELECT satisfied FROM feedback WHERE id = 200")
    file._database.execute(f"UPDATE feedback SET satisfied = {value} WHERE id = 200")
    for _ in range(2):
        with pytest.raises(StoreError, match="the state is damaged"):
            history.curve()
    file._database.execute("UPDATE feedback SET satisfied = ? WHERE id = 200", (kept,))
    assert_shown(history, feedback)
    history.close()


def test_the_stamp_changes_with_every_write_of_others_and_with_nothing_else(store, history, feedback):
    first = history.stamp()
    assert history.stamp() == first
    shown(history)
    assert history.stamp() == first
    judged(store, feedback[:1])
    assert history.stamp() != first


def test_the_newest_requests_come_first(store, history, feedback):
    judged(store, feedback[:5])
    newest = history.newest(3)
    assert [logged.decision.request.request_id for logged in newest] == ["r4", "r3", "r2"]
    assert all(logged.asked_at <= datetime.now(UTC) for logged in newest)


@pytest.mark.parametrize(
    ("seconds", "median", "p95"),
    [([2.0], 2.0, 2.0), ([3.0, 1.0, 2.0], 2.0, 3.0), ([float(each) for each in range(101)], 50.0, 95.0)],
)
def test_percentiles_are_of_the_latencies_in_order(seconds, median, p95):
    assert Latency.of(seconds) == Latency(len(seconds), median, p95)


@pytest.mark.parametrize("most", [8, 40])
def test_a_long_log_is_read_by_blocks_and_gives_the_same_points(store, history, feedback, monkeypatch, most):
    monkeypatch.setattr(judgements, "BLOCK", 8)
    monkeypatch.setattr(curve_module, "BLOCK", 8)
    judged(store, feedback)
    history._curve = Curve(most)
    read = []
    scan = history._database.scan
    monkeypatch.setattr(history._database, "scan", lambda *given: read.append(given) or scan(*given))
    points = assert_shown(history, feedback)
    assert 2 < len(points) <= most + 1
    assert read == [(SINCE, (296,))], "only what follows the last block is read one by one"
    for place in (7, 250, 299):
        feedback[place] = (feedback[place][0], 0.25)
        with store.transaction():
            store.requests.set_feedback(f"r{place}", {"a": 0.25}, "a")
        assert_shown(history, feedback)
    judged(store, feedback[:20], first=300)
    assert_shown(history, feedback + feedback[:20])


@pytest.mark.parametrize("watched", [False, True])
def test_the_curve_of_a_pruned_state_begins_later_with_the_same_points(store, history, feedback, monkeypatch, watched):
    monkeypatch.setattr(judgements, "BLOCK", 8)
    judged(store, feedback)
    store.database.execute("UPDATE requests SET asked_at = 1000.0 + id")
    if watched:
        assert_shown(history, feedback)
    pruned(store, 1151.0, 100)
    points = assert_shown(history, feedback)
    assert points[0][0] == 150 // 8 * 8 + 1
    judged(store, feedback[:20], first=300)
    assert_shown(history, feedback + feedback[:20])
    pruned(store, 3e9, 500)
    assert_shown(history, feedback + feedback[:20])
