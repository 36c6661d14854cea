"""The sums over the log, and the lengths of questions: what is in memory is what is stored, and what the log gives."""

import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messctl.errors import BackendError, PromptError, StoreError
from messctl.records import Decision, Outcome, Request
from messctl.state import checkpoints, judgements, lengths
from messctl.state.request_log import Circumstances, RequestLog
from messctl.state.store import Store
from messctl.state.sums import DEFINED

MODELS = ("a", "b", "c")
LATER_S = 1000.0


class UndoneError(Exception):
    """Whoever writes changes their mind."""


def decision_of(request_id, served="a", *, explored=False):
    return Decision(Request(request_id, "?"), 1, served, (served,), explored=explored)


def circumstances_of(policy="p", unit="J", characters=8, *, forced=False):
    return Circumstances(policy, 0.75, unit, "a meter", forced, characters)


def outcome_of(tokens=2, cost=0.5, quality="measured"):
    return Outcome(cost=cost, tokens_in=tokens, tokens_out=1, answer="x", cost_quality=quality)


OUTCOMES = st.builds(
    outcome_of,
    st.sampled_from([None, 0, 1, 7]),
    st.sampled_from([None, 0.0, 0.1, 3.5]),
    st.sampled_from(["measured", "stated", None]),
)
CIRCUMSTANCES = st.builds(
    circumstances_of,
    st.sampled_from(["p", "q"]),
    st.sampled_from(["J", "USD"]),
    st.sampled_from([None, 0, 5, 80]),
    forced=st.booleans(),
)
CHANGES = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(MODELS), st.booleans(), CIRCUMSTANCES),
    st.tuples(st.just("answer"), st.dictionaries(st.sampled_from(MODELS), OUTCOMES)),
    st.tuples(st.just("revise"), st.sampled_from(MODELS), st.booleans()),
    st.tuples(st.just("judge"), st.sampled_from([0.0, 0.25, 0.7, 1.0])),
    st.tuples(st.just("fail"), st.sampled_from(MODELS), st.one_of(st.none(), OUTCOMES)),
    st.tuples(st.just("look")),
)
WRITING = st.tuples(
    st.just("write"),
    st.lists(st.tuples(st.booleans(), st.integers(0, 9), CHANGES), min_size=1, max_size=8),
    st.sampled_from(["committed", "committed", "undone"]),
)
STEPS = st.one_of(
    WRITING, WRITING, WRITING, st.tuples(st.just("prune"), st.integers(1, 4)), st.tuples(st.just("reset"))
)


def change(log, outages, ids, which, kind, *more):
    """Change something about the log; `ids` are those of the requests in it."""
    if kind == "add":
        served, explored, circumstances = more
        ids.append(f"r{time.monotonic_ns()}")
        log.add(decision_of(ids[-1], served, explored=explored), circumstances)
        return
    if kind == "look" or not ids:
        log.lengths.tokens_per_character(MODELS)
        log.count()
        return
    request_id = ids[which % len(ids)]
    if kind == "answer":
        log.add_answers(request_id, *more)
    elif kind == "revise":
        log.revise(decision_of(request_id, more[0], explored=more[1]))
    elif kind == "judge":
        log.set_feedback(request_id, {"a": more[0]}, "a")
    else:
        model, empty = more
        error = PromptError("too long") if empty is None else BackendError("empty")
        outages.fail(request_id, model, "here", error, outcome=empty)


def held(store):
    """Return what a store holds of the log: its sums, and the tokens per character."""
    with store.unchanging():
        sums = {
            table: sorted(tuple(row[name] for name in sums.names) for row in store.requests.sums.rows(table))
            for table, sums in DEFINED.items()
        }
        return sums, store.requests.lengths.tokens_per_character(MODELS)


def wrong(store):
    """Return what does not follow from the log."""
    with store.unchanging():
        requests = store.requests
        return requests.check() + store.outages.check() + requests.judgements.check(requests.queue())


