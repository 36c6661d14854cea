"""A failed model is left alone for a while, the request goes to the next best, and all counts stay right."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
from live_making import assert_one_line, assert_sound

from messctl.backends import Scripted
from messctl.backends.patience import patience_s
from messctl.cli import run
from messctl.costs.tokens import StatedMeter
from messctl.errors import BackendError, CrashedError, PromptError, RefusedError
from messctl.live.router import Router
from messctl.policies import live_names
from messctl.records import Completion, Question
from messctl.replay.loading import load
from messctl.replay.play import replay
from messctl.replay.result import Conditions
from messctl.state.export import export_log
from messctl.state.ledger import Ledger
from messctl.state.outages import LONGEST_PAUSE_S, pause_s
from messctl.state.store import Store
from messctl.zoo import CostPerToken, ModelSpec, Settings
from messctl.zoo.models import BOX

PRICES = {"cheap": 1.0, "dear": 10.0, "middle": 3.0}
MODELS = {
    name: ModelSpec(name, Path(f"{name}.gguf"), cost=CostPerToken("USD", price, price))
    for name, price in PRICES.items()
}


class Flaky:
    """Answers with the model's name, unless it is among those that fail, or fails in the middle of it."""

    def __init__(self):
        self.down, self.breaks, self.queried, self.error = set(), set(), [], BackendError
        self.meanwhile = None

    def complete(self, model, question, on_text=None, on_thinking=None):
        self.queried.append(model.name)
        if self.meanwhile:
            other, self.meanwhile = self.meanwhile, None
            other()
        if model.name in self.breaks and on_text:
            on_text("half")
        if model.name in self.down | self.breaks:
            raise self.error(f"model {model.name!r} is out of order")
        if on_text:
            on_text(model.name)
        return Completion(model.name, model.name, 1, 1, 0.1, 0.0, "stop")

    def close(self):
        pass


@pytest.fixture(params=live_names())
def world(request, place, clock):
    """A router of three models, a backend some of whose models fail, and the store."""
    backend, store = Flaky(), Store(place)

    def router(models=MODELS, **settings):
        promise = Settings(**{"policy": request.param, "alpha": 0.5, "v": 0.2, "c": 0.0, **settings})
        return Router(models, promise, backend, StatedMeter("USD"), store)

    yield router, backend, store
    store.close()


def snapshot_of(router, store):
    return store.policy.snapshot(router().settings.policy)


def test_if_a_model_fails_the_request_goes_to_the_next_best(world):
    router, backend, store = world
    backend.meanwhile = lambda: backend.down.add(backend.queried[0])
    shown, decided = [], []
    answered = router().ask(Question("hello"), on_text=shown.append, on_decision=decided.append)
    lost, served = backend.queried
    assert (answered.decision.served, answered.completion.answer, shown) == (served, served, [served])
    assert answered.failures == {lost: f"model {lost!r} is out of order"}
    assert answered.attempts == (lost, served)
    assert answered.cost == 2 * PRICES[served]
    logged = store.requests.find("last")
    assert (logged.decision.served, set(logged.answers), logged.propensity) == (
        served, {served}, answered.decision.propensity,
    )  # fmt: skip
    assert (logged.rerouted, dict(logged.lost)) == (True, answered.failures)
    assert logged.decision.request_number == 1
    assert [each.request_number for each in decided] == [1, 1]
    assert store.check() == []


