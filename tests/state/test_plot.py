"""The plot of a state, and what is read for it."""

import random

import numpy as np
import pytest
from long_states import judged
from pictures import assert_apart

from messctl.display.plotting import DARK, LIGHT
from messctl.records import Decision, Outcome, Request
from messctl.state import plot as plots
from messctl.state.course import WINDOWS
from messctl.state.request_log import Circumstances
from messctl.state.store import Store


def logged(store, served, *, unit="J", answered=1.0, feedback=0.9, alpha=0.8):
    """Log a request for each model that served; some have no answer, and some no feedback."""
    rng = random.Random(3)
    with store.transaction():
        for number, model in enumerate(served):
            request_id = f"{unit}{number}"
            decision = Decision(Request(request_id, "a prompt"), number + 1, model, (model,), 0.5)
            store.requests.add(decision, Circumstances("bandit", alpha, unit, "a test"))
            if rng.random() < answered:
                cost = 1.0 + len(model)
                store.requests.add_answers(request_id, {model: Outcome(cost=cost, tokens_in=3, answer="yes")})
                if rng.random() < feedback:
                    store.requests.set_feedback(request_id, {model: float(rng.random() < 0.85)}, model)
    return store


def models(count, requests=400):
    return [f"maker/model-of-kind-{number * 7 % count}" for number in range(requests)]


STATES = {
    "empty": lambda store: store,
    "one request": lambda store: logged(store, ["a"], feedback=0.0),
    "two models": lambda store: logged(store, models(2)),
    "twelve models": lambda store: logged(store, models(12), answered=0.8),
    "no answer": lambda store: logged(store, models(2, 30), answered=0.0),
    "three units": lambda store: logged(logged(logged(store, models(2)), models(2), unit="USD"), ["c"], unit="s"),
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_no_label_lies_on_another_or_leaves_the_picture(state, place):
    with state(Store(place)) as store:
        for look in (LIGHT, DARK):
            assert_apart(plots.drawn(store.course(), 0.8, look))


def test_every_unit_of_cost_has_a_line_of_its_own_colour_up_to_what_was_spent(place):
    with logged(logged(logged(Store(place), ["a", "b"]), ["a"], unit="USD"), ["c"], unit="s") as store:
        course = store.course()
        lines = plots.drawn(course, 0.8).axes[2].lines
        spent = [sum(course.spent[unit]) for unit in sorted(course.spent)]
        assert [line.get_ydata()[-1] for line in lines] == pytest.approx(spent)
        assert len({line.get_color() for line in lines}) == 3


def test_the_course_adds_up_to_the_log(place):
    served = models(3, 500)
    with logged(Store(place), served, answered=0.7) as store:
        course, answered = store.course(), [each for each in store.requests if each.answers]
        names = [each.decision.served for each in answered]
        assert {name: sum(each) for name, each in course.served.items()} == {name: names.count(name) for name in names}
        costs = sum(outcome.cost for each in answered for outcome in each.answers.values())
        assert sum(course.spent["J"]) == pytest.approx(costs)
        assert {len(each) for each in course.served.values()} == {WINDOWS}
        assert course.points[-1].judged == sum(each.satisfied is not None for each in answered)
        assert course.mean_cost[names[0]] == 1.0 + len(names[0])


def test_windows_have_equally_many_requests(place):
    with logged(Store(place), models(2, 600)) as store:
        assert set(np.sum(list(store.course().served.values()), axis=0)) == {600 / WINDOWS}


def test_a_long_log_is_thinned_out(place):
    with Store(place) as store:
        judged(store, [(0.8, float(number % 4 > 0)) for number in range(3000)])
        course = store.course()
        assert len(course.points) <= 402
        assert course.points[-1].queue == pytest.approx(store.requests.queue())


def test_the_newest_feedback_is_what_the_recursion_gives(place):
    with Store(place) as store:
        assert store.requests.judgements.recent(5) == []
        feedback = [(0.8, float(number % 5 > 0)) for number in range(1300)]
        judged(store, feedback)
        queues = [queue for _, queue in store.requests.judgements.recursion()]
        for count in (1, 100, 1300, 5000):
            recent = store.requests.judgements.recent(count)
            assert recent == list(zip([s for _, s in feedback], queues, strict=True))[-count:]
