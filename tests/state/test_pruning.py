"""Pruning: old requests go, and whatever speaks of the whole stays the same, to the last bit."""

import random
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from long_states import HOUR, judge, judged, logged, pruned, settle, the_whole

from messctl.backends import Scripted
from messctl.costs.meter_choice import meter_for
from messctl.errors import UsageError
from messctl.learning.virtual_queue import advance
from messctl.live.router import Router
from messctl.records import Decision, Outcome, Question, Request
from messctl.state import checkpoints, judgements, lengths
from messctl.state.copying import copy_tables
from messctl.state.request_log import Circumstances
from messctl.state.sqlite_file import MEMORY
from messctl.state.store import Store
from messctl.zoo import PACKAGED_FILE, load_zoo

SHARES = st.sampled_from([0.0, 0.1, 0.25, 0.8, 1.0])
REQUEST = st.fixed_dictionaries(
    {
        "policy": st.sampled_from(["bandit", "messplus"]),
        "forced": st.booleans(),
        "model": st.sampled_from(["a", "b"]),
        "fate": st.sampled_from(["answered", "answered", "answered", "empty", "failed", "nothing"]),
        "alpha": st.sampled_from([0.5, 0.8]),
        "cost": st.floats(0, 10),
        "hour": st.integers(-30, 30),
    }
)


HISTORY = {
    "requests": st.lists(REQUEST, min_size=1, max_size=40),
    "feedback": st.lists(st.tuples(st.integers(0, 39), SHARES), max_size=60),
    "cuts": st.lists(st.integers(0, 4000), min_size=1, max_size=3),
    "later": st.lists(st.tuples(st.integers(0, 39), SHARES), max_size=20),
}


@settings(deadline=None, max_examples=30)
@given(**HISTORY)
def test_a_pruned_state_says_and_learns_the_same_as_one_that_was_not(requests, feedback, cuts, later):
    assert_the_same(lambda: MEMORY, requests, feedback, cuts, later)


@pytest.mark.slow
@settings(deadline=None, max_examples=4)
@given(**HISTORY)
def test_a_pruned_state_on_postgres_says_and_learns_the_same(postgres, requests, feedback, cuts, later):
    assert_the_same(postgres.fresh, requests, feedback, cuts, later)


def assert_the_same(places, requests, feedback, cuts, later):
    """Status, debt, balance, sums and lengths; feedback on kept requests, first or correcting, has the same effect."""
    with pytest.MonkeyPatch.context() as patch, Store(places()) as whole, Store(places()) as cut:
        patch.setattr(judgements, "BLOCK", 4)
        patch.setattr(checkpoints, "FULL", 3)
        patch.setattr(lengths, "RECENT", 5)
        answered = [number for number, each in enumerate(requests) if each["fate"] == "answered"]
        for number, each in enumerate(requests):
            logged(whole, number, each)
        for number, satisfied in feedback:
            if number in answered:
                judge(whole, number, satisfied)
        with whole.transaction():
            settle(whole)
        copy_tables(whole.database, cut.database)
        assert cut.check() == []
        for hours in sorted(cuts):
            pruned(cut, 1e9 + HOUR * hours)
            assert cut.check() == []
            assert the_whole(cut) == the_whole(whole)
        for number, satisfied in later:
            if number not in answered:
                continue
            judge(whole, number, satisfied)
            if cut.requests.has(f"r{number}"):
                judge(cut, number, satisfied)
                assert cut.requests.queue() == whole.requests.queue()
                assert cut.check() == []
            else:
                with pytest.raises(UsageError, match=r"unknown request id 'r\d+'; requests from before .* were pruned"):
                    judge(cut, number, satisfied)
                copy_tables(whole.database, cut.database)
                pruned(cut, 1e9 + HOUR * max(cuts))
        assert the_whole(cut) == the_whole(whole)


