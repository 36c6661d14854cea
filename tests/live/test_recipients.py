"""Who waits for an answer sees that answer's parts alone, and may leave; a request is held against each model first."""

from contextlib import nullcontext

import pytest
from live_making import STATED

from messctl.backends import Scripted
from messctl.costs.meter_choice import meter_for
from messctl.errors import PromptTooLongError, UnfitError
from messctl.live.router import Router
from messctl.records import Chat, LeftError, Question
from messctl.state.store import Store
from messctl.zoo import load_zoo

CHEAP, DEAR = "cheap[red]", "dear"
ALWAYS_EXPLORES = STATED.replace("router: {v: 0.2, c: 0}", "router: {policy: messplus, v: 0.2, c: 1, exponent: 0}")


class Client:
    """Somebody who waits, and leaves when as many checks have been made as they have patience for."""

    shown = False

    def __init__(self, patience=10**9):
        self.taken, self._patience = [], patience

    def check(self):
        self._patience -= 1
        if self._patience < 0:
            raise LeftError

    def cutting(self, cut):
        return nullcontext()

    def take(self, part):
        self.taken.append(part)


@pytest.fixture
def router(tmp_path, place):
    stores = []

    def make(zoo=ALWAYS_EXPLORES, answers=lambda model, _: f"{model.name} says so"):
        def answer(model, question):
            if question.recipient is not None:
                question.recipient.take({"index": 0, "delta": {"tool_calls": [{"id": model.name}]}})
            return answers(model, question)

        (tmp_path / "zoo.yaml").write_text(zoo)
        described = load_zoo(tmp_path / "zoo.yaml")
        stores.append(Store(place))
        models = {model.name: model for model in described.models}
        return Router(models, described.settings, Scripted(answer), meter_for(described), stores[-1])

    yield make
    for store in stores:
        store.close()


def chat(text="one", **parameters):
    return Chat(({"role": "user", "content": text},), parameters)


def test_parts_of_models_that_are_asked_to_learn_are_not_shown(router):
    recipient = Client()
    answered = router().ask(Question("one", recipient=recipient, chat=chat(n=1)), grader=lambda _: 1.0)
    assert set(answered.decision.queried) == {CHEAP, DEAR}
    assert [part["delta"]["tool_calls"][0]["id"] for part in recipient.taken] == [answered.decision.served]


def test_who_leaves_ends_the_answer_and_nothing_is_learned(router):
    made = router(STATED)
    with pytest.raises(LeftError):
        made.ask(Question("one", recipient=Client(1)))
    ledger = made.ledger()
    assert (ledger.answered, ledger.unanswered, dict(ledger.lost)) == (0, 1, {})


@pytest.mark.parametrize("model", [None, CHEAP])
def test_what_no_model_can_serve_is_told_before_any_is_asked(router, model):
    made = router(STATED)
    with pytest.raises(UnfitError, match="`tools`") as raised:
        made.ask(Question("one", chat=chat(tools=[{"type": "function"}])), model=model)
    assert (raised.value.field, raised.value.too_long) == ("tools", False)
    assert made.ledger().unanswered == 0


def test_a_chat_that_is_too_long_for_every_model_says_so(router):
    with pytest.raises(UnfitError) as raised:
        router(STATED).ask(Question("one", chat=chat("word " * 50_000)))
    assert raised.value.too_long


def test_if_all_models_find_the_prompt_too_long_so_does_the_router(router):
    def too_long(model, _):
        raise PromptTooLongError(f"{model.name}: too long")

    with pytest.raises(PromptTooLongError, match="no model could answer"):
        router(STATED, too_long).ask(Question("one", chat=chat()))
