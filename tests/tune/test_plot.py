"""The plot of a search."""

import numpy as np
import pytest
from making import learnable, make_recording, make_rounds
from pictures import assert_apart

from messctl.display.plotting import DARK, LIGHT
from messctl.replay.holdout import Holdout
from messctl.replay.loading import load
from messctl.replay.result import Conditions
from messctl.tune import choose, play_yardsticks, search
from messctl.tune import plot as plots
from messctl.tune.space import parse_space
from messctl.tune.tuning import Tuning
from messctl.zoo import Settings


def tuned(recordings, alphas="0.7", policies=("messplus", "bandit"), seeds=2):
    space = parse_space(Settings(), policies, alpha=[alphas], v=["auto,0.03,0.3"], c=["0.1"], margin=["0,0.02"])
    found = search(recordings, space.settings(Settings()), Conditions(seeds, shuffle=True), Holdout())
    choices = choose(found)
    return Tuning(found, choices, tuple(play_yardsticks(found, choice.alpha) for choice in choices))


@pytest.fixture(scope="module")
def tuning():
    return tuned([make_recording(learnable(400))])


def crowded(models, requests=300):
    """Return rounds of many models with long names, of which most cost and satisfy nearly the same."""
    draw = np.random.default_rng(7)
    quality = np.linspace(0.7, 0.85, models)[None] + 0.02 * draw.random((1, models))
    cost = np.geomspace(1.0, 40.0, models).round() + 0.0 * draw.random((requests, 1))
    satisfied = (draw.random((requests, models)) < quality).astype(float)
    return make_rounds(satisfied.tolist(), cost.tolist(), [f"maker/model-of-kind-{k}" for k in range(models)])


SEARCHES = {
    "one α": (lambda: [learnable(300)], "0.8", ("messplus", "bandit")),
    "three α": (lambda: [learnable(300)], "0.7,0.8,0.85", ("messplus", "bandit")),
    "two traces": (lambda: [learnable(300), crowded(4)], "0.7", ("messplus",)),
    "twelve models": (lambda: [crowded(12)], "0.75", ("messplus", "bandit")),
    "nothing keeps it": (lambda: [crowded(3)], "0.99", ("messplus",)),
    "single models": (lambda: [crowded(3)], "0.7", ("always:maker/model-of-kind-0", "always:maker/model-of-kind-2")),
}


@pytest.mark.slow
@pytest.mark.parametrize(("rounds", "alphas", "policies"), SEARCHES.values(), ids=SEARCHES)
def test_no_label_lies_on_another_or_leaves_the_picture(rounds, alphas, policies):
    recordings = [make_recording(each, f"trace-{k}.parquet") for k, each in enumerate(rounds())]
    tuning = tuned(recordings, alphas, policies)
    for look in (LIGHT, DARK):
        assert_apart(plots.drawn(tuning, look))


@pytest.mark.slow
def test_no_label_of_the_box_lies_on_another(root):
    assert_apart(plots.drawn(tuned([load(root / "traces" / "box.parquet", None)], "0.6,0.85")))


def points(axes):
    return {(float(x), float(y)) for line in axes.lines for x, y in zip(*line.get_data(), strict=True)}


def test_the_front_is_drawn_on_the_part_that_it_was_chosen_on_with_what_was_held_out_beside_it(tuning):
    drawn = points(plots.drawn(tuning).axes[0])
    (choice,) = tuning.choices
    for part in (choice.chosen.selection[0], choice.chosen.held_out[0]):
        assert (part.cost, part.attained) in drawn
    for policy in ("messplus", "bandit"):
        mine = [trial.selection[0] for trial in choice.trials if trial.settings.policy == policy]
        best = max(mine, key=lambda figures: (figures.attained, -figures.cost))
        assert (best.cost, best.attained) in drawn


def test_the_picture_names_the_choice_the_policies_and_the_replayed_command(tuning):
    figure = plots.drawn(tuning)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert {"messplus", "bandit", "static-mix", "α = 0.7"} <= set(texts)
    assert any(text.startswith(f"chosen: {tuning.chosen.settings.policy}, V = ") for text in texts)
    command = " ".join(figure.get_supxlabel().split())
    assert command.startswith("messctl replay ")
    assert f"--policy {tuning.chosen.settings.policy}" in command


def test_costs_that_span_a_factor_of_ten_are_drawn_on_a_logarithmic_axis():
    for factor, scale in ((2.0, "linear"), (100.0, "log")):
        rounds = make_rounds([[0, 1], [1, 1]] * 60, [[1.0, factor]] * 120, ["small", "large"])
        tuning = tuned([make_recording(rounds)], "0.5", ("always:small", "always:large"))
        assert plots.drawn(tuning).axes[0].get_xscale() == scale


def test_a_search_that_keeps_nothing_shows_the_closest_setting():
    figure = plots.drawn(tuned([make_recording(crowded(2))], "0.99", ("messplus",)))
    assert "no setting keeps it" in figure.axes[0].get_title(loc="left")
    assert any(text.get_text().startswith("closest: messplus") for text in figure.axes[0].texts)