def test_a_failed_decision_leaves_no_trace_in_the_policy(world, tmp_path):
    """State, coin, number and odds are the same as if the model was known to be out."""
    router, backend, store = world
    for row in range(30):
        router().ask(Question(f"prompt {row}"), grader=lambda answer: float(answer != "cheap"))
    with store.in_memory() as knowing, store.in_memory() as learning:
        chosen = router().ask(Question("next")).decision.served
        settings, models = router().settings, MODELS
        backend.down = {chosen}
        taken = []
        for copy, known in ((knowing, True), (learning, False)):
            if known:
                with copy.transaction():
                    request_id = copy.requests.newest(1)[0].decision.request.request_id
                    copy.outages.fail(request_id, chosen, models[chosen].place, BackendError("down"))
            backend.queried.clear()
            answered = Router(models, settings, backend, StatedMeter("USD"), copy).ask(Question("next"))
            assert (chosen in backend.queried) == (not known)
            taken.append((answered.decision, copy.policy.snapshot(settings.policy)))
        (one, before), (two, after) = taken
    for name in ("served", "queried", "request_number", "propensity", "explored", "p_explore", "queue", "mean_cost"):
        assert getattr(one, name) == getattr(two, name), name
    assert (before.decided, before.queue, before.balance) == (after.decided, after.queue, after.balance)
    assert before.decided == 31
    for name in ("counts", "lateness"):
        if name in before.shared:
            ours, theirs = np.array(before.shared[name]), np.array(after.shared[name])
            if name == "counts":
                ours[3] = theirs[3] = 0  # the prompts recalled, among which a lost one stands twice
            assert ours.tobytes() == theirs.tobytes()
    for model in before.models:
        served = [np.array(each.models[model].arrays.get("served_at", [])) for each in (before, after)]
        assert served[0].tobytes() == served[1].tobytes(), model


def test_a_concurrent_decision_keeps_its_number(world):
    router, backend, store = world
    backend.down = set(PRICES)
    numbers = []

    def other():
        backend.down = {backend.queried[0]}
        numbers.append(router().ask(Question("another")).decision.request_number)

    backend.meanwhile = other
    answered = router().ask(Question("one"))
    assert (answered.decision.request_number, numbers) == (1, [2])
    assert snapshot_of(router, store).decided == 2
    assert store.check() == []


def test_a_failed_model_is_left_alone_for_growing_pauses(world, clock):
    router, backend, store = world
    backend.down = {"cheap"}
    with pytest.raises(BackendError, match="out of order"):
        router().ask(Question("x"), model="cheap")
    for pause in (5, 10, 20, 40, 80, 160, 300, 300):
        backend.queried.clear()
        clock.now += pause - 0.01
        for _ in range(3):
            router().ask(Question("y"))
        assert "cheap" not in backend.queried
        assert store.outages.down({"cheap": "cheap.gguf"}) == {"cheap"}
        clock.now += 0.02
        assert store.outages.down({"cheap": "cheap.gguf"}) == frozenset()
        with pytest.raises(BackendError):
            router().ask(Question("x"), model="cheap")
        assert backend.queried.count("cheap") == 1
    lost = store.outages.lost()["cheap"]
    assert (lost.attempts, lost.again_at - lost.at, lost.reason) == (9, 300, "model 'cheap' is out of order")
    backend.down = set()
    router().ask(Question("x"), model="cheap")
    assert store.outages.lost()["cheap"].again_at is None
    assert Ledger.of(store).lost["cheap"].attempts == 9


def test_only_one_request_tries_a_model_again(world, clock):
    router, backend, store = world
    backend.down = {"cheap"}
    with pytest.raises(BackendError):
        router().ask(Question("x"), model="cheap")
    clock.now += 6
    seen = []
    backend.meanwhile = lambda: seen.append(store.outages.down({"cheap": "cheap.gguf"}))
    with pytest.raises(BackendError):
        router().ask(Question("x"), model="cheap")
    assert seen == [{"cheap"}]


def fail(router, error=BackendError):
    with pytest.raises(error):
        router().ask(Question("x"), model="cheap")


def test_a_claim_lasts_as_long_as_an_answer_may_take(world, clock):
    """Also if the request that claimed the model is killed."""
    router, backend, store = world
    patience = patience_s(MODELS["cheap"])
    assert patience > 100
    places = {"cheap": "cheap.gguf"}
    backend.down = {"cheap"}
    fail(router)
    clock.now += 6

    def meanwhile():
        clock.now += patience - 1
        backend.queried.clear()
        for _ in range(3):
            assert router().ask(Question("y")).decision.served != "cheap"
        assert "cheap" not in backend.queried
        raise SystemExit

    backend.meanwhile = meanwhile
    fail(router, SystemExit)
    assert store.outages.down(places) == {"cheap"}
    clock.now += 2
    assert store.outages.down(places) == frozenset()
    fail(router)
    lost = store.outages.lost()["cheap"]
    assert (lost.attempts, lost.again_at - clock.now) == (2, 10)


