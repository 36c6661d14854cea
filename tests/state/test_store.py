import contextlib
import dataclasses
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live_making import LONGEST_WAIT_S
from long_states import judged

from messctl.backends import Scripted
from messctl.costs.meter_choice import meter_for
from messctl.errors import StoreError, UsageError
from messctl.learning.snapshot import ModelSnapshot, Snapshot
from messctl.live.router import Router
from messctl.policies.messplus import MessPlus
from messctl.records import Decision, Question, Request
from messctl.state import sqlite_file
from messctl.state.databases import open_database
from messctl.state.ledger import Ledger, Standing, wilson
from messctl.state.lengths import RECENT, TOKENS_PER_CHARACTER
from messctl.state.migrations import MIGRATIONS
from messctl.state.request_log import Circumstances, FeedbackSums
from messctl.state.sqlite_file import STEP_S
from messctl.state.store import Store, check, default_path
from messctl.trace import Outcome
from messctl.zoo import PACKAGED_FILE, Settings, Zoo, load_zoo

PROMISE = Circumstances("messplus", 0.8, "J", "a test")


def add(store, request_id, served="a", satisfied=None, cost=1.0, alpha=0.8, answered=True):
    decision = Decision(Request(request_id, f"prompt of {request_id}"), 1, served, (served,), propensity=0.5)
    with store.transaction():
        store.requests.add(decision, Circumstances("messplus", alpha, "J", "a test"))
        if answered:
            store.requests.add_answers(
                request_id, {served: Outcome(cost=cost, answer="yes", tokens_in=3, tokens_out=1)}
            )
        if satisfied is not None:
            store.requests.set_feedback(request_id, {served: satisfied}, served)


@pytest.fixture
def store(place):
    with Store(place) as opened:
        yield opened


@pytest.fixture
def file(tmp_path):
    """A store that is a file, for what is true of files alone."""
    with Store(tmp_path / "folder" / "state.sqlite") as opened:
        yield opened


def test_a_snapshot_comes_back_to_the_last_bit(store):
    weight = np.random.default_rng(0).normal(size=(3, 4))
    counts = np.array([3, -1, 2**62])
    snapshot = Snapshot(
        decided=7,
        queue=0.1 + 0.2,
        balance=-0.7,
        policy="p",
        version=3,
        encoder="words-1",
        cost_source="kJ",
        shared={"counts": counts},
        cost_shared={"odd": np.array([5e-324, -0.0, np.inf])},
        models={
            "a": ModelSnapshot(1 / 3, 5, "kJ", {"weight": weight, "bias": np.array(-0.7)}, {"k": weight[:, 1]}),
            "b": ModelSnapshot(cost_source="kJ"),
        },
    )
    assert store.policy.snapshot() == Snapshot()
    store.policy.save(snapshot)
    again = store.policy.snapshot("p")
    assert same(again, snapshot)
    assert again.shared["counts"].dtype == np.int64
    store.policy.save(replace(again, decided=8, models={"b": ModelSnapshot(2.0, 1, "kJ")}))
    assert same(
        store.policy.snapshot("p"),
        replace(snapshot, decided=8, models={**snapshot.models, "b": ModelSnapshot(2.0, 1, "kJ")}),
    )


def same(one, other):
    """Tell whether two snapshots are the same to the last bit."""
    return flat(one) == flat(other)


def flat(snapshot):
    def arrays(given):
        return {name: (array.shape, array.dtype.str, array.tobytes()) for name, array in given.items()}

    def fields(of):
        return {
            each.name: arrays(getattr(of, each.name))
            if "shared" in each.name or "arrays" in each.name
            else getattr(of, each.name)
            for each in dataclasses.fields(of)
            if each.name != "models"
        }

    return fields(snapshot), {name: fields(model) for name, model in snapshot.models.items()}


def test_each_policys_arrays_are_stored_separately(store):
    """By policy, until its version or encoder changes; costs are everybody's."""
    one = Snapshot(
        1, policy="p", version=1, models={"a": ModelSnapshot(2.0, 1, "kJ", {"w": np.ones(2)}, {"k": np.ones(3)})}
    )
    store.policy.save(one)
    store.policy.save(replace(one, policy="q", shared={"s": np.zeros(1)}, models={"a": ModelSnapshot(3.0, 2, "kJ")}))
    again = store.policy.snapshot("p").models["a"]
    assert (again.mean_cost, list(again.arrays), list(again.cost_arrays)) == (3.0, ["w"], ["k"])
    assert list(store.policy.snapshot("q").shared) == ["s"]
    assert store.policy.snapshot("r").models == {"a": ModelSnapshot(3.0, 2, "kJ")}
    # Costs from elsewhere, in another's turn.
    store.policy.save(replace(one, policy="q", models={"a": ModelSnapshot(9.0, 1, "USD")}))
    again = store.policy.snapshot("p").models["a"]
    assert (again.mean_cost, list(again.arrays), list(again.cost_arrays)) == (9.0, ["w"], [])
    # The arrays of an older version are deleted, also those of a model that the snapshot lacks.
    store.policy.save(replace(one, version=2, models={"b": ModelSnapshot(arrays={"w": np.ones(2)})}))
    assert not store.policy.snapshot("p").models["a"].arrays
    assert store.policy.snapshot("p").models["b"].arrays


