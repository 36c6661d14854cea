"""Live requests for which several models are asked: what is decided, paid, logged, learned, and what survives."""

import json
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from driving import drive
from making import learnable, prompts_for, telling

from messctl.backends.base import Backend
from messctl.costs.meter import TokenMeter
from messctl.errors import BackendError
from messctl.learning.features import encode
from messctl.live.router import Router
from messctl.policies import build
from messctl.policies.base import Answers
from messctl.records import Chat, Completion, Question
from messctl.replay.loading import load
from messctl.replay.play import replay
from messctl.replay.result import Conditions
from messctl.state.export import export_log
from messctl.state.ledger import Ledger
from messctl.state.store import Store
from messctl.trace import TraceFile
from messctl.trace.summary import summarise
from messctl.zoo import CostPerToken, ModelSpec, Settings

N = 90
SETTINGS = Settings(policy="bandit", alpha=0.7, asks=3, seed=3)


class Recorded(Backend):
    """Answers from a trace: the text is the group of equal answers; the tokens of the prompt name the row."""

    def __init__(self, rounds, prompts):
        self.rounds, self.row_of = rounds, {prompt: row for row, prompt in enumerate(prompts)}
        self.questions = []
        self.before = lambda _model: None

    def complete(self, model, question, on_text=None, on_thinking=None):
        self.questions.append((model.name, question))
        self.before(model.name)
        row, index = self.row_of[question.prompt], self.rounds.zoo.index(model.name)
        logprob = float(self.rounds.answers.logprob[row, index])
        pieces = ["Group ", str(self.rounds.answers.group[row, index])]
        for piece in pieces:
            if on_text:
                on_text(piece)
        known = question.logprob and not np.isnan(logprob)
        return Completion(model.name, "".join(pieces), row, 1, 0.1, 0.0, "stop", logprob if known else None)

    def close(self):
        pass


class RecordedMeter(TokenMeter):
    """Takes costs from a trace."""

    unit, source = "J", "recorded"

    def quality(self, model):
        return "stated"

    def __init__(self, rounds):
        self.rounds = rounds

    def per_token(self, model):
        return CostPerToken("J", 0.0, float(self.rounds.cost[:, self.rounds.zoo.index(model.name)].mean()))

    def cost(self, model, completion):
        return float(self.rounds.cost[completion.tokens_in, self.rounds.zoo.index(model.name)])


def grade(answer):
    return float(answer == "Group 0")


class World:
    """A recorded world of three models, and routers over it, each with a store of its own."""

    def __init__(self, places, known=0.8, n=N):
        self.prompts = [f"{prompt} {row}" for row, prompt in enumerate(prompts_for(n))]
        rounds = replace(learnable(n), features=encode(pa.array(self.prompts, pa.large_string())))
        self.rounds = telling(rounds, known=known)
        self.backend = Recorded(self.rounds, self.prompts)
        self.places = places
        self.stores = {}

    def store(self, name="state"):
        if name not in self.stores:
            self.stores[name] = Store(self.places())
        return self.stores[name]

    def router(self, name="state", **settings):
        models = {name: ModelSpec(name, Path(f"{name}.gguf")) for name in self.rounds.zoo.models}
        return Router(models, replace(SETTINGS, **settings), self.backend, RecordedMeter(self.rounds), self.store(name))

    def asked(self, name="state", rows=range(N), **more):
        """Ask each prompt of these rows, through a router of its own, and return what was answered."""
        return [self.router(name).ask(Question(self.prompts[row]), grader=grade, **more) for row in rows]


@pytest.fixture
def world(places):
    made = World(places)
    yield made
    for store in made.stores.values():
        store.close()


@pytest.fixture(scope="module")
def played(places):
    """A world in which all prompts were asked and graded, and what was answered."""
    made = World(places)
    answers = made.asked()
    yield made, answers
    for store in made.stores.values():
        store.close()


def seen_of(decision):
    """Return what was seen of each answer: its log-probability, and which ones it equals; groups may be renumbered."""
    groups = [each.group for each in decision.answers.values()]
    return [(name, each.logprob, groups.index(each.group)) for name, each in decision.answers.items()]


def several(answered):
    return [each for each in answered if len(each.decision.answers) > 1]


def test_live_and_replay_ask_the_same_models_and_show_the_same_answers(played):
    """Through SQLite, a new policy object for every step, and back: the same to the last bit."""
    world, answered = played
    policy = build("bandit", world.rounds, SETTINGS)
    assert several(answered)
    for (decision, _), got in zip(drive(policy, world.rounds, world.prompts), answered, strict=True):
        live = got.decision
        assert (live.served, live.queried, live.propensity) == (decision.served, decision.queried, decision.propensity)
        assert (live.queue, dict(live.predicted)) == (decision.queue, dict(decision.predicted))
        assert seen_of(live) == seen_of(decision)
    assert policy.queue == world.store().policy.snapshot("bandit").queue


