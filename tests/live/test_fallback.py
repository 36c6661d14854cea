"""A router without its state: it routes by what was known, says so, and stores nothing."""

from contextlib import contextmanager
from dataclasses import replace

import pytest

from messctl.backends import Scripted
from messctl.costs.meter_choice import meter_for
from messctl.errors import StoreError
from messctl.live import fallback as fallback_module
from messctl.live.fallback import Fallback
from messctl.live.router import Router
from messctl.records import Question
from messctl.state.store import Store
from messctl.zoo import PACKAGED_FILE, load_zoo


@pytest.fixture
def away(monkeypatch, place):
    """A router, its state, and a switch by which the state goes away."""
    monkeypatch.setattr(fallback_module, "AGAIN_S", 0.0)
    zoo, store = load_zoo(PACKAGED_FILE), Store(place)
    models = {model.name: model for model in zoo.models}
    settings = replace(zoo.settings, policy="messplus", c=0.0)
    router = Router(models, settings, Scripted(dict.fromkeys(models, "42")), meter_for(zoo), store)
    tried = []

    def switch(gone):
        @contextmanager
        def failing(**_):
            tried.append(1)
            raise StoreError("postgresql://h/d: the server is away; try again")
            yield

        if gone:
            store.transaction = store.unchanging = failing
        else:
            del store.transaction, store.unchanging

    yield router, store, switch, tried
    store.close()


def asking(number):
    return lambda router: router.ask(Question(f"What is {number}?"), grader=lambda _: float(number % 3 > 0))


def test_without_its_state_a_router_goes_on_by_what_it_knew_and_stores_nothing(away):
    router, store, switch, _ = away
    told = []
    fallback = Fallback(router, told.append)
    for number in range(20):
        assert not fallback.answer(asking(number), lambda: False).degraded
    before, known = store.requests.count(), store.policy.snapshot("messplus")
    switch(True)
    answers = [fallback.answer(asking(number), lambda: False) for number in range(20, 26)]
    assert all(answered.degraded for answered in answers)
    assert [answered.decision.request_number for answered in answers] == list(range(21, 27))
    assert len(told) == 1
    assert "the server is away" in told[0]
    switch(False)
    assert (store.requests.count(), store.policy.snapshot("messplus").decided) == (before, known.decided)
    answered = fallback.answer(asking(26), lambda: False)
    assert (answered.degraded, answered.decision.request_number) == (False, 21)
    assert store.check() == []
    switch(True)
    assert fallback.answer(asking(27), lambda: False).decision.request_number == 22
    assert len(told) == 2


def test_while_one_request_looks_for_the_state_no_other_waits_for_it(away, monkeypatch):
    router, _, switch, tried = away
    fallback, others = Fallback(router), []
    fallback.answer(asking(1), lambda: False)
    switch(True)
    assert fallback.answer(asking(2), lambda: False).degraded
    monkeypatch.setattr(fallback_module, "AGAIN_S", 600.0)

    def looking(asked):
        if asked is router:  # it looks for the state, and takes its time
            before = len(tried)
            answered = fallback.answer(asking(3), lambda: False)
            others.append((answered.degraded, len(tried) - before))
        return asking(4)(asked)

    assert fallback.answer(looking, lambda: False).degraded
    assert others == [(True, 0)]


def test_the_first_decision_without_a_state_is_the_one_that_it_would_have_made(away):
    router, store, switch, _ = away
    for number in range(30):
        asking(number)(router)
    with store.in_memory() as copy:
        other = router._again(store=copy)
        expected = asking(30)(other).decision
    switch(True)
    decision = Fallback(router).answer(asking(30), lambda: False).decision
    assert (decision.served, decision.propensity, decision.queue) == (
        expected.served, expected.propensity, expected.queue
    )  # fmt: skip


def test_an_answer_that_was_begun_is_not_begun_again(away):
    router, _, switch, _ = away
    switch(True)
    with pytest.raises(StoreError, match="the server is away"):
        Fallback(router).answer(asking(1), lambda: True)


def test_the_state_is_tried_again_only_now_and_then(away, monkeypatch):
    router, _, switch, tried = away
    monkeypatch.setattr(fallback_module, "AGAIN_S", 3600.0)
    fallback = Fallback(router)
    switch(True)
    for number in range(5):
        assert fallback.answer(asking(number), lambda: False).degraded
    assert len(tried) == 1