def test_a_row_without_the_one_that_it_belongs_to_is_told_with_both_tables(file):
    judged(file, [(0.8, 1.0)] * 2)
    assert list(file.database.integrity()) == []
    file.database.execute("PRAGMA foreign_keys = OFF")
    file.database.execute("UPDATE feedback SET request = 77 WHERE id = 2")
    assert list(file.database.integrity()) == ["a row of 'feedback' belongs to a row of 'requests' that is not there"]


def test_only_changed_arrays_are_written(file):
    arrays = {f"w{index}": np.random.default_rng(index).normal(size=2000) for index in range(8)}
    snapshot = Snapshot(1, policy="p", models={"a": ModelSnapshot(arrays=arrays)})
    log = file.path.with_name(file.path.name + "-wal")

    def written(saved):
        file._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with file.transaction():
            file.policy.save(saved)
        return log.stat().st_size

    whole = written(snapshot)
    assert whole > 8 * 2000 * 8
    assert written(replace(snapshot, decided=2)) < whole / 8
    arrays["w3"] = arrays["w3"] + 1
    changed = written(replace(snapshot, decided=3, models={"a": ModelSnapshot(arrays=arrays)}))
    assert 2000 * 8 < changed < whole / 3
    assert same(file.policy.snapshot("p"), replace(snapshot, decided=3))


OLD = """
    INSERT INTO router VALUES (1, 7, 0.25, 'words-1');
    INSERT INTO models VALUES ('a', 0.5, 3, -0.75, 4, :weight, 'J: a test');
    INSERT INTO models VALUES ('b/é', 0.125, 1, 0.0, 0, :empty, '');
    INSERT INTO requests VALUES
        (3, 'r1', 1700000000.5, 'what?', 'messplus', 1, 'a', 1, 0, 1, 0.8, 0.5, 0.75, 0.0, 'J', 'a test'),
        (4, 'r2', 1700000001.5, 'why?', 'messplus', 2, 'a', 0, 1, 0, 0.6, 0.0, NULL, 0.8, 'J', 'a test');
    INSERT INTO answers VALUES (3, 'a', 'so', 0.5, 0.1, 2, 1, 0.0), (3, 'b/é', 'no', 0.125, 0.1, 2, 1, 1.0);
    INSERT INTO feedback VALUES (1, 3, 0.0, 1700000002.5, NULL), (2, 4, 1.0, 1700000003.5, 1700000004.5);
    """


@pytest.mark.parametrize("version", [1, 2])
def test_a_state_of_an_older_messctl_is_migrated_without_loss(tmp_path, version):
    """Made by the scripts of its time; nothing of it is lost."""
    weight = np.random.default_rng(1).normal(size=5000)
    old = sqlite3.connect(tmp_path / "s")
    for script in MIGRATIONS[:version]:
        old.executescript(script)
    statements = OLD if version == 2 else OLD.replace(", 'J: a test');", ");").replace(":empty, ''", ":empty")
    for statement in statements.split(";"):
        old.execute(statement, {"weight": weight.tobytes(), "empty": b""} if ":" in statement else {})
    old.execute(f"PRAGMA user_version = {version}")
    old.commit()
    old.close()
    for _ in range(2):  # it is brought up once, and then is as it is
        with Store(tmp_path / "s") as store:
            snapshot = store.policy.snapshot("messplus")
            logged = list(store.requests)
            assert store.requests.feedback_sums() == FeedbackSums(2, 1.0, pytest.approx(1.4))
    source = "J: a test" if version == 2 else ""
    arrays = {"weight": weight, "bias": np.array(-0.75), "steps": np.array(4)}
    assert same(
        snapshot,
        Snapshot(
            decided=7,
            queue=0.25,
            balance=1.0 - (0.8 + 0.6),
            policy="messplus",
            version=1,
            encoder="words-1",
            models={"a": ModelSnapshot(0.5, 3, source, arrays), "b/é": ModelSnapshot(0.125, 1)},
        ),
    )
    assert [(each.decision.request.prompt, each.satisfied, each.judged, each.propensity) for each in logged] == [
        ("what?", 0.0, 1, 0.75),
        ("why?", 1.0, 2, None),
    ]
    assert logged[0].answers["b/é"] == Outcome(1.0, 0.125, 0.1, 2, 1, "no")
    assert [each.circumstances.characters for each in logged] == [None, None]
    with Store(tmp_path / "s") as store:  # the length of those questions was not stored
        assert store.requests.lengths.tokens_per_character(["a"]) == {"a": TOKENS_PER_CHARACTER}
    policy = MessPlus(Zoo.of(["a", "b/é"], "a"), 5000, Settings(), snapshot)
    assert policy.weights.weight[0].tobytes() == weight.tobytes()
    assert (policy.weights.bias[0], policy.weights.steps[0], policy.queue) == (-0.75, 4, 0.25)


