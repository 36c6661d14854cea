"""No command walks the log: what SQLite does for each is the same with ten times the requests. Counted, not timed."""

import random
import re
import sqlite3
from contextlib import suppress
from dataclasses import replace

import pytest
from long_states import counting, judged, new_store, older_state

from messctl.backends import Scripted
from messctl.costs.meter_choice import meter_for
from messctl.live.router import Router
from messctl.records import Outcome, Question
from messctl.state import checkpoints, judgements
from messctl.state.checkpoints import Checkpoints
from messctl.state.ledger import Ledger
from messctl.state.migrations import MIGRATIONS, SUMS
from messctl.state.request_log import FeedbackSums
from messctl.state.store import Store
from messctl.state.sums import ANSWERS, FEEDBACK, REQUESTS, SERVED
from messctl.zoo import PACKAGED_FILE, load_zoo

SHORT, LONG = 1_500, 15_000


def routed(size):
    """Return a state of that many requests, and a router over it."""
    rng, store, zoo = random.Random(1), new_store(), load_zoo(PACKAGED_FILE)
    judged(store, [(0.8, float(rng.random() < 0.9)) for _ in range(size)], policy="messplus")
    known = store.policy.snapshot()
    queue, balance = store.requests.queue(), store.requests.balance()
    store.policy.save(replace(known, decided=size, queue=queue, balance=balance))
    models = {model.name: model for model in zoo.models}
    backend = Scripted(dict.fromkeys(models, "42"))
    return store, Router(models, replace(zoo.settings, policy="messplus"), backend, meter_for(zoo), store)


def actions(store, router, size):
    """Return by name what is done, in this order."""
    return {
        "ask": lambda: router.ask(Question("What is 1 + 1?")),
        "feedback": lambda: router.feedback("last", 1.0),
        "graded ask": lambda: router.ask(Question("What is 2 + 1?"), grader=lambda _: 0.0),
        "correction of the newest": lambda: router.feedback("last", 0.5),
        "correction of the middle": lambda: router.feedback(f"r{size // 2}", 0.5),
        "correction of the oldest": lambda: router.feedback("r0", 0.5),
        "status": router.ledger,
        "standing": router.standing,
        "newest": lambda: store.requests.newest(5),
        "number of requests": store.requests.count,
    }


def test_no_command_walks_the_log():
    counted = {}
    for size in (SHORT, LONG):
        store, router = routed(size)
        for name, action in actions(store, router, size).items():
            steps = counting(store)
            action()
            counted.setdefault(name, []).append(steps())
        assert store.check() == []
        store.close()
    assert {name: long for name, (short, long) in counted.items() if long > 1.5 * short} == {}


def test_an_older_state_gets_its_sums_and_checkpoints(tmp_path, monkeypatch):
    """Computed once when it is opened; nothing else changes, and the figures are those of before."""
    monkeypatch.setattr(judgements, "BLOCK", 64)
    feedback = older_state(tmp_path / "s", 700)
    for _ in range(2):
        with Store(tmp_path / "s") as store:
            assert store.check() == []
            assert store.requests.count() == 700
            assert store.requests.feedback_sums() == FeedbackSums(700, sum(feedback.values()), 0.75 * 700)
            assert {each.decision.request.request_id: each.satisfied for each in store.requests} == feedback
            ledger = Ledger.of(store)
            assert (ledger.answered, ledger.pending, ledger.unanswered, ledger.cost_total) == (700, 0, 0, 700 * 1.5)
            assert ledger.served == {"dear": 700}
            parts = [part for part, _ in Checkpoints(store._database).after(0)]
            assert sum(len(part.places) for part in parts) == 10
    with Store(tmp_path / "s") as store:
        store.requests.set_feedback("old3", {"dear": 0.0}, "dear")
        assert store.requests.queue() != store.policy.snapshot().queue
        store.policy.save(
            replace(store.policy.snapshot(), queue=store.requests.queue(), balance=store.requests.balance())
        )
        assert store.check() == []


