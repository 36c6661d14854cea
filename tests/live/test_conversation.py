"""A conversation: its history, feedback on its latest answer, and how it outgrows a context."""

from pathlib import Path

import pytest
from backends_files import says, write_gguf
from hypothesis import given
from hypothesis import strategies as st
from live_making import STATED

from messctl.backends import LatestTurns, LlamaCpp, Scripted
from messctl.costs.meter_choice import meter_for
from messctl.errors import BackendError, PromptTooLongError, UnknownNameError, UsageError
from messctl.live.conversation import Conversation
from messctl.live.router import Router
from messctl.records import Question
from messctl.state.store import Store
from messctl.zoo import ModelSpec, load_zoo

CHEAP, DEAR = "cheap[red]", "dear"


class Narrow:
    """Answers two words. It reads `most` words, and may say by how many a question is too long."""

    def __init__(self, most: int, *, tells: bool = True) -> None:
        self.most = most
        self.tells = tells
        self.read = []

    def complete(self, model, question, on_text=None, on_thinking=None):
        words = sum(len(text.split()) for turn in question.history for text in turn) + len(question.prompt.split())
        if words > self.most:
            raise PromptTooLongError(f"{words} words", (words - self.most) / words if self.tells else 0.0)
        self.read.append((model.name, len(question.history)))
        return Scripted({model.name: "a b"}).complete(model, question, on_text)

    def close(self):
        self.most = -1


@pytest.fixture
def talk(tmp_path, place):
    """Makes a conversation with two models that answer by a function."""
    (tmp_path / "zoo.yaml").write_text(STATED)
    zoo = load_zoo(tmp_path / "zoo.yaml")
    with Store(place) as store:

        def make(answer, like=Question("")):  # noqa: B008
            models = {model.name: model for model in zoo.models}
            router = Router(models, zoo.settings, Scripted(answer), meter_for(zoo), store)
            return Conversation(router, like), store

        yield make


def test_the_model_reads_all_earlier_turns(talk):
    questions = []

    def answer(model, question):
        questions.append(question)
        return f"answer {len(questions)}"

    conversation, store = talk(answer, Question("", "be brief", max_tokens=9, temperature=0.5, seed=3))
    for prompt in ("one", "two", "three"):
        conversation.ask(prompt)
    turns = (("one", "answer 1"), ("two", "answer 2"))
    assert questions[2] == Question("three", "be brief", turns, max_tokens=9, temperature=0.5, seed=3)
    assert conversation.history == (*turns, ("three", "answer 3"))
    assert [each.decision.request.prompt for each in store.requests.newest(9)] == ["one", "two", "three"]


def test_a_chosen_model_answers_until_the_choice_is_taken_back(talk):
    conversation, store = talk({CHEAP: "c", DEAR: "d"})
    conversation.model = DEAR
    assert conversation.ask("hi").forced
    conversation.model = None
    assert not conversation.ask("hi").forced
    conversation.model = "none"
    with pytest.raises(UnknownNameError):
        conversation.ask("hi")
    assert len(conversation.history) == 2


def test_feedback_goes_to_the_latest_answer_and_can_be_corrected(talk):
    conversation, store = talk({CHEAP: "c", DEAR: "d"})
    with pytest.raises(UsageError, match="nothing was answered yet"):
        conversation.give_feedback(1.0)
    for judgements in ((1.0,), (0.0, 1.0), ()):
        conversation.ask("hi")
        for satisfied in judgements:
            assert conversation.give_feedback(satisfied).decision.request.prompt == "hi"
    assert [each.satisfied for each in store.requests.newest(9)] == [1.0, 1.0, None]


@pytest.mark.parametrize(("said", "listening"), [(["one ", "two "], True), ([], True), (["one ", "two "], False)])
def test_the_history_keeps_what_was_shown_of_an_interrupted_answer(said, listening, talk, monkeypatch):
    conversation, store = talk({CHEAP: "c", DEAR: "d"})
    conversation.ask("hi")
    conversation.give_feedback(1.0)

    def interrupted(self, model, question, on_text=None, on_thinking=None):
        for piece in said if on_text else ():
            on_text(piece)
        raise KeyboardInterrupt

    shown = []
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Scripted, "complete", interrupted)
        conversation.ask("go on", shown.append if listening else None)
    assert shown == (said if listening else [])
    assert conversation.history[1:] == ((("go on", "one two "),) if shown else ())
    with pytest.raises(UsageError, match="has no answer to give feedback on"):
        conversation.give_feedback(0.0)
    assert [each.satisfied for each in store.requests.newest(9)] == [1.0, None]
    conversation.ask("hi")
    assert len(conversation.history) == 2 + bool(shown)