def test_a_migrated_outage_goes_on(tmp_path, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr("messctl.state.migrations.MIGRATIONS", MIGRATIONS[:7])
        Store(tmp_path / "s").close()
    old = sqlite3.connect(tmp_path / "s")
    rows = [("out", time.time() + 200), ("in", time.time() - 1)]
    old.executemany("INSERT INTO outages VALUES (?, 'here', 3, ?)", rows)
    old.commit()
    old.close()
    with Store(tmp_path / "s") as store:
        assert store.outages.down({"out": "here", "in": "here"}) == {"out"}


def test_migration_separates_refused_prompts_from_lost_attempts(tmp_path, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr("messctl.state.migrations.MIGRATIONS", MIGRATIONS[:6])
        Store(tmp_path / "s").close()
    old = sqlite3.connect(tmp_path / "s")
    old.execute(
        "INSERT INTO requests VALUES (1, 'r', 1.0, 'what?', 'bandit', 1, 'a', 0, 0, 0, 0.8, 0, 1, 0, 'J', 'a test', 5)"
    )
    reasons = {
        "long": "model 'long' (/x.gguf): the prompt has 18 tokens and the context holds 8: shorten it, or raise n_ctx",
        "server": "model 'server' (http://h/v1) refuses the request with 400 (too long): shorten it",
        "gone": "model 'gone' (http://h/v1) cannot be reached (refused): start the server",
    }
    old.executemany("INSERT INTO attempts VALUES (NULL, 1, ?, ?, 2.0)", reasons.items())
    old.commit()
    old.close()
    with Store(tmp_path / "s") as store:
        assert (set(store.outages.lost()), set(store.outages.refused())) == ({"gone"}, {"long", "server"})
        assert dict(store.requests.find("r").lost) == reasons


def test_tokens_per_character_come_from_a_models_latest_answers(store):
    """Those of each model; old answers fade. Questions whose length is not known, or was not counted, tell nothing."""
    tokens, characters = 0.0, 0.0
    for row in range(3 * RECENT):
        decision = Decision(Request(f"r{row}", "x"), row + 1, "a", ("a",))
        count, length = (100, 10) if row < RECENT else (3 + row % 2, 10 + row % 7)
        with store.transaction():
            store.requests.add(decision, replace(PROMISE, characters=length if row % 5 else None))
            outcome = Outcome(cost=1.0, tokens_in=count if row % 3 else None, tokens_out=1)
            store.requests.add_answers(f"r{row}", {"a": outcome})
        if row % 5 and row % 3:
            tokens, characters = tokens * (1 - 1 / RECENT) + count, characters * (1 - 1 / RECENT) + length
    found = store.requests.lengths.tokens_per_character(["a", "b"])
    assert found == {"a": pytest.approx(tokens / characters), "b": TOKENS_PER_CHARACTER}
    assert found["a"] < 2.0


def test_an_older_state_begins_with_the_latest_answers_of_each_model(place, monkeypatch):
    """Those whose length is known, also of requests that were pruned."""
    with monkeypatch.context() as patched, contextlib.closing(open_database(place)) as old:
        patched.setattr("messctl.state.migrations.MIGRATIONS", MIGRATIONS[:18])
        with old.migrating():
            old.migrate()
        for model, count in (("a", 60), ("b", 2)):
            for row in range(count):
                old.execute("INSERT INTO pruned_lengths VALUES (?, ?, ?, ?)", (model, row, 100 if row < 9 else 3, 10))
            old.execute("INSERT INTO pruned_lengths VALUES (?, 99, NULL, 10)", (model,))
    with Store(place) as store:
        assert store.requests.lengths.tokens_per_character("abc") == {"a": 0.3, "b": 10.0, "c": TOKENS_PER_CHARACTER}
        assert store.check() == []


def test_a_request_comes_back_as_it_was(store):
    add(store, "abc", served="m/x", satisfied=0.25)
    logged = store.requests.find("abc")
    assert logged.decision.request == Request("abc", "prompt of abc")
    assert (logged.decision.served, logged.propensity, logged.satisfied, logged.judged) == ("m/x", 0.5, 0.25, 1)
    assert logged.answers == {
        "m/x": Outcome(satisfied=0.25, cost=1.0, latency_s=None, tokens_in=3, tokens_out=1, answer="yes")
    }
    assert logged.circumstances == PROMISE


def test_a_request_is_found_by_the_start_of_its_id(store):
    for request_id in ("aa1", "aa2", "b1"):
        add(store, request_id)
    add(store, "c-unanswered", answered=False)
    assert store.requests.find("b").decision.request.request_id == "b1"
    assert store.requests.find("aa2").decision.request.request_id == "aa2"
    assert store.requests.find("last").decision.request.request_id == "b1"
    for wrong, message in [
        ("aa", "2 requests have an id that starts with 'aa'"),
        ("zz", "unknown request id 'zz'"),
        ("%", "unknown"),
    ]:
        with pytest.raises(UsageError, match=message):
            store.requests.find(wrong)
    assert [each.decision.request.request_id for each in store.requests.newest(2)] == ["b1", "c-unanswered"]


def test_last_is_an_error_without_an_answer(store):
    with pytest.raises(UsageError, match="no request has been answered yet"):
        store.requests.find("last")


def test_a_second_feedback_corrects_the_first_and_keeps_its_place(store):
    for request_id, satisfied in [("r1", 0.0), ("r2", 1.0), ("r3", 0.0)]:
        add(store, request_id, satisfied=satisfied)
    assert store.requests.queue() == pytest.approx(0.8 - 0.2 + 0.8)
    with store.transaction():
        assert store.requests.set_feedback("r1", {"a": 1.0}, "a") == 0.0
    assert store.requests.find("r1").judged == 1
    assert store.requests.queue() == pytest.approx(0.8)
    assert store.requests.feedback_sums() == FeedbackSums(3, 2.0, pytest.approx(2.4))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=20))
