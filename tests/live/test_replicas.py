"""Several routers on one state on PostgreSQL: what they decide and learn together is what one router would."""

from __future__ import annotations

import dataclasses
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import pytest

from messctl.backends import Scripted
from messctl.costs.meter_choice import meter_for
from messctl.errors import StoreError
from messctl.live.router import Router
from messctl.live.stored_policy import StoredPolicy
from messctl.records import Question
from messctl.state.store import Store
from messctl.zoo import PACKAGED_FILE, load_zoo

REPLICAS, REQUESTS = 4, 40
POLICIES = ("messplus", "bandit")


class Recorded(StoredPolicy):
    """A policy that notes what it decides and learns, each with its place in the order of all transactions."""

    seen: list

    def decide(self, request):
        decision = super().decide(request)
        self._note("decide", request, decision)
        return decision

    def learn(self, decision, *feedback, **options):
        super().learn(decision, *feedback, **options)
        self._note("learn", decision, *feedback)

    def _note(self, *what):
        place = self._store.database.row("SELECT writes FROM state")[0]
        self.seen.append((place, len(self.seen), what))


def routers(places, policy):
    zoo = load_zoo(PACKAGED_FILE)
    models = {model.name: model for model in zoo.models}
    settings = replace(zoo.settings, policy=policy, asks=1)
    for place in places:
        store = Store(place)
        answers = Scripted({name: f"{index}" for index, name in enumerate(models)})
        yield Router(models, settings, answers, meter_for(zoo), store), store


def flat(snapshot):
    """Return all of a snapshot, comparable to the last bit."""

    def plain(value):
        if dataclasses.is_dataclass(value):
            return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
        if hasattr(value, "items"):
            return {name: plain(each) for name, each in sorted(value.items())}
        return (value.shape, value.dtype.str, value.tobytes()) if hasattr(value, "tobytes") else repr(value)

    return plain(snapshot)


def test_what_four_replicas_decide_and_learn_is_what_one_router_would(postgres, tmp_path, policy):
    place, seen, together = postgres.fresh(), [], threading.Barrier(REPLICAS)
    opened = list(routers([place] * REPLICAS, policy))

    def work(number):
        router = opened[number][0]
        router._policy.__class__, router._policy.seen = Recorded, seen
        rng, given = random.Random(number), []
        router.prepare()
        together.wait()
        for index in range(REQUESTS):
            request_id = f"r{number}-{index}"
            router.ask(Question(f"What is {rng.randrange(99)} + {rng.randrange(9)}?"), request_id=request_id)
            given.append(request_id)
            if rng.random() < 0.7:
                router.feedback(given.pop(rng.randrange(len(given))), float(rng.random() < 0.6))

    with ThreadPoolExecutor(REPLICAS) as pool:
        for done in [pool.submit(work, number) for number in range(REPLICAS)]:
            done.result()
    order = [what for _, _, what in sorted(seen, key=lambda each: each[:2])]
    stored = opened[0][1]
    assert stored.check() == []
    assert stored.requests.count() == REPLICAS * REQUESTS
    switches = [next(index for index in range(REPLICAS) if f"r{index}-" in str(what[1])) for what in order]
    assert sum(one != other for one, other in pairwise(switches)) > REPLICAS  # they took turns

    ((one, alone),) = routers([tmp_path / "alone"], policy)
    for kind, *given in order:
        with alone.transaction():
            if kind == "decide":
                request, decision = given
                assert flat(one._policy.decide(request)) == flat(decision)
            else:
                one._policy.learn(*given)
    assert flat(alone.policy.snapshot(policy)) == flat(stored.policy.snapshot(policy))
    assert alone.policy.queue() == stored.policy.queue() == stored.requests.queue()
    for _, store in [*opened, (one, alone)]:
        store.close()


@pytest.mark.parametrize("policy", POLICIES)
def test_a_lesson_that_was_undone_is_forgotten_by_who_learned_it(place, tmp_path, policy, monkeypatch):
    """Also if another process has learned as much since: both know what a history without that lesson gives."""

    def told(where, *, undone):
        (one, first), (other, second) = routers([where, where], policy)
        ids = []
        for number, router in enumerate([one, other, one, one]):
            asked = router.ask(Question(f"What is {number} + 1?"), request_id=f"r{number}")
            ids.append(asked.decision.request.request_id)
        if undone:
            learn = one._policy.learn_feedback

            def learn_and_fail(*arguments):
                learn(*arguments)
                raise StoreError("the disk is full")

            with monkeypatch.context() as failing, pytest.raises(StoreError):
                failing.setattr(one._policy, "learn_feedback", learn_and_fail)
                one.feedback(ids[0], 0.0)
        other.feedback(ids[1], 1.0)
        one.feedback(ids[2], 1.0)
        one.feedback(ids[3], 0.5)
        known = flat(second.policy.snapshot(policy))
        first.close()
        second.close()
        return known

    assert told(place, undone=True) == told(tmp_path / "plain.sqlite", undone=False)


@pytest.mark.parametrize("looking", [True, False])
def test_a_state_on_postgres_is_the_same_after_a_copy_into_memory(place, looking):
    ((router, store),) = routers([place], "messplus")
    for number in range(5):
        router.ask(Question(f"What is {number} + 1?"), grader=lambda _, number=number: float(number % 2))
    with Store(place, looking=looking) as opened, opened.in_memory() as copy:
        assert copy.check() == []
        assert flat(copy.policy.snapshot("messplus")) == flat(store.policy.snapshot("messplus"))
        assert [flat(each) for each in copy.requests] == [flat(each) for each in store.requests]
    store.close()