def test_a_pruned_state_is_sound_on_either_database(place, monkeypatch):
    """What was asked, judged and lost is drawn; the sums, the debt and the lengths stay."""
    monkeypatch.setattr(judgements, "BLOCK", 8)
    rng = random.Random(2)
    with Store(place) as store:
        fates = ["answered", "answered", "empty", "failed", "nothing"]
        for number in range(60):
            drawn = {"policy": rng.choice(["bandit", "messplus"]), "forced": rng.random() < 0.1, "hour": 0}
            drawn |= {"model": rng.choice("ab"), "fate": rng.choice(fates), "alpha": 0.8, "cost": rng.random()}
            logged(store, number, drawn)
            if drawn["fate"] == "answered" and rng.random() < 0.8:
                judge(store, number, rng.random())
        with store.transaction():
            settle(store)
        before = the_whole(store)
        for hours in (1000, 1010, 4500):
            assert pruned(store, 1e9 + HOUR * hours) > 0
            store.pack()
            assert store.check() == []
            assert the_whole(store) == before


def test_only_what_is_older_goes_and_the_order_stays(place):
    with Store(place) as store:
        judged(store, [(0.8, 1.0)] * 30)
        store._database.execute("UPDATE requests SET asked_at = 1000.0 + id")
        assert store.pruning.count(1011.0) == 10
        assert pruned(store, 1011.0) == 10
        assert [each.decision.request.request_id for each in store.requests] == [f"r{n}" for n in range(10, 30)]
        assert [each.judged for each in store.requests] == list(range(11, 31))
        assert pruned(store, 1011.0) == 0
        judged(store, [(0.8, 1.0)], first=30)
        assert [each.judged for each in store.requests.newest(1)] == [31]


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ([10, 20, 30, 40], [30, 40]),
        ([10, 30, 20, 40], [30, 20, 40]),  # clocks apart: it goes as soon as those before it do
        ([10, 1e11, 20, 40], [40]),  # a date in the future is none: it is as old as its neighbours
        ([1e11, 10, 40], [40]),
        ([10, 20, 1e11], [1e11]),
        ([30, 40], [30, 40]),
        ([10, 20], []),
    ],
)
def test_clocks_that_are_apart_do_not_let_a_young_request_go(asked, left, place):
    with Store(place) as store:
        judged(store, [(0.8, 1.0)] * len(asked))
        for number, at in enumerate(asked):
            store._database.execute("UPDATE requests SET asked_at = ? WHERE request_id = ?", (at, f"r{number}"))
        pruned(store, 25.0)
        assert [each.asked_at.timestamp() for each in store.requests] == left


def test_many_dates_in_the_future_do_not_keep_old_requests_for_ever(place):
    with Store(place) as store:
        judged(store, [(0.8, 1.0)] * 30)
        store._database.execute("UPDATE requests SET asked_at = CASE WHEN id <= 20 THEN 1e11 ELSE id END")
        assert store.pruning.count(29.0) == 28
        gone = [store.prune(29.0, 5) for _ in range(7)]
        assert (sum(gone), max(gone)) == (28, 5)
        assert store.requests.count() - store.pruning.pruned().requests == 2


@pytest.mark.slow
def test_what_corrections_do_not_need_goes(place):
    """Of a long log stay the block with the first kept feedback, and those after it."""
    with Store(place) as store:
        rng = random.Random(1)
        judged(store, [(0.8, float(rng.random() < 0.8)) for _ in range(5000)])
        queue = store.requests.queue()
        store._database.execute("UPDATE requests SET asked_at = 1000.0 + id")
        while store.prune(1000.0 + 4000, 500):
            pass
        rows = {
            table: store._database.row(f"SELECT count(*) FROM {table}")[0]
            for table in ("requests", "answers", "feedback", "pruned_feedback", "steps")
        }
        kept = 5000 - 3999
        last_before = 3999 // 512 * 512
        assert rows == {
            "requests": kept,
            "answers": kept,
            "feedback": kept,
            "pruned_feedback": 3999 - last_before,
            "steps": 5000 // 512 - 3999 // 512,
        }
        assert store.requests.queue() == queue
        store.policy.save(replace(store.policy.snapshot(), queue=queue, balance=store.requests.balance(), decided=5000))
        assert store.check() == []