def test_the_queue_is_the_recursion_over_the_stored_order(place, feedback):
    queue = 0.0
    with Store(place) as store:
        store.reset()
        for index, (alpha, satisfied) in enumerate(feedback):
            add(store, f"r{index}", satisfied=satisfied, alpha=alpha)
            queue = max(0.0, queue + alpha - satisfied)
        assert store.requests.queue() == queue
        total = Standing.of(store)
        assert total.judged == len(feedback)
        if feedback:
            aims, got = (sum(column) for column in zip(*feedback, strict=True))
            assert got >= aims - queue - 1e-9


def test_a_transaction_is_all_or_nothing(store):
    with pytest.raises(KeyboardInterrupt), store.transaction():
        store.policy.save(Snapshot(5, 1.0))
        raise KeyboardInterrupt
    assert store.policy.snapshot() == Snapshot()
    with store.transaction(synced=True):
        store.policy.save(Snapshot(5, 1.0))
    assert store.policy.snapshot().decided == 5


def test_an_interrupt_just_after_a_transaction_has_begun_leaves_none_open(tmp_path, monkeypatch):
    with Store(tmp_path / "state") as store:
        patiently = sqlite_file.patiently

        def interrupted(connection, statement):
            patiently(connection, statement)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(sqlite_file, "patiently", interrupted)
            with pytest.raises(KeyboardInterrupt), store.transaction():
                pass
        with store.transaction():
            store.policy.save(Snapshot(queue=1.5))
        assert store.policy.queue() == 1.5


FULL, NORMAL = 2, 1
"""SQLite's numbers for how long a commit waits: until the disk has it, or not at all."""


def test_a_synced_transaction_waits_for_the_disk_and_another_does_not(file):
    def synchronous():
        return file._database.row("PRAGMA synchronous")[0]

    for synced in (True, False, True):
        with file.transaction(synced=synced):
            file.policy.save(Snapshot(5, 1.0))
            assert synchronous() == (FULL if synced else NORMAL)
    with file.transaction():
        assert synchronous() == NORMAL