def test_every_answer_is_paid_and_logged_in_order_with_what_was_seen_of_it(played):
    world, answered = played
    logged = {each.decision.request.request_id: each for each in world.store().requests}
    for row, each in enumerate(answered):
        found, costs = logged[each.decision.request.request_id], world.rounds.cost[row]
        assert found.asked == each.decision.queried == tuple(each.decision.answers)
        assert found.decision.answers == each.decision.answers
        assert found.propensity == each.decision.propensity
        assert set(found.answers) == set(found.asked)
        assert each.cost == pytest.approx(sum(costs[world.rounds.zoo.index(model)] for model in found.asked))
        assert found.satisfied == each.satisfied == grade(each.completion.answer)
        assert [found.answers[model].logprob for model in found.asked] == [
            seen.logprob for seen in each.decision.answers.values()
        ]
    assert world.store().check() == []


def test_the_shown_answer_alone_counts_toward_the_promise(played):
    world, answered = played
    ledger = Ledger.of(world.store())
    assert (ledger.answered, ledger.standing.judged) == (N, N)
    assert ledger.standing.attained == pytest.approx(np.mean([each.satisfied for each in answered]))
    assert ledger.asks == pytest.approx(np.mean([len(each.decision.queried) for each in answered]))
    assert ledger.cost_total == pytest.approx(sum(each.cost for each in answered))
    assert sum(ledger.served.values()) == N


def test_the_exported_log_is_a_trace_that_names_the_models_asked(played, tmp_path):
    world, answered = played
    path = tmp_path / "live.parquet"
    assert export_log(world.store(), path) == N
    trace = TraceFile(path)
    assert summarise(trace).problems == ()
    (batch,) = trace.raw_batches(["asked", "served", *(f"logprob/{model}" for model in trace.models)])
    for row, each in zip(batch.to_pylist(), answered, strict=True):
        assert (json.loads(row["asked"] or "[]") or [row["served"]]) == list(each.decision.queried)
        seen = {model: row[f"logprob/{model}"] for model in trace.models}
        assert seen == {model: getattr(each.decision.answers.get(model), "logprob", None) for model in trace.models}
    logged = replay(load(path, partial=True), ["logged"], SETTINGS, Conditions()).results[0]
    assert logged.mean_cost == pytest.approx(np.mean([each.cost for each in answered]))
    assert logged.attained == pytest.approx(np.mean([each.satisfied for each in answered]))


def test_feedback_given_later_teaches_the_same_as_at_once(world):
    for row in range(40):
        question = Question(world.prompts[row])
        world.router("at once").ask(question, grader=grade)
        later = world.router("later").ask(question)
        world.router("later").feedback(later.decision.request.request_id, grade(later.completion.answer))
    at_once, later = (world.store(name).policy.snapshot("bandit") for name in ("at once", "later"))
    assert (at_once.queue, at_once.balance) == (later.queue, later.balance)
    for ours, theirs in [(at_once.shared, later.shared)] + [
        (at_once.models[name].arrays, later.models[name].arrays) for name in at_once.models
    ]:
        assert ours.keys() == theirs.keys()
        assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)


def test_a_held_back_answer_is_shown_whole_and_one_asked_alone_streams(world):
    streamed = set()
    for row in range(N):
        pieces = []
        decision = world.router().ask(Question(world.prompts[row]), grader=grade, on_text=pieces.append).decision
        group = world.rounds.answers.group[row, world.rounds.zoo.index(decision.served)]
        assert "".join(pieces) == f"Group {group}"
        assert len(pieces) == (2 if decision.course.alone else 1)
        streamed.add(len(pieces))
        assert not (decision.course.alone and len(decision.answers) > 1)
    assert streamed == {1, 2}, "both kinds are there"


def test_every_model_is_asked_for_its_log_probability_unless_it_is_the_only_one(world):
    world.asked(rows=range(20))
    assert all(question.logprob for _, question in world.backend.questions)
    world.backend.questions.clear()
    world.router("one", asks=1).ask(Question(world.prompts[0]))
    world.router("forced").ask(Question(world.prompts[0]), model="large")
    assert [question.logprob for _, question in world.backend.questions] == [False, False]


def test_a_model_that_the_user_names_is_asked_alone(world):
    for row in range(20):
        answered = world.router().ask(Question(world.prompts[row]), model="small", grader=grade)
        assert (answered.decision.queried, answered.decision.course, answered.forced) == (("small",), None, True)
    assert {each.asked for each in world.store().requests} == {("small",)}
    assert world.store().check() == []


TOOLS = ({"tools": [{"type": "function", "function": {"name": "f"}}]}, {"response_format": {"type": "json_object"}})