@pytest.mark.parametrize("listening", [True, False])
def test_another_model_answers_after_a_break_only_if_nothing_was_shown(listening, talk, monkeypatch):
    conversation, store = talk({CHEAP: "c", DEAR: "d"})
    complete, queried, shown = Scripted.complete, [], []

    def breaks_off(self, model, question, on_text=None, on_thinking=None):
        queried.append(model.name)
        if len(queried) > 1:
            return complete(self, model, question, on_text)
        if on_text:
            on_text("half")
        raise BackendError(f"{model.name} breaks off")

    monkeypatch.setattr(Scripted, "complete", breaks_off)
    if listening:
        with pytest.raises(BackendError, match="part of its answer was shown"):
            conversation.ask("hi", shown.append)
        assert (len(queried), shown, conversation.history) == (1, ["half"], ())
    else:
        assert conversation.ask("hi").attempts == tuple(queried)
        assert (set(queried), conversation.history) == ({CHEAP, DEAR}, (("hi", "d" if queried[1] == DEAR else "c"),))


def test_a_failed_turn_is_not_in_the_history(talk):
    def answer(model, question):
        if "fail" in question.prompt:
            raise BackendError("no")
        return "yes"

    conversation, store = talk(answer)
    conversation.ask("hi")
    with pytest.raises(BackendError):
        conversation.ask("fail")
    with pytest.raises(UsageError, match="has no answer to give feedback on"):
        conversation.give_feedback(1.0)
    assert conversation.history == (("hi", "yes"),)


@given(
    st.lists(st.tuples(st.sampled_from(["small", "large"]), st.integers(1, 6)), max_size=30),
    st.integers(6, 60),
    st.booleans(),
)
def test_the_latest_turns_that_fit_the_context_are_read(turns, most, tells):
    """Whatever was said to whom, a model reads its question, and the most turns that fit since it dropped some."""
    narrow, shown, history, dropped = Narrow(most, tells=tells), [], (), {}
    backend = LatestTurns(narrow, shown.append)
    for name, words in turns:
        prompt = " ".join("x" * words)
        backend.complete(ModelSpec(name, Path(f"{name}.gguf")), Question(prompt, history=history))
        first = dropped.get(name, 0)
        while sum(len(text.split()) for turn in history[first:] for text in turn) + words > most:
            first += 1
        dropped[name] = first
        assert narrow.read[-1] == (name, len(history) - first)
        history = (*history, (prompt, "a b"))
    assert len(shown) == sum(first > 0 for first in dropped.values())


def test_a_long_conversation_is_shortened_in_few_attempts():
    attempts = []

    class Counted(Narrow):
        def complete(self, model, question, on_text=None, on_thinking=None):
            attempts.append(len(question.history))
            return super().complete(model, question, on_text)

    backend, history = LatestTurns(Counted(100), [].append), (("x x", "a b"),) * 10_000
    for _ in range(2):
        backend.complete(ModelSpec("m", Path("m.gguf")), Question("x x x x", history=history))
    assert attempts[-2:] == [24, 24]
    assert len(attempts) < 20


def test_a_question_longer_than_the_context_is_an_error():
    backend, model = LatestTurns(Narrow(3), print), ModelSpec("m", Path("m.gguf"))
    with pytest.raises(PromptTooLongError, match="4 words"):
        backend.complete(model, Question("a b c d"))
    backend.close()
    with pytest.raises(PromptTooLongError):
        backend.complete(model, Question("a"))


@pytest.mark.parametrize(("template", "max_tokens"), [(None, 64), ("as it is", 64), ("as it is", 4)])
def test_a_long_conversation_outgrows_a_real_context_and_goes_on(template, max_tokens, tmp_path):
    """A conversation goes on for ever; the answer has a quarter of the context, or what it may take at most."""
    pytest.importorskip("llama_cpp")
    path = write_gguf(tmp_path / "rote.gguf", says(b"hey"))
    made = None if template is None else "{% for m in messages %}{{ m.content }}{% endfor %}"
    model = ModelSpec("rote", path, 64, chat_template=made, max_tokens=max_tokens, temperature=0.0)
    shown, history, read = [], (), []
    with LlamaCpp() as llama:
        backend = LatestTurns(llama, shown.append)
        for _ in range(12):
            answered = backend.complete(model, Question("x" * 11, history=history))
            assert template or answered.answer == "hey"
            read.append(answered.tokens_in)
            history = (*history, ("x" * 11, "hey"))
        room = min(max_tokens, 16)
        turn = read[1] - read[0]
        assert max(read) <= 64 + 1 - room < max(read) + turn
        assert read[-3:] == [max(read)] * 3
        left = 65 - max(read) - turn
        says_so = f"the conversation leaves {left} of 64 tokens" if left > 0 else "the prompt has"
        with pytest.raises(PromptTooLongError, match=says_so):
            llama.complete(model, Question("x" * 11, history=history[: read.index(max(read)) + 1]))
        assert llama.complete(model, Question("x" * 40)).tokens_in > 64 - 24  # a question alone may fill it
    assert shown == ["the conversation is longer than the context of model 'rote': it no longer sees the oldest turns"]