def test_feedback_and_grades_wait_for_the_disk(file):
    """What SQLite itself says at each commit."""
    zoo = load_zoo(PACKAGED_FILE)
    models = {model.name: model for model in zoo.models}
    settings = replace(zoo.settings, policy="messplus")
    router = Router(models, settings, Scripted(dict.fromkeys(models, "42")), meter_for(zoo), file)
    at_commit, execute = [], file._database.execute

    def watched(statement, values=()):
        if statement == "COMMIT":
            at_commit.append(file._database.row("PRAGMA synchronous")[0])
        execute(statement, values)

    file._database.execute = watched
    for action, expected in (
        (lambda: router.ask(Question("What is 1 + 1?")), NORMAL),
        (lambda: router.feedback("last", 1.0), FULL),
        (lambda: router.feedback("last", 0.0), FULL),
        (lambda: router.ask(Question("What is 2 + 1?"), grader=lambda _: 1.0), FULL),
        (lambda: router.start_from(Snapshot(policy="messplus", version=1), overwrite=True), FULL),
    ):
        at_commit.clear()
        action()
        assert max(at_commit) == expected


def test_an_error_of_the_block_is_not_reported_as_one_of_the_state(store):
    """Only what SQLite says of the file is a StoreError."""
    for error in (FileNotFoundError, BrokenPipeError):
        with pytest.raises(error), store.transaction():
            store.policy.save(Snapshot(5, 1.0))
            raise error
    assert store.policy.snapshot() == Snapshot()


def test_the_ledger_counts_everything(store):
    add(store, "r1", served="big", satisfied=1.0, cost=10.0)
    add(store, "r2", served="small", satisfied=0.0, cost=1.0)
    add(store, "r3", served="small", cost=3.0)
    add(store, "r4", answered=False)
    store.policy.save(Snapshot(4, 0.6))
    ledger = Ledger.of(store)
    assert (ledger.answered, ledger.pending, ledger.unanswered) == (3, 1, 1)
    assert ledger.standing == Standing(2, 0.5, 0.6, pytest.approx(0.8 - 0.3))
    assert ledger.cost_total == 14.0
    assert ledger.cost_vs_costliest == pytest.approx(14 / 30)
    assert ledger.model_share == {"big": pytest.approx(1 / 3), "small": pytest.approx(2 / 3)}
    assert ledger.interval == pytest.approx(wilson(0.5, 2))


def test_costs_of_several_units_are_not_added_up(store):
    add(store, "r1", cost=1.0)
    for number, units in ((2, "J and USD"), (3, "EUR and J and USD")):
        unit = "USD" if number == 2 else "EUR"
        with store.transaction():
            decision = Decision(Request(f"r{number}", "x"), number, "b", ("b",))
            store.requests.add(decision, Circumstances("messplus", 0.8, unit, "t"))
            store.requests.add_answers(f"r{number}", {"b": Outcome(cost=5.0)})
        ledger = Ledger.of(store)
        assert (ledger.cost_total, ledger.cost_vs_costliest, ledger.cost_unit) == (None, None, units)


def test_the_default_path_is_a_file_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setattr("platformdirs.user_state_path", lambda *_, **__: tmp_path)
    assert default_path() == tmp_path / "state.sqlite"


def test_a_pipe_in_place_of_a_state_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "s")
    for looking in (True, False):
        with pytest.raises(StoreError, match="is not an ordinary file"):
            Store(tmp_path / "s", looking=looking)


@pytest.mark.parametrize(
    ("mean", "count", "low", "high"),
    # Newcombe 1998, table I, and the ends.
    [(81 / 263, 263, 0.2553, 0.3662), (15 / 148, 148, 0.0624, 0.1605), (0.0, 20, 0.0, 0.1611), (1.0, 29, 0.8830, 1.0)],
)
def test_wilsons_interval(mean, count, low, high):
    assert wilson(mean, count) == pytest.approx((low, high), abs=1e-4)


def test_no_interval_without_feedback():
    assert wilson(None, 0) is None


def test_a_copy_in_memory_leaves_the_file_alone(store):
    add(store, "r1", satisfied=1.0)
    copy = store.in_memory()
    add(copy, "r2", satisfied=0.0)
    assert copy.requests.feedback_sums().count == 2
    assert store.requests.feedback_sums().count == 1


def test_reset_deletes_everything(store):
    add(store, "r1", satisfied=1.0)
    store.policy.save(Snapshot(1, 0.2, models={"a": ModelSnapshot()}))
    store.reset()
    assert store.policy.snapshot() == Snapshot()
    assert list(store.requests) == []
    assert store.check() == []


