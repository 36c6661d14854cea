"""Empty answers: refused as lost, paid for, and answered by another model; thinking: stored, and never sent back."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
from live_making import STATED

from messctl.backends import Scripted
from messctl.costs.meter_choice import meter_for
from messctl.errors import BackendError, EmptyAnswerError
from messctl.live.conversation import Conversation
from messctl.live.router import Router
from messctl.records import Question
from messctl.state.export import export_log
from messctl.state.ledger import Ledger
from messctl.state.outages import FIRST_PAUSE_S
from messctl.state.store import Store
from messctl.zoo import Settings, load_zoo

CHEAP, DEAR = "cheap[red]", "dear"
THOUGHT = "<think>one two three</think>\n\nyes"


@pytest.fixture
def world(tmp_path, place):
    """Makes a router over two scripted models, and returns it with its store."""
    (tmp_path / "zoo.yaml").write_text(STATED)
    zoo = load_zoo(tmp_path / "zoo.yaml")
    with Store(place) as store:

        def make(answers, **settings):
            models = {model.name: model for model in zoo.models}
            return Router(models, zoo.settings, Scripted(answers), meter_for(zoo), store, **settings), store

        yield make


class FirstIsEmpty:
    """Answers `empty` for the model that is asked first, whenever it is asked, and yes for others."""

    def __init__(self, empty):
        self.empty, self.first = empty, None

    def __call__(self, model, _question):
        self.first = self.first or model.name
        return self.empty if model.name == self.first else "yes"


PRICES = {CHEAP: (1, 1), DEAR: (10, 20)}


@pytest.mark.parametrize("empty", ["", " \n", "\u200b", "<think>no end", "<think>one</think>\n\n", "one</think>\n"])
def test_an_empty_answer_is_lost_paid_for_and_given_by_another_model(empty, world):
    answers = FirstIsEmpty(empty)
    router, store = world(answers)
    answered = router.ask(Question("one two"), grader=lambda answer: float(answer == "yes"))
    first, second = answered.attempts
    assert (first, answered.completion.answer, answered.satisfied) == (answers.first, "yes", 1.0)
    words = len(empty.split())
    lost = 2 * PRICES[first][0] + words * PRICES[first][1]
    assert answered.cost == lost + 2 * PRICES[second][0] + 1 * PRICES[second][1]
    (logged,) = store.requests.newest(9)
    assert (set(logged.answers), set(logged.lost), logged.satisfied, logged.rerouted) == ({second}, {first}, 1.0, True)
    outcome = logged.empty[first]
    assert (outcome.cost, outcome.tokens_out, outcome.satisfied, outcome.finish) == (lost, words, None, "stop")
    ledger = Ledger.of(store)
    assert (ledger.cost_total, ledger.standing.judged, ledger.standing.attained) == (answered.cost, 1, 1.0)
    assert store.policy.snapshot().models[first].mean_cost == lost
    assert store.check() == []


REASONS = [
    ("<think>one two three four", 3, "all tokens went into thinking (3 tokens, finish: length): raise --max-tokens"),
    ("<think>one two", None, "the model thought, and ended without an answer (2 tokens, finish: stop): ask again"),
    ("", None, "the model ended at once (0 tokens, finish: stop): check its chat template"),
]


@pytest.mark.parametrize("forced", [None, CHEAP, DEAR])
@pytest.mark.parametrize(("empty", "limit", "why"), REASONS)
def test_without_another_answer_the_error_says_why_it_is_empty(empty, limit, why, forced, world):
    router, store = world({CHEAP: empty, DEAR: empty})
    with pytest.raises(BackendError) as caught:
        router.ask(Question("one", max_tokens=limit), model=forced, grader=lambda _: 1.0)
    names = [forced] if forced else [DEAR, CHEAP]
    for name in names:
        assert f"the answer of model {name!r} is empty: {why}" in str(caught.value)
    ledger = Ledger.of(store)
    (logged,) = store.requests.newest(9)
    assert (ledger.unanswered, ledger.standing.judged, ledger.standing.queue) == (1, 0, 0.0)
    assert set(logged.empty) == set(names)
    assert ledger.cost_total == sum(outcome.cost for outcome in logged.empty.values()) > 0


@pytest.mark.parametrize(("empty", "thinking"), [("", None), (" \n", None), ("<think>hm", "hm")])
def test_an_accepted_empty_answer_is_an_answer_like_others(empty, thinking, world):
    router, store = world({CHEAP: "yes", DEAR: empty}, accept_empty=True)
    answered = router.ask(Question("one"), model=DEAR, grader=lambda answer: float(answer == "yes"))
    assert (answered.completion.answer.strip(), answered.satisfied, answered.attempts) == ("", 0.0, (DEAR,))
    (logged,) = store.requests.newest(9)
    assert (logged.answers[DEAR].thinking, logged.lost, logged.empty, logged.satisfied) == (thinking, {}, {}, 0.0)


def test_a_model_is_left_alone_after_three_empty_answers_in_a_row(world):
    router, store = world({CHEAP: "yes", DEAR: ""})
    pauses = []
    for _ in range(3):
        with pytest.raises(EmptyAnswerError):
            router.ask(Question("one"), model=DEAR)
        lost = store.outages.lost()[DEAR]
        pauses.append(round(lost.again_at - lost.at))
    assert pauses == [0, 0, FIRST_PAUSE_S]
    assert router.ask(Question("one")).decision.request.excluded == {DEAR}
    assert store.outages.lost()[DEAR].attempts == 3


def test_every_model_queried_to_learn_may_be_empty(world, tmp_path, places):
    zoo = load_zoo(tmp_path / "zoo.yaml")
    models = {model.name: model for model in zoo.models}
    promise = Settings(policy="messplus", alpha=0.75, c=100.0)
    with Store(places()) as store:
        router = Router(models, promise, Scripted({CHEAP: "", DEAR: "yes"}), meter_for(zoo), store)
        answered = router.ask(Question("one"), grader=lambda answer: float(answer == "yes"))
        assert (answered.decision.explored, answered.satisfied, set(answered.failures)) == (True, 1.0, {CHEAP})
        assert answered.cost == (10 + 20) + 1 == Ledger.of(store).cost_total
        (logged,) = store.requests.newest(9)
        assert (set(logged.answers), set(logged.empty)) == ({DEAR}, {CHEAP})


def test_thinking_that_was_shown_does_not_keep_another_model_from_answering(world):
    router, _ = world(FirstIsEmpty("<think>hm</think>\n\n"))
    said: list[str] = []
    thought: list[str] = []
    answered = router.ask(Question("one"), on_text=said.append, on_thinking=thought.append)
    assert (answered.completion.answer, said, "".join(thought).strip()) == ("yes", ["yes"], "hm")


def test_thinking_is_stored_and_not_graded(world, tmp_path):
    graded: list[str] = []
    router, store = world({CHEAP: THOUGHT, DEAR: THOUGHT})
    answered = router.ask(Question("one"), grader=lambda answer: graded.append(answer) or 1.0)
    assert (graded, answered.completion.thinking) == (["yes"], "one two three")
    (logged,) = store.requests.newest(9)
    served = logged.decision.served
    assert logged.answers[served].thinking == "one two three"
    export_log(store, tmp_path / "log.parquet")
    (row,) = pq.read_table(tmp_path / "log.parquet").to_pylist()
    assert [row[f"{name}/{served}"] for name in ("answer", "thinking", "finish")] == ["yes", "one two three", "stop"]


def test_a_conversation_sends_no_thinking_back_and_no_empty_turn(world):
    seen = []

    def answer(_model, question):
        seen.append(question.history)
        return {"a": THOUGHT, "b": "<think>hm"}.get(question.prompt, "no")

    router, _ = world(answer, accept_empty=True)
    conversation = Conversation(router, Question(""))
    for prompt in "abc":
        conversation.ask(prompt)
    assert seen == [(), (("a", "yes"),), (("a", "yes"),)]


def test_thinking_that_was_cut_off_by_ctrl_c_is_no_part_of_the_conversation(world, monkeypatch):
    router, _ = world({CHEAP: "yes", DEAR: "yes"})
    conversation = Conversation(router, Question(""))

    def interrupted(self, model, question, on_text=None, on_thinking=None):
        on_thinking("hm")
        raise KeyboardInterrupt

    monkeypatch.setattr(Scripted, "complete", interrupted)
    with pytest.raises(KeyboardInterrupt):
        conversation.ask("one", [].append, [].append)
    assert conversation.history == ()


def test_an_empty_answer_after_a_reset_of_the_state_is_forgotten(world):
    router, store = world({CHEAP: "", DEAR: ""})

    def reset(_decision):
        store.reset()

    with pytest.raises(EmptyAnswerError):
        router.ask(Question("one"), model=DEAR, on_decision=reset)
    assert store.requests.newest(9) == []
    assert store.check() == []
