"""Many threads on one router: what they decide and learn together is what it would do one by one, to the last bit."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from itertools import chain
from operator import itemgetter

import pytest

from messctl.backends import Scripted
from messctl.costs.load_costs import Loads
from messctl.costs.meter_choice import meter_for
from messctl.errors import StoreError, UsageError
from messctl.live.router import Router
from messctl.live.stored_policy import StoredPolicy
from messctl.records import Feedback, Question
from messctl.state.store import Store
from messctl.zoo import PACKAGED_FILE, load_zoo
from tests.live.test_replicas import flat

THREADS, REQUESTS = 12, 15
GRADED = 0.3
"""The part of the answers that a grader grades."""
UNDONE = 0.1
"""The part of the answers whose feedback cannot be stored."""


class Noted(Store):
    """A store that notes what its router decides and learns, in the order of the transactions; what is undone is not.

    `transactions` is their number.
    """

    def __init__(self, place):
        super().__init__(place)
        self.seen, self.transactions = [], 0

    @contextmanager
    def transaction(self, *, synced=False):
        with super().transaction(synced=synced):
            before = len(self.seen)
            try:
                yield
            except BaseException:
                del self.seen[before:]
                raise
            self.transactions += 1


class Noting(StoredPolicy):
    """The policy of such a store. It fails, after it has learned, for the request that is called `bad`."""

    def decide(self, request):
        decision = super().decide(request)
        self._store.seen.append(("decide", request, decision))
        return decision

    def overridden(self, request, model):
        decision = super().overridden(request, model)
        self._store.seen.append(("override", (request, model), decision))
        return decision

    def learn(self, decision, *feedback, **options):
        super().learn(decision, *feedback, **options)
        self._store.seen.append(("learn", (decision, *feedback), options))
        if decision.request.request_id.endswith("bad") and feedback and feedback[0].satisfied:
            raise StoreError("the disk is full")


def routed(store, policy, asks=1, shared=None):
    """Return a router over a store whose models answer at once."""
    zoo = load_zoo(PACKAGED_FILE)
    models = {model.name: model for model in zoo.models}
    settings = replace(zoo.settings, policy=policy, asks=asks)
    answers = Scripted({name: f"{index}" for index, name in enumerate(models)})
    return Router(models, settings, answers, meter_for(zoo), store, shared=shared)


def giving(grade):
    """Return a grader that gives every answer the same grade."""
    return lambda _: grade


def at_once(work):
    """Let many threads do work at once, each with its number and a generator of its own."""
    together = threading.Barrier(THREADS)

    def begin(number):
        rng = random.Random(number)
        together.wait()
        work(number, rng)

    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(begin, number) for number in range(THREADS)]:
            done.result()


def replay(seen, router):
    """Let another router decide and learn what a store has noted, one by one; check that it decides the same."""
    for kind, given, found in seen:
        with router._store.transaction():
            if kind == "decide":
                assert flat(router._policy.decide(given)) == flat(found)
            elif kind == "override":
                assert flat(router._policy.overridden(*given)) == flat(found)
            else:
                router._policy.learn(*given, **{**found, "corrected": False})


def test_what_many_threads_decide_and_learn_is_what_one_router_would(place, tmp_path, policy):
    """No feedback is corrected here, so queue and balance follow from the order of the lessons alone."""
    with Noted(place) as store, Noted(tmp_path / "alone") as alone:
        router, one = routed(store, policy), routed(alone, policy)
        router._policy.__class__ = Noting
        router.prepare()
        names, failures = list(router.zoo.models), []

        def work(number, rng):
            given = []
            for index in range(REQUESTS):
                request_id = f"r{number}-{index}" + ("-bad" if rng.random() < 0.1 else "")
                grader = giving(rng.random()) if rng.random() < GRADED and not request_id.endswith("bad") else None
                model = rng.choice(names) if rng.random() < 0.1 else None
                question = Question(f"What is {rng.randrange(99)} + 1?")
                router.ask(question, request_id=request_id, grader=grader, model=model)
                given += [] if grader else [request_id]
                if given and rng.random() < 0.8:
                    chosen = given.pop(rng.randrange(len(given)))
                    try:
                        router.feedback(chosen, float(rng.random() < 0.6), "why not")
                    except StoreError:
                        failures.append(chosen)
                if rng.random() < 0.2:
                    with pytest.raises(UsageError):
                        router.feedback(f"unknown-{number}", 1.0)

        at_once(work)
        assert all(chosen.endswith("bad") for chosen in failures)
        assert failures
        assert store.requests.count() == THREADS * REQUESTS
        assert store.transactions < len(store.seen)  # they shared some
        assert store.check() == []
        judged = [logged for logged in store.requests if logged.satisfied is not None]
        assert len(judged) == router.standing().judged
        assert not any(logged.decision.request.request_id.endswith("bad") for logged in judged)
        order = [
            given[0].request.request_id for kind, given, _ in store.seen if kind == "learn" and given[-1].satisfied
        ]
        assert order == [logged.decision.request.request_id for logged in sorted(judged, key=lambda each: each.judged)]
        replay(store.seen, one)
        assert flat(alone.policy.snapshot(policy)) == flat(store.policy.snapshot(policy))
        assert alone.policy.queue() == store.policy.queue() == store.requests.queue()


def test_corrections_of_many_threads_leave_the_queue_of_the_stored_order(place, policy):
    with Noted(place) as store:
        router = routed(store, policy)
        router.prepare()

        def work(number, rng):
            for index in range(REQUESTS):
                router.ask(Question(f"What is {index} + {number}?"), request_id=f"r{number}-{index}")
                for _ in range(2):
                    router.feedback(f"r{number}-{rng.randrange(index + 1)}", float(rng.random() < 0.6))

        at_once(work)
        assert store.check() == []
        assert store.policy.queue() == store.requests.queue()
        assert abs(store.policy.snapshot(policy).balance - store.requests.balance()) < 1e-9


def test_each_answer_tells_the_standing_at_its_place_in_the_order(tmp_path, policy):
    with Noted(tmp_path / "state") as store:
        router, told = routed(store, policy), []
        router.prepare()

        def work(number, rng):
            for index in range(REQUESTS):
                answered = router.ask(Question(f"What is {index}?"), grader=giving(float(rng.random() < 0.6)))
                told.append((answered.standing.judged, answered.standing.queue))

        at_once(work)
        course = [queue for _, queue in store.requests.judgements.recursion()]
        assert sorted(told) == [(number + 1, queue) for number, queue in enumerate(course)]


def test_two_routers_on_one_store_see_what_the_other_learned_in_the_same_transaction(tmp_path, policy):
    with Noted(tmp_path / "state") as store, Noted(tmp_path / "alone") as alone:
        routers = [routed(store, policy) for _ in range(2)]
        for router in routers:
            router._policy.__class__ = Noting
            router.prepare()

        def work(number, rng):
            for index in range(REQUESTS):
                router = rng.choice(routers)
                grader = giving(rng.random()) if rng.random() < 0.7 else None
                router.ask(Question(f"What is {index}?"), grader=grader)

        at_once(work)
        assert store.check() == []
        replay(store.seen, routed(alone, policy))
        assert flat(alone.policy.snapshot(policy)) == flat(store.policy.snapshot(policy))


def test_a_decision_that_is_undone_is_not_regretted(tmp_path, policy, monkeypatch):
    regretted = []
    monkeypatch.setattr(Loads, "add_regret", lambda _, decision: regretted.append(decision.request.request_id))
    with Store(tmp_path / "state") as store:
        router = routed(store, policy)
        router.ask(Question("What is 1?"), request_id="a")
        with pytest.raises(StoreError):
            router.ask(Question("What is 2?"), request_id="a")
        router.ask(Question("What is 3?"), request_id="b")
    assert regretted == ["a", "b"]


def test_what_is_undone_teaches_no_other_promise_anything(places, policy):
    with Store(places()) as store, Store(places()) as common:
        router = routed(store, policy, shared=common)
        router.ask(Question("What is 1?"), request_id="known")
        router.feedback("known", 1.0)
        with store.unchanging():
            logged = store.requests.find("known")
        before = flat(common.policy.snapshot(policy))
        with pytest.raises(StoreError, match="full"), store.transaction():
            router._policy.learn(logged.decision, Feedback(satisfied={logged.decision.served: 0.0}))
            raise StoreError("the disk is full")
        assert flat(common.policy.snapshot(policy)) == before
        router.ask(Question("What is 2?"), grader=giving(0.0))
        assert flat(common.policy.snapshot(policy)) != before


def test_what_the_threads_of_two_promises_learn_is_learned_in_one_order(places, policy):
    """What is shared is held until a transaction ends, so its transactions tell the order."""

    class Placed(list):
        def append(self, event):
            super().append((common.transactions, event))

    at = [places() for _ in range(6)]
    with ExitStack() as opened:
        *stores, common = [opened.enter_context(Noted(place)) for place in at[:3]]
        *others, alone = [opened.enter_context(Noted(place)) for place in at[3:]]
        routers = [routed(store, policy, shared=common) for store in stores]
        for router, store in zip(routers, stores, strict=True):
            store.seen = Placed()
            router._policy.__class__ = Noting
            router.prepare()

        def work(number, rng):
            router = routers[number % 2]
            for index in range(REQUESTS):
                bad = rng.random() < UNDONE
                request_id = f"{number % 2}-{number}-{index}{'-bad' * bad}"
                grader = giving(rng.random()) if not bad and rng.random() < GRADED else None
                router.ask(Question(f"What is {index}?"), request_id=request_id, grader=grader)
                if grader is None:
                    with pytest.raises(StoreError) if bad else nullcontext():
                        router.feedback(request_id, float(rng.random() < 0.6))

        at_once(work)
        ones = [routed(store, policy, shared=alone) for store in others]
        for _, event in sorted(chain(*(store.seen for store in stores)), key=itemgetter(0)):
            of = event[1] if event[0] == "decide" else event[1][0].request
            replay([event], ones[int(of.request_id[0])])
        for store, other in [*zip(stores, others, strict=True), (common, alone)]:
            assert store.check() == []
            assert flat(store.policy.snapshot(policy)) == flat(other.policy.snapshot(policy))