@pytest.mark.parametrize("others", ["idle", "reading"])
def test_reset_leaves_no_text_in_the_files_while_others_have_them_open(others, tmp_path):
    """Also from pages freed earlier. If a process is reading meanwhile, it is gone once the last one closes it."""

    def left():
        return [path.name for path in tmp_path.iterdir() if b"the combination" in path.read_bytes()]

    with Store(tmp_path / "s") as other, Store(tmp_path / "s") as store:
        store._database.execute("PRAGMA secure_delete = OFF")
        for index in range(100):
            request_id = f"r{index}" + "the combination is 17-25-42" * 40
            add(store, request_id, satisfied=1.0)
            for answer in ("the combination " * 1000, "short"):
                store.requests.add_answers(request_id, {"a": Outcome(cost=1.0, answer=answer)})
        assert left()
        with other.unchanging() if others == "reading" else contextlib.nullcontext():
            assert other.requests.feedback_sums().count == 100
            store.reset()
            assert other.requests.feedback_sums().count == (100 if others == "reading" else 0)
            assert left() == (["s", "s-wal"] if others == "reading" else [])
        assert other.requests.feedback_sums().count == 0
    assert left() == []


def test_check_finds_a_wrong_queue_and_nothing_else(store):
    add(store, "r1", satisfied=0.0)
    assert "the queue is 0.0, but its recursion" in store.check()[0]
    store.policy.save(Snapshot(1, 0.8, -0.8))
    assert check(store.path) == []


def test_a_state_that_does_not_exist_is_sound(place):
    assert check(place) == []


def test_many_connections_open_a_new_file_at_once(tmp_path):
    for round_ in range(20):
        together = threading.Barrier(8)

        def opens(path=tmp_path / f"new{round_}", together=together):
            together.wait()
            Store(path).close()

        with ThreadPoolExecutor(8) as pool:
            for opened in [pool.submit(opens) for _ in range(8)]:
                opened.result()


def test_a_reader_sees_one_state_throughout(place):
    """While another connection writes, what is read belongs together."""
    with Store(place) as store, Store(place) as other:
        add(store, "r0", satisfied=0.0)
        store.policy.save(Snapshot(1, 0.8))
        with other.unchanging():
            assert other.requests.feedback_sums().count == 1
            add(store, "r1", satisfied=0.0)
            assert other.requests.feedback_sums().count == 1
        assert other.requests.feedback_sums().count == 2


@pytest.fixture
def _usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path):
    return path.stat().st_mode & 0o777


@pytest.mark.skipif(sys.platform == "win32", reason="there files have no such modes")
@pytest.mark.usefixtures("_usual_umask")
def test_only_the_owner_may_read_new_files(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "link").symlink_to("folder/linked")
    with Store(tmp_path / "folder" / "s") as store, Store(tmp_path / "link"):
        add(store, "r1")
        made = {path.name: mode(path) for path in (tmp_path / "folder").iterdir()}
    assert made == {f"{name}{end}": 0o600 for name in ("s", "linked") for end in ("", "-wal", "-shm")}
    assert mode(tmp_path / "folder") == 0o700
    assert mode(tmp_path) == 0o755


@pytest.mark.skipif(sys.platform == "win32", reason="there files have no such modes")
@pytest.mark.usefixtures("_usual_umask")
def test_a_state_keeps_its_file_mode(tmp_path):
    for file in ("empty", "state"):
        (tmp_path / file).touch() if file == "empty" else Store(tmp_path / file).close()
        (tmp_path / file).chmod(0o640)
        with Store(tmp_path / file):
            assert {mode(path) for path in tmp_path.glob(f"{file}*")} == {0o640}