@pytest.mark.parametrize("parameters", TOOLS, ids=["tools", "a format"])
def test_a_request_whose_answer_is_more_than_text_asks_one_model(world, parameters):
    messages = ({"role": "user", "content": "hi"},)
    for row in range(20):
        router = world.router()
        for spec in router._serving.models.values():
            object.__setattr__(spec, "url", "http://localhost:1")
        answered = router.ask(Question(world.prompts[row], chat=Chat(messages, parameters)), grader=grade)
        assert len(answered.decision.queried) == 1
        assert answered.decision.course is None or answered.decision.course.alone


def fails_on_the_second(world):
    """Make every model fail that is asked second or later for one request.

    Returns the list of those that failed, and the first model asked by prompt; both grow.
    """
    failed, first = [], {}

    def before(model):
        prompt = world.backend.questions[-1][1].prompt
        if first.setdefault(prompt, model) != model:
            failed.append(model)
            raise BackendError(f"model {model!r} is out of order")

    world.backend.before = before
    return failed, first


def test_a_model_that_fails_when_it_is_asked_second_is_left_out_and_the_answer_so_far_is_shown(world):
    failed, _ = fails_on_the_second(world)
    for row in range(40):
        answered = world.router().ask(Question(world.prompts[row]), grader=grade)
        assert len(answered.decision.queried) == 1
        assert answered.decision.served == answered.decision.queried[0]
        assert len(answered.failures) <= 2
        assert 0.0 < answered.decision.propensity <= 1.0
        world.store().outages.end(world.rounds.zoo.models)
    assert failed
    logged = list(world.store().requests)
    assert sum(len(each.lost) for each in logged) == len(failed)
    assert all(len(each.answers) == 1 and each.satisfied is not None for each in logged)
    assert world.store().check() == []


def test_a_full_queue_at_the_model_that_answered_does_not_make_it_ask_a_failed_one_again(world):
    failed, first = fails_on_the_second(world)
    router = world.router()
    object.__setattr__(router._serving, "full", lambda: [first[prompt]] if prompt in first else [])
    for row in range(40):
        before, prompt = len(failed), world.prompts[row]
        router.ask(Question(prompt), grader=grade)
        assert len(failed) - before <= 2
        world.store().outages.end(world.rounds.zoo.models)
    assert failed


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_what_stops_a_second_ask_loses_nothing_that_was_paid(world, error):
    stopped = 0

    def before(model):
        if len([None for _, question in world.backend.questions if question.prompt == prompt]) > 1:
            raise error

    world.backend.before = before
    for row in range(40):
        prompt = world.prompts[row]
        try:
            world.router().ask(Question(prompt), grader=grade)
        except error:
            stopped += 1
            (logged,) = world.store().requests.newest(1)
            model = logged.decision.served
            assert (logged.asked, set(logged.answers), logged.satisfied) == ((model,), {model}, None)
            assert logged.answers[model].cost == world.rounds.cost[row, world.rounds.zoo.index(model)]
            world.router().feedback("last", grade(logged.answers[model].answer))
    assert stopped
    paid = Counter(model for logged in world.store().requests for model in logged.answers)
    learned = world.store().policy.snapshot("bandit").models
    assert {name: model.cost_count for name, model in learned.items()} == dict(paid)
    assert Ledger.of(world.store()).answered == 40
    assert world.store().check() == []


def test_several_routers_at_once_lose_nothing(world):
    errors = []

    place = world.store().path

    def work(rows):
        store = Store(place)
        try:
            models = {name: ModelSpec(name, Path(f"{name}.gguf")) for name in world.rounds.zoo.models}
            router = Router(models, SETTINGS, world.backend, RecordedMeter(world.rounds), store)
            for row in rows:
                router.ask(Question(world.prompts[row]), grader=grade)
        except BaseException as error:  # noqa: BLE001  # a thread's error fails the test
            errors.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=work, args=(range(part, 60, 2),)) for part in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    logged = list(world.store().requests)
    assert len(logged) == 60
    assert sum(len(each.answers) for each in logged) == len(world.backend.questions) > 60
    assert sorted(each.decision.request_number for each in logged) == list(range(1, 61))
    assert world.store().check() == []


def test_where_no_answers_are_equal_and_nothing_else_is_known_one_model_is_asked_in_the_end(places):
    made = World(places, known=0.0)
    rounds = made.rounds
    apart = np.arange(rounds.answers.group.size).reshape(rounds.answers.group.shape)
    made.rounds = made.backend.rounds = replace(rounds, answers=Answers(apart, rounds.answers.logprob))
    asked = [len(each.decision.queried) for each in made.asked()]
    made.store().close()
    assert max(asked[:30]) > 1
    assert max(asked[-20:]) == 1
