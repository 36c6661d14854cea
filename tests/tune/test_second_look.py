"""What `tune` says of a second look: it plays the chosen router again, and names what that saves."""

from dataclasses import replace

import numpy as np
import pytest
from making import learnable, make_recording, telling
from rich.console import Console

from messctl.policies.base import Answers
from messctl.replay.holdout import Holdout
from messctl.replay.play import replay
from messctl.replay.result import Conditions
from messctl.tune import Space, choose, report, search
from messctl.tune.dominated import without
from messctl.tune.second_look import ASKS, second_looks
from messctl.tune.tuning import concluded
from messctl.zoo import Settings

SPACE = Space(alpha=(0.8,), v=(0.3,), c=(0.1,), exponent=(0.25,), policies=("bandit",))


def easy(n=600):
    """Rounds in which each cheap model is right as a coin falls, right answers are equal and wrong ones are not."""
    rounds, generator = learnable(n), np.random.default_rng(1)
    satisfied = (generator.random((n, 3)) < [0.95, 0.7, 0.7]).astype(float)  # large, middle, small
    cost = np.tile([100.0, 2.0, 1.0], (n, 1))
    rounds = replace(rounds, satisfied=satisfied, cost=cost)
    group = np.where(satisfied > 0.5, 0, 1 + np.arange(3)).astype(np.int64)
    logprob = -np.exp(generator.normal(np.where(satisfied > 0.5, -4.0, 0.0), 0.3))
    return replace(rounds, answers=Answers(group, logprob))


def tuned(rounds, space=SPACE, **base):
    recording = make_recording(rounds)
    found = search([recording], space.settings(Settings(**base)), Conditions(seeds=2, shuffle=True), Holdout())
    return recording, found


def test_what_a_second_look_saves_is_what_a_replay_with_it_costs_less():
    recording, found = tuned(easy())
    (choice,) = choose(found, slack=0.1)
    (look,) = second_looks(found, choice)
    settings = choice.chosen.settings
    costs = [
        replay(recording, ["bandit"], replace(settings, asks=asks), found.conditions).results[0].mean_cost
        for asks in (1, ASKS)
    ]
    assert look.saved == pytest.approx(1.0 - costs[1] / costs[0])
    assert look.saved > 0.1
    assert look.words == f"a second look would save {look.saved:.0%}: asks: 3"


SILENT = {
    "the trace has no answers": lambda rounds: replace(rounds, answers=None),
    "no two answers are equal, and nothing else is known": lambda rounds: replace(
        rounds,
        answers=Answers(np.tile(np.arange(3), (len(rounds), 1)), np.full(rounds.satisfied.shape, np.nan)),
    ),
}


@pytest.mark.parametrize("case", SILENT)
def test_nothing_is_said_if(case):
    _, found = tuned(SILENT[case](easy()))
    (choice,) = choose(found, slack=0.2)
    assert second_looks(found, choice) == (None,)


def test_nothing_is_said_of_a_router_that_looks_already_and_of_a_single_model():
    for space, base in ((SPACE, {"asks": 3}), (replace(SPACE, policies=("always:large",)), {})):
        _, found = tuned(easy(200), space, **base)
        for choice in choose(found, slack=0.3):
            assert choice.chosen is None or second_looks(found, choice) == (None,)


def test_the_search_itself_asks_one_model_unless_the_zoo_says_otherwise():
    (_, once), (_, thrice) = tuned(easy(200)), tuned(easy(200), asks=3)
    _, silent = tuned(replace(easy(200), answers=None))
    assert once.scores[0].cost.tobytes() == silent.scores[0].cost.tobytes()
    assert once.scores[0].cost.tobytes() != thrice.scores[0].cost.tobytes()


def test_a_zoo_without_some_models_has_no_answers_of_theirs():
    rounds = telling(learnable(50))
    left = without(rounds, {"middle": "large"})
    assert left.answers.group.tolist() == rounds.answers.group[:, [0, 2]].tolist()
    assert left.answers.logprob.tobytes() == np.ascontiguousarray(rounds.answers.logprob[:, [0, 2]]).tobytes()


def test_the_table_and_the_document_name_it():
    _, found = tuned(easy())
    tuning = concluded(found, 0.1, None, lambda _: None)
    (document,) = report.document(tuning)["choices"]
    (look,) = tuning.looks[0]
    assert document["second_look"] == [{"asks": 3, "saved": look.saved}]
    screen = Console(width=160, record=True)
    screen.print(report.table(tuning, 160))
    assert f"  {look.words}\n" in screen.export_text().replace(" \n", "\n")