@pytest.mark.parametrize(("error", "pause"), [(BackendError, 5), (RefusedError, 0), (CrashedError, 0)])
def test_overlapping_failures_count_once(error, pause, world, clock):
    """As those of all the requests that were under way when a server went."""
    router, backend, store = world
    backend.down, backend.error = {"cheap"}, error
    failed_at = []

    def asks(others):
        clock.now += 1
        backend.meanwhile = (lambda: asks(others - 1)) if others else None
        fail(router, error)
        failed_at.append(clock.now)
        clock.now += 1

    asks(3)
    lost = store.outages.lost()["cheap"]
    assert (lost.attempts, lost.again_at - failed_at[0]) == (4, pause)


def test_an_older_failure_does_not_end_a_claim(world, clock):
    router, backend, store = world
    backend.down = {"cheap"}

    def tries():
        clock.now += 1
        fail(router)
        clock.now += 6
        with store.transaction():
            store.outages.claim(("cheap",), 60.0)  # another process, which takes long
        clock.now += 1

    backend.meanwhile = tries
    fail(router)
    assert store.outages.lost()["cheap"].again_at == clock.now + 59
    assert store.outages.down({"cheap": "cheap.gguf"}) == {"cheap"}


def test_an_interrupted_answer_ends_an_outage_if_some_of_it_was_shown(world, clock):
    router, backend, store = world
    places = {"cheap": "cheap.gguf"}
    backend.down = {"cheap"}
    fail(router)
    clock.now += 6
    backend.error = lambda _: KeyboardInterrupt()
    for breaks, down in ((False, {"cheap"}), (True, frozenset())):
        backend.breaks = {"cheap"} if breaks else set()
        with pytest.raises(KeyboardInterrupt):
            router().ask(Question("x"), model="cheap", on_text=[].append)
        assert store.outages.down(places) == down
        assert breaks or store.outages.lost()["cheap"].again_at == clock.now + 5  # the next request may try soon


@pytest.mark.parametrize("error", [BrokenPipeError, KeyboardInterrupt])
def test_an_answer_cut_short_by_its_listener_ends_an_outage(error, world, clock):
    router, backend, store = world
    backend.down = {"cheap"}
    fail(router)
    clock.now += 6
    backend.down = set()

    def enough(_):
        raise error

    with pytest.raises(error):
        router().ask(Question("x"), model="cheap", on_text=enough)
    assert store.outages.down({"cheap": "cheap.gguf"}) == frozenset()


def test_a_model_that_fails_during_a_reset_is_left_alone(world):
    """The request is gone; the error is the model's own, and the model is left alone."""
    router, backend, store = world

    def error(_):
        store.reset()
        return BackendError("model 'cheap' is out of order")

    backend.error = error
    backend.down = {"cheap"}
    with pytest.raises(BackendError, match="model 'cheap' is out of order"):
        router().ask(Question("x"), model="cheap")
    assert (store.outages.down({"cheap": "cheap.gguf"}), store.requests.newest(1), store.check()) == ({"cheap"}, [], [])


def test_if_all_models_are_out_all_are_tried(world):
    router, backend, store = world
    backend.down = set(PRICES)
    with pytest.raises(BackendError) as raised:
        router().ask(Question("x"))
    assert str(raised.value).startswith("no model could answer: ")
    assert all(f"model {name!r} is out of order" in str(raised.value) for name in PRICES)
    assert sorted(backend.queried) == sorted(PRICES)
    ledger = Ledger.of(store)
    assert (ledger.answered, ledger.unanswered, {n: lost.attempts for n, lost in ledger.lost.items()}) == (
        0, 1, dict.fromkeys(PRICES, 1),
    )  # fmt: skip
    backend.down, backend.queried = {"cheap", "dear"}, []
    assert router().ask(Question("x")).decision.served == "middle"
    assert len(set(backend.queried)) == len(backend.queried)
    assert (snapshot_of(router, store).decided, store.check()) == (2, [])