def test_checkpoints_in_rows_of_their_own_are_computed_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(judgements, "BLOCK", 8)
    monkeypatch.setattr(checkpoints, "FULL", 4)
    older_state(tmp_path / "s", 60)
    with sqlite3.connect(tmp_path / "s") as older:
        older.executescript(MIGRATIONS[SUMS - 1])
        older.execute("INSERT INTO checkpoints VALUES (8, 0.0, 0.0, 0.0)")
        older.execute(f"PRAGMA user_version = {SUMS}")
    older.close()
    with Store(tmp_path / "s") as store:
        assert store.check() == []
        assert [(len(part.places), part.rows) for part, _ in Checkpoints(store._database).after(0)] == [(7, (0, 4))]


def test_looking_at_an_older_state_computes_the_sums_in_memory(tmp_path):
    older_state(tmp_path / "s", 30)
    before = (tmp_path / "s").read_bytes()
    with Store(tmp_path / "s", looking=True) as store:
        assert Ledger.of(store).answered == 30
    assert (tmp_path / "s").read_bytes() == before


def test_sums_follow_whatever_changes(place):
    """Answers that come later or are replaced, several models, grades, corrections: always what the log gives."""
    rng = random.Random(3)
    with Store(place) as store:
        judged(store, [(0.5, rng.random()) for _ in range(20)])
        for _ in range(200):
            request_id = f"r{rng.randrange(20)}"
            if rng.random() < 0.5:
                outcome = Outcome(
                    cost=rng.choice([None, 0.0, rng.random()]),
                    tokens_in=rng.choice([None, 5]),
                    cost_quality=rng.choice([None, "measured", "shared", "stated"]),
                )
                store.requests.add_answers(request_id, {rng.choice("abc"): outcome})
            else:
                store.requests.set_feedback(request_id, {"a": rng.random()}, "a")
            assert store.requests.check() == []


def test_sums_of_a_transaction_that_is_undone_are_forgotten(place):
    def broken_off():
        yield 0.5, 1.0
        raise ZeroDivisionError

    with Store(place) as store:
        judged(store, [(0.5, 1.0)], policy="messplus")
        with suppress(ZeroDivisionError):
            judged(store, broken_off(), policy="bandit", first=1)
        assert store.requests.count() == 1
        store.requests.set_feedback("r0", {"a": 0.0}, "a")
        judged(store, [(0.5, 1.0)], policy="messplus", first=1)
        assert [row["policy"] for row in store.requests.sums.rows(REQUESTS)] == ["messplus"]
        assert store.requests.check() == []


def test_requests_that_share_a_transaction_write_each_sum_once(place, monkeypatch):
    written = []
    with Store(place) as store:
        execute = store.database.execute
        monkeypatch.setattr(
            store.database, "execute", lambda statement, *more: (written.append(statement), execute(statement, *more))
        )
        judged(store, [(0.5, 1.0), (0.5, 0.0), (0.75, 1.0)])
        sums = [re.search(r"INTO (\w+_sums)", statement) for statement in written]
        assert sorted(found[1] for found in sums if found) == sorted([ANSWERS, FEEDBACK, REQUESTS, SERVED])
        assert store.requests.balance() == 0.25
        assert store.requests.check() == []


@pytest.mark.parametrize("policy", ["messplus", "bandit"])
def test_requests_of_other_policies_are_counted_as_before(policy, place):
    """In place of counting the rows after a request."""
    rng = random.Random(2)
    with Store(place) as store:
        for number in range(60):
            judged(store, [(0.5, 1.0)], policy=rng.choice(["messplus", "bandit", "always:a"]), first=number)
        for number in range(60):
            rows = [each.circumstances.policy for each in store.requests]
            expected = sum(each != policy for each in rows[number + 1 :])
            if rows[number] == policy:
                assert store.requests.decided_by_others_since(f"r{number}", policy) == expected
        assert store.requests.check() == []