@pytest.mark.slow
def test_the_debt_goes_on_as_the_recursion_over_all_feedback(place):
    steps = [(0.8, float(number % 3 > 0)) for number in range(3000)]
    with Store(place) as store:
        queue = 0.0
        for number in range(0, 3000, 300):
            judged(store, steps[number : number + 300], first=number)
            store._database.execute("UPDATE requests SET asked_at = 1000.0 + id")
            pruned(store, 1000.0 + number + 150, 500)
            for alpha, satisfied in steps[number : number + 300]:
                queue = advance.plain(queue, alpha, satisfied)
            assert store.requests.queue() == queue


def test_no_pruned_prompt_or_answer_is_left_in_the_file(tmp_path):
    with Store(tmp_path / "state") as store:
        for number in range(120):
            prompt = f"SECRET-{number} " + "x" * (number * 100)
            decision = Decision(Request(f"r{number}", prompt), number + 1, "a", ("a",), 0.5)
            with store.transaction():
                store.requests.add(decision, Circumstances("messplus", 0.8, "J", "a test"))
                answer = Outcome(
                    cost=1.0, answer=f"ANSWER-{number} " + "y" * (number * 70), thinking=f"THOUGHT-{number} "
                )
                store.requests.add_answers(f"r{number}", {"a": answer})
                store.requests.set_feedback(f"r{number}", {"a": 1.0}, "a")
                store.requests.remark(f"r{number}", f"REMARK-{number} ", None)
        store._database.execute("UPDATE requests SET asked_at = 1000.0 + id")
        pruned(store, 1081.0, 50)
        store.pack()
    raw = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for number in range(120):
        for word in ("SECRET", "ANSWER", "THOUGHT", "REMARK"):
            assert (f"{word}-{number} ".encode() in raw) == (number >= 80), (word, number)


def test_a_prune_that_is_interrupted_leaves_a_sound_state(place):
    """Each transaction is whole: whatever was pruned before stays so, and the rest goes the next time."""
    with Store(place) as store:
        judged(store, [(0.8, float(number % 2)) for number in range(40)])
        store.policy.save(
            replace(store.policy.snapshot(), queue=store.requests.queue(), balance=store.requests.balance(), decided=40)
        )
        store._database.execute("UPDATE requests SET asked_at = 1000.0 + id")
        before = the_whole(store)
        execute, calls = store._database.execute, []

        def failing(statement, values=()):
            calls.append(statement)
            if statement.startswith("DELETE FROM requests") and len(calls) > 20:
                raise KeyboardInterrupt
            execute(statement, values)

        store._database.execute = failing
        with pytest.raises(KeyboardInterrupt):
            pruned(store, 1031.0, 10)
        store._database.execute = execute
        assert store.check() == []
        assert the_whole(store) == before
        left = 30 - 10 * (len([each for each in calls if each.startswith("DELETE FROM requests")]) - 1)
        assert pruned(store, 1031.0, 100) == left
        assert store.check() == []
        assert the_whole(store) == before


@pytest.mark.parametrize("policy", ["messplus", "bandit"])
@pytest.mark.slow
def test_a_router_decides_and_learns_the_same_after_a_prune(policy, places):
    """Two routers get the same questions and judgements; the state of one is pruned now and then."""
    zoo = load_zoo(PACKAGED_FILE)
    models = {model.name: model for model in zoo.models}
    rng = random.Random(4)
    with Store(places()) as whole, Store(places()) as cut:
        routers = [
            Router(models, replace(zoo.settings, policy=policy), Scripted(dict.fromkeys(models, "42")),
                   meter_for(zoo), store)
            for store in (whole, cut)
        ]  # fmt: skip
        asked = []
        for number in range(120):
            request_id = f"r{number}"
            said = [router.ask(Question(f"What is {number}?"), request_id=request_id) for router in routers]
            assert len({each.decision.served for each in said}) == 1
            asked.append(request_id)
            late = rng.choice(asked[-20:])
            if cut.requests.has(late):
                satisfied = float(rng.random() < 0.8)
                standings = {router.feedback(late, satisfied)[1] for router in routers}
                assert len(standings) == 1
                assert routers[0].standing() == routers[1].standing()
            if number % 30 == 29:
                pruned(cut, time.time() if number < 60 else time.time() - 0.05, 20)
                asked = [each for each in asked if cut.requests.has(each)]
                assert cut.check() == []
            if not asked:
                asked.append(request_id)
        assert replace(routers[1].ledger(), pruned=None) == routers[0].ledger()