def test_no_other_model_replaces_a_chosen_one(world):
    router, backend, store = world
    backend.down = {"dear"}
    with pytest.raises(BackendError) as raised:
        router().ask(Question("x"), model="dear")
    assert str(raised.value) == "model 'dear' is out of order"
    assert backend.queried == ["dear"]
    assert (snapshot_of(router, store).decided, store.outages.lost()["dear"].attempts) == (0, 1)


def test_no_other_model_continues_an_answer_that_was_shown_in_part(world):
    router, backend, store = world
    backend.breaks = set(PRICES)
    shown = []
    with pytest.raises(BackendError, match="part of its answer was shown, so no other model was asked"):
        router().ask(Question("x"), on_text=shown.append)
    assert (shown, len(backend.queried)) == (["half"], 1)
    (lost,) = store.outages.lost().values()
    assert lost.attempts == 1
    backend.breaks = {backend.queried[0]}
    assert len(router().ask(Question("y")).attempts) <= 2  # nobody listens, so nothing was shown


def test_a_refused_prompt_is_no_outage(world):
    router, backend, store = world
    backend.down, backend.error = {"cheap", "middle"}, PromptError
    assert router().ask(Question("long"), grader=None).decision.served == "dear"
    assert store.outages.down({name: f"{name}.gguf" for name in PRICES}) == frozenset()
    logged = store.requests.find("last")
    assert logged.rerouted == bool(logged.lost)
    with pytest.raises(PromptError):
        router().ask(Question("long"), model="cheap")
    ledger = Ledger.of(store)
    assert ledger.lost == {}
    assert ledger.refused["cheap"].prompts == 1 + ("cheap" in logged.lost)
    assert ledger.refused["cheap"].reason == "model 'cheap' is out of order"


def test_a_refused_prompt_ends_an_outage(world, clock):
    router, backend, store = world
    backend.down = {"cheap"}
    with pytest.raises(BackendError):
        router().ask(Question("x"), model="cheap")
    clock.now += 6
    backend.error = PromptError
    with pytest.raises(PromptError):
        router().ask(Question("long"), model="cheap")
    assert store.outages.down({"cheap": "cheap.gguf"}) == frozenset()
    lost = store.outages.lost()["cheap"]
    assert (lost.attempts, lost.again_at, lost.at) == (1, None, clock.now - 6)


def test_a_first_crash_is_no_outage(world, clock):
    """The next request starts the model anew; if that is lost as well, it is left alone as any other."""
    router, backend, store = world
    places = {"cheap": "cheap.gguf"}
    backend.down, backend.error = {"cheap"}, CrashedError
    for pause in (0, 5, 10):
        with pytest.raises(CrashedError):
            router().ask(Question("x"), model="cheap")
        lost = store.outages.lost()["cheap"]
        assert lost.again_at - lost.at == pause
        assert store.outages.down(places) == ({"cheap"} if pause else frozenset())
    backend.down = set()
    router().ask(Question("x"), model="cheap")
    backend.down, seen = {"cheap"}, []
    for error, pause in ((CrashedError, 0), (BackendError, 5)):
        backend.error = error
        backend.meanwhile = lambda: seen.append(store.outages.down(places))
        with pytest.raises(error):
            router().ask(Question("x"), model="cheap")
        assert store.outages.lost()["cheap"].again_at - clock.now == pause
    assert seen == [frozenset(), frozenset()]  # while one has it start anew, the others need not do without


def test_a_server_that_refuses_requests_is_left_alone_after_three_in_a_row(world, clock):
    """It may be the prompts' fault, as with a filter of contents, or it may refuse them all."""
    router, backend, store = world
    places = {"cheap": "cheap.gguf"}

    def refuse(times, error=RefusedError):
        backend.down, backend.error = {"cheap"}, error
        for _ in range(times):
            with pytest.raises(error):
                router().ask(Question("x"), model="cheap")
        return store.outages.lost()["cheap"].again_at - clock.now

    assert [refuse(1) for _ in range(2)] == [0, 0]
    assert store.outages.down(places) == frozenset()
    backend.down = set()
    router().ask(Question("x"), model="cheap")  # an answer in between: it does not refuse them all
    assert [refuse(1) for _ in range(5)] == [0, 0, 5, 10, 20]
    assert store.outages.down(places) == {"cheap"}
    backend.down = set()
    router().ask(Question("x"), model="cheap")
    assert [refuse(1), refuse(1, BackendError), refuse(1)] == [0, 5, 10]
    assert store.outages.refused() == {}