INTERRUPTED = """
import functools, signal, sqlite3, sys
from messctl.state import sqlite_file
from messctl.__main__ import main
sqlite_file.WAIT_S = 10**6
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever was inherited
class Tracing(sqlite3.Connection):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.set_trace_callback(lambda statement: print(statement, file=sys.stderr, flush=True))
sqlite3.connect = functools.partial(sqlite3.connect, factory=Tracing)
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there no process can send another Ctrl-C alone")
def test_ctrl_c_ends_the_wait_for_another_process(tmp_path):
    with Store(tmp_path / "s") as store:
        add(store, "r1")
        with (
            store.transaction(),
            subprocess.Popen(
                [sys.executable, "-c", INTERRUPTED, "reset", "--yes", "--state", str(tmp_path / "s")],
                stderr=subprocess.PIPE,
                text=True,
            ) as process,
        ):
            assert process.stderr is not None
            assert "BEGIN IMMEDIATE\n" in iter(process.stderr.readline, "")
            time.sleep(0.2)  # now it waits within SQLite, most likely
            process.send_signal(signal.SIGINT)
            try:
                process.wait(LONGEST_WAIT_S)
            finally:
                process.kill()
            assert process.stderr.read().splitlines()[-1] == "messctl: interrupted; no half-written file is left"
        assert process.returncode == 130
        assert len(list(store.requests)) == 1


def test_a_lock_that_is_never_released_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("messctl.state.sqlite_file.WAIT_S", 0.0)
    with (
        Store(tmp_path / "s") as store,
        Store(tmp_path / "s") as other,
        store.transaction(),
        pytest.raises(StoreError, match="database is locked; another process holds it; try again"),
        other.transaction(),
    ):
        pass


def test_a_lock_is_waited_for(tmp_path):
    """For longer than SQLite itself waits at a time."""
    held, order = threading.Event(), []

    def holds():
        with Store(tmp_path / "s") as store, store.transaction():
            held.set()
            time.sleep(2 * STEP_S)
            order.append("held")

    holder = threading.Thread(target=holds)
    holder.start()
    held.wait()
    with Store(tmp_path / "s") as store, store.transaction():
        order.append("waited")
    holder.join()
    assert order == ["held", "waited"]


def test_files_that_are_no_state_are_refused(tmp_path):
    (tmp_path / "text").write_text("hello, this is no database at all" * 100)
    with pytest.raises(StoreError, match="not a database; it is no messctl state"):
        Store(tmp_path / "text")
    (tmp_path / "folder").mkdir()
    for looking in (True, False):
        with pytest.raises(StoreError, match="is a folder; choose another place with --state"):
            Store(tmp_path / "folder", looking=looking)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="choose another place with --state"):
        Store(tmp_path / "file" / "state")
    newer = sqlite3.connect(tmp_path / "newer")
    newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    newer.close()
    with pytest.raises(StoreError, match="upgrade messctl"):
        Store(tmp_path / "newer")


def test_check_finds_a_damaged_file(tmp_path):
    path = tmp_path / "s"
    with Store(path) as store:
        for index in range(200):
            add(store, f"r{index}" + "x" * 500)
    data = bytearray(path.read_bytes())
    data[8192:20000] = bytes(20000 - 8192)
    path.write_bytes(data)
    assert check(path) != []


UNPRIVILEGED = """
import contextlib, io, os, sys, tempfile
from messctl.state import sqlite_file
from messctl.cli import run
# Once as the present user, so that everything is imported: the libraries may be out of the other user's reach.
with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
    sqlite_file.connect(sqlite_file.Path(folder + "/s")).close()
    for command in ("log", "status"):
        run([command, "--json", "--state", folder + "/s"])
with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()):
    run(["log", "--state", "/dev/null/s"])
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
"""
STRAIGHT = UNPRIVILEGED + "sys.exit(run(sys.argv[1:]))"
DISTURBED = (
    UNPRIVILEGED
    + """
in_memory = sqlite_file.in_memory
def disturbed(whole):
    sqlite_file.in_memory = in_memory
    copy = in_memory(whole)
    print("copied", file=sys.stderr, flush=True)
    sys.stdin.readline()
    return copy
