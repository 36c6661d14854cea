"""Routers with different settings on one state: each goes on from what the others stored, and nothing of it is lost."""

from contextlib import closing
from dataclasses import replace

import pytest

from messctl.backends import Scripted
from messctl.costs.meter_choice import meter_for
from messctl.live.router import Router
from messctl.records import Question
from messctl.state.store import Store
from messctl.zoo import PACKAGED_FILE, load_zoo

SETTINGS = load_zoo(PACKAGED_FILE).settings
TURNS = 24
WORDS = ("stone", "lamp", "river", "is", "what")
"""Prompts that differ in few features, so that a lesson changes only a part of a large array."""


def router_on(store, left_out=0, **changes):
    """Return a router over the zoo in the box, without some of its models, with changes to its settings."""
    zoo = load_zoo(PACKAGED_FILE)
    models = {model.name: model for model in zoo.models[left_out:]}
    backend = Scripted(dict.fromkeys(models, "42"), logprob=-0.5)
    return Router(models, replace(SETTINGS, policy="bandit", **changes), backend, meter_for(zoo), store)


def take_turns(place, unlike, *, anew):
    """Let two routers ask in turns, each opened `anew` for every request or once; return which models served."""
    kept, decisions = {}, []
    for turn in range(TURNS):
        changes = ({}, unlike)[turn % 2]
        if anew or turn < 2:
            kept[turn % 2] = store = Store(place)
            kept["router", turn % 2] = router_on(store, **changes)
        router = kept["router", turn % 2]
        question = Question(WORDS[turn % len(WORDS)], max_tokens=4)
        decisions.append(router.ask(question, request_id=f"r{turn:02}").decision.served)
        router.feedback(f"r{turn:02}", float(turn % 3 > 0))
        if anew or turn >= TURNS - 2:
            kept[turn % 2].close()
    return decisions


@pytest.mark.parametrize(
    "unlike", [{"left_out": 1}, {"asks": 3}], ids=["one knows fewer models", "one asks more models"]
)
def test_routers_that_do_not_know_the_same_take_turns(places, unlike):
    """What a router keeps in memory between requests changes nothing: one that reads all each time decides the same."""
    place, other = places(), places()
    assert take_turns(place, unlike, anew=False) == take_turns(other, unlike, anew=True)
    with closing(Store(place)) as store:
        assert store.check() == []