@given(steps=st.lists(st.tuples(st.booleans(), STEPS), min_size=1, max_size=8))
@settings(max_examples=25)
def test_what_is_in_memory_follows_the_log_whoever_writes_it(places, steps):
    """Two processes write, each by two logs; some transactions are undone, and old requests are pruned."""
    place, ids = places(), []
    with pytest.MonkeyPatch.context() as patch, Store(place) as one, Store(place) as other:
        patch.setattr(lengths, "RECENT", 2)
        patch.setattr(judgements, "BLOCK", 2)
        patch.setattr(checkpoints, "FULL", 2)
        logs = {store: (store.requests, RequestLog(store.database)) for store in (one, other)}
        for by_other, (kind, *more) in steps:
            store = other if by_other else one
            if kind == "prune":
                gone = store.prune(time.time() + LATER_S, *more)
                del ids[:gone]
            elif kind == "reset":
                store.reset()
                ids.clear()
            else:
                changes, end = more
                known = list(ids)
                with suppress(UndoneError), store.transaction():
                    for second, which, what in changes:
                        change(logs[store][second], store.outages, known, which, *what)
                    if end == "undone":
                        raise UndoneError
                    ids = known
            with Store(place) as fresh:
                assert wrong(fresh) == []
                assert held(one) == held(other) == held(fresh)


def asked(store, request_id, *, undone=False):
    with suppress(UndoneError), store.transaction():
        store.requests.add(decision_of(request_id), circumstances_of())
        store.requests.add_answers(request_id, {"a": outcome_of()})
        if undone:
            raise UndoneError


def statements_of(store, monkeypatch, call):
    """Return the statements that write while something is called."""
    seen, execute = [], store.database.execute

    def watched(statement, values=()):
        seen.append(statement)
        execute(statement, values)

    with monkeypatch.context() as patched:
        patched.setattr(store.database, "execute", watched)
        call()
    return seen


def test_sums_of_a_transaction_that_was_undone_are_not_written_by_the_next_one(place, monkeypatch):
    with Store(place) as store:
        asked(store, "r1")
        asked(store, "r2", undone=True)

        def count_another():
            with store.transaction():
                store.requests.sums.decided("p", forced=False)

        written = statements_of(store, monkeypatch, count_another)
        assert [name for name in DEFINED if any(name in each for each in written)] == ["request_sums"]


def test_a_transaction_writes_each_table_of_sums_once(place, monkeypatch):
    with Store(place) as store:

        def ask_some():
            with store.transaction():
                for number in range(5):
                    store.requests.add(decision_of(f"r{number}"), circumstances_of())
                    store.requests.add_answers(f"r{number}", {"a": outcome_of()})
                    store.requests.set_feedback(f"r{number}", {"a": 1.0}, "a")
                    store.outages.fail(f"r{number}", "b", "here", BackendError("gone"))

        written = statements_of(store, monkeypatch, ask_some)
        counts = {table: sum(f"INSERT INTO {table} " in each for each in written) for table in DEFINED}
        assert counts == {"request_sums": 1, "feedback_sums": 1, "served_sums": 1, "answer_sums": 1, "empty_sums": 0}


def test_no_answers_at_all_are_not_a_served_request(place):
    with Store(place) as store:
        with store.transaction():
            store.requests.add(decision_of("r"), circumstances_of())
            assert store.requests.add_answers("r", {})
        assert wrong(store) == []


@pytest.mark.parametrize("value", ["good", 7.0, -1.0, b"\0"])
def test_feedback_that_is_damaged_cannot_be_corrected(tmp_path, value):
    with Store(tmp_path / "state") as store:
        asked(store, "r")
        with store.transaction():
            store.requests.set_feedback("r", {"a": 1.0}, "a")
            store.database.execute("UPDATE feedback SET satisfied = ?", (value,))
        with pytest.raises(StoreError, match=r"request 1 has 'satisfied' = "), store.transaction():
            store.requests.set_feedback("r", {"a": 0.0}, "a")