def test_an_outage_ends_if_the_model_moves_or_the_clock_goes_back(world, clock):
    router, backend, store = world
    backend.down = {"cheap"}
    with pytest.raises(BackendError):
        router().ask(Question("x"), model="cheap")
    assert store.outages.down({"cheap": "elsewhere.gguf"}) == frozenset()
    assert store.outages.down({"cheap": "cheap.gguf"}) == {"cheap"}
    clock.now -= 1e6
    assert store.outages.down({"cheap": "cheap.gguf"}) == frozenset()


@pytest.mark.parametrize("world", ["messplus"], indirect=True)
def test_exploration_without_the_reference(world):
    router, backend, store = world
    backend.down = {"dear"}
    answered = router(c=9.0).ask(Question("x"), grader=lambda answer: 1.0)
    assert (answered.decision.explored, sorted(answered.decision.queried)) == (True, ["cheap", "middle"])
    assert set(store.requests.find("last").answers) == {"cheap", "middle"}
    assert answered.attempts == ("dear", answered.decision.served)
    backend.down = {"dear", "middle"}
    answered = router(c=9.0).ask(Question("y"), grader=lambda answer: 1.0)
    assert "dear" not in answered.failures
    assert sorted(store.outages.lost()) == ["dear", "middle"]


def test_status_log_and_replay_agree_under_random_failures(world, clock, tmp_path):
    """Every request is answered or not, every loss is there, and the log replays to what status says."""
    router, backend, store = world
    coin = random.Random(7)
    failed = 0
    for row in range(120):
        clock.now += coin.choice((0.1, 3.0, 40.0))
        backend.down = {name for name in PRICES if coin.random() < 0.3}
        before = len(backend.queried)
        try:
            answered = router(c=0.5).ask(
                Question(f"prompt {row % 40}"), grader=(lambda answer: float(answer != "cheap")) if row % 2 else None
            )
        except BackendError:
            failed += 1
            assert len(backend.queried) - before == 3
        else:
            assert set(answered.failures) <= backend.down
            assert 0 < answered.decision.propensity <= 1
            assert store.requests.find("last").decision.served == answered.completion.model == answered.decision.served
    ledger = Ledger.of(store)
    assert (ledger.answered, ledger.unanswered) == (120 - failed, failed)
    assert failed > 0
    assert snapshot_of(router, store).decided == 120
    numbers = [logged.decision.request_number for logged in store.requests]
    assert numbers == list(range(1, 121))
    losses = sum(len(logged.lost) for logged in store.requests)
    assert sum(lost.attempts for lost in ledger.lost.values()) == losses > 30
    assert sum(logged.rerouted for logged in store.requests) > 10
    assert store.check() == []
    export_log(store, tmp_path / "log.parquet")
    result = replay(
        load(tmp_path / "log.parquet", partial=True), ["logged"], Settings(alpha=0.5), Conditions()
    ).results[0]
    assert (result.requests, result.queue_final) == (ledger.answered, ledger.standing.queue)
    assert result.attained == pytest.approx(ledger.standing.attained)
    assert result.total_cost == pytest.approx(ledger.cost_total)


@pytest.mark.parametrize(
    ("failures", "wanted_s", "pause"),
    [(0, 60, 0), (1, 0, 5), (2, 0, 10), (7, 0, 300), (10**9, 0, 300), (1, 60, 60), (1, 1e9, 300), (4, 1, 40)],
)
def test_pauses_double_up_to_a_bound(failures, wanted_s, pause):
    assert pause_s(failures, wanted_s) == pause <= LONGEST_PAUSE_S