sqlite_file.in_memory = disturbed
sys.exit(run(sys.argv[1:]))
"""
)


SHARED = "its permissions let others read your prompts and the answers"


@pytest.fixture
def guarded(tmp_path):
    """A state of one request in a folder that others may read and not write, and the owner neither, unless root."""
    folder = tmp_path / "folder"
    folder.mkdir()
    with Store(folder / "s") as store:
        add(store, "r1", satisfied=1.0)
    (folder / "s").chmod(0o444)
    folder.chmod(0o555)
    for parent in tmp_path.parents:
        if parent.is_relative_to(tempfile.gettempdir()) and parent.owner() == Path.home().owner():
            parent.chmod(stat.S_IMODE(parent.stat().st_mode) | 0o055)  # whoever may write there still may
    tmp_path.chmod(0o755)
    yield folder / "s"
    folder.chmod(0o755)


def looked(*arguments, code=STRAIGHT):
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_a_read_only_state_can_be_read(guarded, tmp_path):
    before = guarded.read_bytes()
    done = looked("log", "--json", "--state", str(guarded))
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert SHARED in done.stderr
    assert [each["request_id"] for each in json.loads(done.stdout)] == ["r1"]
    done = looked("status", "--json", "--state", str(guarded))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["answered"] == 1
    done = looked("reset", "--yes", "--state", str(guarded))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert "choose another place with --state" in done.stderr
    done = looked("log", "--state", str(guarded.with_name("new")))
    assert (done.returncode, done.stdout.count("\n"), done.stderr.count("\n")) == (0, 1, 1), done.stderr
    assert "there is no state" in done.stderr
    assert (os.listdir(guarded.parent), guarded.read_bytes()) == (["s"], before)


@pytest.mark.parametrize("stays", [True, False])
def test_a_read_only_copy_sees_what_was_written_meanwhile(guarded, stays):
    """Who looks sees all of it, whether the writer is still there or was there while it was being read."""
    with subprocess.Popen(
        [sys.executable, "-c", DISTURBED, "log", "--json", "--state", str(guarded)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as looking:
        assert looking.stderr.readline() == "copied\n"
        guarded.parent.chmod(0o755)
        guarded.chmod(0o644)
        writer = Store(guarded)
        add(writer, "r2", satisfied=0.0)
        if not stays:
            writer.close()
        guarded.chmod(0o444)
        guarded.parent.chmod(0o555)
        out, err = looking.communicate("\n", LONGEST_WAIT_S)
    writer.close()
    assert (looking.returncode, err.count("\n")) == (0, 1)
    assert SHARED in err
    assert [each["request_id"] for each in json.loads(out)] == ["r1", "r2"]


def test_a_reader_sees_only_committed_changes(place):
    """What is committed is seen, and nothing else; nothing can be written."""
    with Store(place) as store:
        add(store, "r1")
        with Store(place, looking=True) as looking:
            with store.transaction():
                store.requests.set_feedback("r1", {"a": 1.0}, "a")
                assert looking.requests.feedback_sums().count == 0
            assert looking.requests.feedback_sums().count == 1
            with pytest.raises(StoreError, match="read ?only"):
                looking.policy.save(Snapshot(3))


def test_looking_at_an_absent_state_makes_no_file(tmp_path):
    with Store(tmp_path / "folder" / "s", looking=True) as store:
        assert (store.policy.snapshot(), list(store.requests), store.path) == (
            Snapshot(),
            [],
            tmp_path / "folder" / "s",
        )
    assert os.listdir(tmp_path) == []


def test_looking_at_an_older_state_does_not_change_it(tmp_path, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr("messctl.state.migrations.MIGRATIONS", MIGRATIONS[:6])
        Store(tmp_path / "s").close()
    before = (tmp_path / "s").read_bytes()
    with Store(tmp_path / "s", looking=True) as store:
        assert store.outages.refused() == {}  # what version 7 brought
    assert (tmp_path / "s").read_bytes() == before


@pytest.mark.parametrize("change", ["deleted", "moved", "replaced"])
def test_nothing_is_taken_for_a_file_that_is_not_at_its_place_any_more(tmp_path, change):
    path = tmp_path / "state"
    with Store(path) as store, Store(path, looking=True) as looking:
        add(store, "first")
        away = path.rename(tmp_path / "away")
        if change == "deleted":
            away.unlink()
        elif change == "replaced":
            with Store(path):
                pass
        with pytest.raises(StoreError, match="deleted, moved or replaced while it was open; put it back, or start"):
            add(store, "second")
        with pytest.raises(StoreError, match="deleted, moved or replaced while it was open"), looking.unchanging():
            pass
        if change == "moved":
            away.rename(path)
            add(store, "third")
            with looking.unchanging():
                assert [each.decision.request.request_id for each in looking.requests] == ["first", "third"]


def test_a_file_stays_at_its_place_if_the_process_goes_to_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Store(Path("state")) as store:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir("elsewhere")
        add(store, "first")


def test_a_clock_before_1970_damages_no_state(place, monkeypatch):
    with Store(place) as store:
        add(store, "first")
    monkeypatch.setattr(time, "time", lambda: -1.0)
    with pytest.raises(StoreError, match="keeps no time before 1970; set the clock"):
        Store(place)
    with Store(place, looking=True) as looking:
        assert [each.decision.request.request_id for each in looking.requests] == ["first"]


@pytest.mark.parametrize("looking", [True, False])
@pytest.mark.parametrize("end", ["-wal", "-shm", "-journal"])
def test_a_folder_in_the_place_of_the_log_is_named(tmp_path, end, looking):
    with Store(tmp_path / "state") as store:
        add(store, "first")
    (tmp_path / f"state{end}").mkdir()
    with pytest.raises(StoreError, match=f"state{end}: is where SQLite keeps its log, and no ordinary file; move it"):
        Store(tmp_path / "state", looking=looking)
