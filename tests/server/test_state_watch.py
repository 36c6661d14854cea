"""The watch over the state: who asks gets what is known, and a state that is away is asked by one thread alone."""

import threading

import pytest

from messctl.errors import StoreError
from messctl.server import state_watch
from messctl.server.state_watch import SILENT, StateWatch

AWAY = StoreError("state: is away; see that it runs")


class Looked:
    """A state that was looked at some times, and that is away as long as it has an `error`."""

    def __init__(self, error=None):
        self.times = 0
        self.error = error

    def __call__(self):
        self.times += 1
        if self.error:
            raise self.error


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still, unless a test moves it."""
    now = [1000.0]
    monkeypatch.setattr(state_watch.time, "monotonic", lambda: now[0])
    return now


def test_a_state_is_looked_at_once_for_all_who_ask_until_that_is_too_long_ago(clock):
    looked = Looked(AWAY)
    watch = StateWatch(looked)
    assert [watch.problem() for _ in range(5)] == [str(AWAY)] * 5
    assert looked.times == 1
    looked.error = None
    assert watch.problem() == str(AWAY)
    clock[0] += state_watch.AGAIN_S
    assert [watch.problem() for _ in range(5)] == [None] * 5
    assert looked.times == 2


def test_a_request_that_was_stored_shows_that_the_state_works_without_a_look(clock):
    looked = Looked(AWAY)
    watch = StateWatch(looked)
    assert watch.problem() == str(AWAY)
    watch.worked()
    assert watch.problem() is None
    assert looked.times == 1


def test_a_request_that_could_not_be_stored_lets_the_state_be_looked_at_at_once(clock):
    looked = Looked()
    watch = StateWatch(looked)
    assert watch.problem() is None
    looked.error = AWAY
    assert watch.problem() is None
    watch.failed(AWAY)
    assert watch.problem() == str(AWAY)
    for _ in range(5):
        watch.failed(AWAY)  # requests that fail on let nobody look more often
        assert watch.problem() == str(AWAY)
    assert looked.times == 2


def test_a_state_that_does_not_answer_is_waited_for_by_one_thread_and_nobody_else(monkeypatch):
    monkeypatch.setattr(state_watch, "PATIENCE_S", 0.0)
    monkeypatch.setattr(state_watch, "AGAIN_S", 0.0)
    answers, times = threading.Event(), []

    def silent():
        times.append(1)
        assert answers.wait(60)

    watch = StateWatch(silent)
    assert [watch.problem() for _ in range(5)] == [SILENT] * 5
    looking = watch._looking
    answers.set()
    assert looking.result(60) is None
    assert len(times) == 1


def test_what_is_wrong_is_said_once_in_ten_minutes_by_each_server_for_itself(clock, capsys):
    for _ in range(2):
        watch = StateWatch(Looked())
        for _ in range(3):
            watch.failed(AWAY)
        assert capsys.readouterr().err == f"messctl: {AWAY}\n"
        clock[0] += state_watch.SAID_S
        watch.failed(AWAY)
        assert capsys.readouterr().err == f"messctl: {AWAY}\n"


def test_lines_without_end_that_are_all_different_are_forgotten(clock, capsys):
    watch = StateWatch(Looked())
    for number in range(1000):
        watch.failed(StoreError(f"line {number}"))
    assert len(watch._said) == state_watch.MOST_SAID
    assert len(capsys.readouterr().err.splitlines()) == 1000