# --- as it is typed ---------------------------------------------------------------------------------


def test_ask_serves_despite_a_broken_model_file(state, tmp_path, capsys, policy):
    pytest.importorskip("llama_cpp")
    (tmp_path / "broken.gguf").write_bytes((BOX / "pico-34k.gguf").read_bytes()[:5000])
    (tmp_path / "zoo.yaml").write_text(
        "defaults: {n_ctx: 0, temperature: 0, max_tokens: 8, cost: {unit: USD, prompt: 1, generated: 1}}\n"
        "models:\n- {name: broken, path: broken.gguf}\n- {name: pico-34k, path: 'box:pico-34k.gguf'}\n"
    )
    for _ in range(3):
        assert run(["ask", "What is 1 + 1?"]) == 0
        out, err = capsys.readouterr()
        assert out.strip()
        assert err.count("\n") == err.count("messctl: warning: model 'broken' (")
    assert run(["status", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["answered"], status["unanswered"]) == (3, 0)
    if status["lost"]:
        assert status["lost"]["broken"]["attempts"] == 1
    assert run(["ask", "hi", "--model", "broken"]) == 2
    capsys.readouterr()
    assert run(["status"]) == 0
    assert "lost by broken" in capsys.readouterr().out
    assert_sound(state, requests=4)


def test_a_prompt_that_is_too_long_is_counted_as_refused(state, tmp_path, capsys):
    pytest.importorskip("llama_cpp")
    (tmp_path / "zoo.yaml").write_text(
        "defaults: {temperature: 0, max_tokens: 8}\n"
        "models:\n- {name: small, path: 'box:pico-34k.gguf', n_ctx: 8}\n- {name: large, path: 'box:nano-109k.gguf'}\n"
    )
    assert run(["ask", "What is 1 + 1?", "--model", "small"]) == 2
    capsys.readouterr()
    assert run(["status"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    reason = "the prompt has 1. tokens, but the context holds 8"
    assert re.search(f"refused by small 1 prompt; the last reason: .*{reason}", out)
    assert "lost by" not in out
    assert run(["status", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["lost"], document["refused"]["small"]["prompts"]) == ({}, 1)


def test_ask_log_and_status_show_failures(state, tmp_path, capsys, monkeypatch):
    (tmp_path / "zoo.yaml").write_text(
        "models:\n- {name: 'a[red]', path: a.gguf, cost: {unit: USD, prompt: 1, generated: 1}}\n"
        "- {name: b, path: b.gguf, cost: {unit: USD, prompt: 2, generated: 2}}\n"
    )
    backend = Scripted({"a[red]": "x", "b": "y"}, failures={"a[red]": "model 'a[red]' \x1b[31mfell over"})
    monkeypatch.setattr("messctl.backends.LlamaCpp", lambda **_: backend)
    for _ in range(2):
        assert run(["ask", "hi", "--json"]) == 0
    first, second = (json.loads(part) for part in capsys.readouterr().out.replace("}\n{", "}\0{").split("\0"))
    assert (first["attempts"], list(first["failures"]), first["model"]) == (["a[red]", "b"], ["a[red]"], "b")
    assert (second["attempts"], second["failures"]) == (["b"], {})
    assert run(["log", "--json"]) == 0
    assert [each["lost"] for each in json.loads(capsys.readouterr().out)] == [first["failures"], {}]
    assert run(["log"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert ["rerouted" in row for row in rows[1:]] == [True, False]
    assert run(["status"]) == 0
    out = capsys.readouterr().out
    assert "lost by a[red]" in out
    assert "1 attempt; the model is tried again in " in out
    assert "\x1b" not in out
    assert run(["status", "--json"]) == 0
    lost = json.loads(capsys.readouterr().out)["lost"]["a[red]"]
    assert (lost["attempts"], lost["again_at"] - lost["at"]) == (1, pytest.approx(5, abs=0.1))
    assert "unknown model" in assert_one_line(run(["ask", "hi", "--model", "c"]), *capsys.readouterr())
    assert run(["reset", "--yes"]) == 0
    with Store(state) as store:
        assert store.outages.lost() == {}
