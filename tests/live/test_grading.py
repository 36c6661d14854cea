"""Grading: an answer that was shown and paid for is stored before it is graded, whatever the grader does."""

import pytest
from live_making import STATED

from messctl.backends import Scripted
from messctl.costs.meter_choice import meter_for
from messctl.errors import GradeError
from messctl.graders import expect_regex
from messctl.live.conversation import Conversation
from messctl.live.router import Router
from messctl.records import Question
from messctl.state.ledger import Ledger
from messctl.state.store import Store
from messctl.zoo import load_zoo

LONG = "a" * 50 + "!"


@pytest.fixture
def world(tmp_path, place):
    """A router over two scripted models, and its store."""
    with Store(place) as store:
        yield over(store, tmp_path), store


@pytest.fixture
def file(tmp_path):
    """The same with a store that is a file."""
    with Store(tmp_path / "state") as store:
        yield over(store, tmp_path), store


def over(store, folder):
    (folder / "zoo.yaml").write_text(STATED)
    zoo = load_zoo(folder / "zoo.yaml")
    models = {model.name: model for model in zoo.models}
    return Router(models, zoo.settings, Scripted(lambda *_: LONG), meter_for(zoo), store)


def raising(error):
    def grade(_answer):
        raise error

    return grade


@pytest.mark.parametrize("error", [GradeError("no"), KeyboardInterrupt(), ValueError("a fault"), MemoryError()])
def test_an_answer_is_stored_and_paid_for_before_it_is_graded(error, world):
    router, store = world
    with pytest.raises(type(error)):
        router.ask(Question("one two"), grader=raising(error))
    [logged] = store.requests
    assert logged.answers[logged.decision.served].answer == LONG
    assert logged.satisfied is None
    ledger = Ledger.of(store, {})
    assert (ledger.answered, ledger.pending) == (1, 1)
    assert ledger.cost_total > 0
    assert store.check() == []
    router.feedback("last", 1.0)
    assert router.standing().attained == 1.0


def test_an_expression_without_end_leaves_the_answer_without_a_grade(world):
    router, store = world
    with pytest.raises(GradeError, match=r"takes longer than 1 s on this answer; .*; the answer is stored without"):
        router.ask(Question("one"), grader=expect_regex("(a+)+$"))
    assert [logged.satisfied for logged in store.requests] == [None]
    assert router.ask(Question("two"), grader=expect_regex("a+!$")).satisfied == 1.0


def test_a_turn_whose_grading_fails_stays_in_the_conversation(world):
    router, _ = world
    router._grader = raising(GradeError("no"))
    talk = Conversation(router, Question(""))
    shown = []
    with pytest.raises(GradeError):
        talk.ask("one", shown.append)
    assert talk.history == (("one", LONG),)
    assert talk.give_feedback(1.0).decision.request.prompt == "one"


def test_feedback_and_grades_are_synced_to_disk_and_answers_are_not(file, monkeypatch):
    router, store = file
    database, seen, level = store._database, [], []
    execute, begin = database.execute, database.execute_patiently

    def begun(statement):
        if statement == "BEGIN IMMEDIATE":  # who only reads syncs nothing
            level.append(database.row("PRAGMA synchronous")[0])
        begin(statement)

    def executed(statement, values=()):
        execute(statement, values)
        if statement == "COMMIT" and level:
            seen.append(level.pop())

    monkeypatch.setattr(database, "execute_patiently", begun)
    monkeypatch.setattr(database, "execute", executed)
    normal, full = 1, 2
    router.ask(Question("one"))
    assert set(seen) == {normal}
    seen.clear()
    router.ask(Question("two"), grader=lambda _: 1.0)
    assert seen == [normal, normal, full]  # the decision, the answer, its grade
    seen.clear()
    router.feedback("last", 0.0)
    assert seen == [full]
