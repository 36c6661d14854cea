"""What a search is sure of if other prompts come."""

import numpy as np
import pytest
from making import make_recording, make_rounds

from messctl.replay.holdout import Holdout
from messctl.replay.result import Conditions
from messctl.tune import choose, search
from messctl.tune.certainty import Sample
from messctl.tune.report import verdict
from messctl.tune.space import parse_space
from messctl.tune.tuning import Tuning
from messctl.tune.windows import HELD_OUT, SELECTION, WHOLE
from messctl.zoo import Settings


def sample(right, of, **more):
    satisfied = np.array([[1.0]] * right + [[0.0]] * (of - right))
    return Sample.of(satisfied, 0.3, **({"rate": 1.0, "seeds": 10, "varies": False} | more))


def sure(right, of, **more):
    share = np.array([right / of])
    return sample(right, of, **more).bound(share, share, learns=False, gain=0.0)


@pytest.mark.parametrize(("right", "of", "expected"), [(30, 40, 0.624), (3000, 4000, 0.7386), (40, 40, 0.9366)])
def test_few_prompts_support_less_than_they_attained(right, of, expected):
    assert sure(right, of) == pytest.approx(expected, abs=5e-4)


def test_the_bound_holds_for_most_draws_of_prompts():
    draw = np.random.default_rng(5)
    for chance in (0.6, 0.9):
        bounds = [sure(max(1, int(draw.binomial(60, chance))), 60) for _ in range(2000)]
        assert 0.92 < np.mean(np.array(bounds) <= chance) < 0.99


def test_half_of_the_feedback_says_half_as_much():
    assert sure(30, 40, rate=0.5) == pytest.approx(sure(15, 20))


def test_scores_that_vary_little_say_more():
    scores = np.clip(np.random.default_rng(1).normal(0.75, 0.05, (40, 1)), 0.0, 1.0)
    narrow, mean = Sample.of(scores, 0.3, rate=1.0, seeds=1, varies=False), np.array([scores.mean()])
    assert narrow.bound(mean, mean, learns=False, gain=0.0) > 0.72


def test_seeds_that_hold_out_other_requests_see_more_of_them():
    once, often = sample(30, 40), sample(30, 40, varies=True)
    assert once.outcomes[HELD_OUT] == pytest.approx(12.0)
    assert 30.0 < often.outcomes[HELD_OUT] < often.outcomes[SELECTION] < often.outcomes[WHOLE] == pytest.approx(40.0)


def test_as_many_requests_as_needed_are_enough():
    for alpha in (0.65, 0.7, 0.74):
        needed = sample(30, 40).needed(0.75, alpha)
        share, more = np.array([0.75]), sample(round(0.75 * needed), needed)
        assert more.bound(share, share, learns=False, gain=0.0) == pytest.approx(alpha, abs=1e-3)
    assert sample(30, 40).needed(0.75, 0.75) is None


def forty(draw):
    """Return a recording of 40 prompts; the best model is right for 30."""
    satisfied = np.zeros((40, 2))
    satisfied[draw.permutation(40)[:20], 0], satisfied[draw.permutation(40)[:30], 1] = 1.0, 1.0
    return make_recording(make_rounds(satisfied.tolist(), [[1.0, 3.0]] * 40, ["small", "large"]))


@pytest.mark.parametrize("shuffle", [True, False])
def test_no_policy_promises_more_than_forty_prompts_support(shuffle):
    settings = parse_space(
        Settings(), ["always:large", "bandit", "messplus"], alpha=["0.64"], v=["auto,0.1"], margin=["0"], c=["0.1"]
    ).settings(Settings())
    for seed in range(3):
        found = search([forty(np.random.default_rng(seed))], settings, Conditions(seeds=6, shuffle=shuffle), Holdout())
        (choice,) = choose(found)
        assert choice.chosen is None
        assert max(trial.attainable for trial in choice.trials) <= 0.63
        text = "\n".join(map(str, verdict(Tuning(found, (choice,), ((),)), choice, ((),))))
        assert "no setting keeps it" in text
        assert "40 requests cannot show that it is kept with other prompts; about 51 like these could" in text or (
            choice.closest.needed[0] is not None and f"about {choice.closest.needed[0]:,} like these could" in text
        )


def test_the_held_out_verdict_has_an_interval():
    recording = make_recording(make_rounds([[1, 1], [0, 1]] * 200, [[1.0, 3.0]] * 400, ["small", "large"]))
    settings = parse_space(Settings(), ["messplus"], alpha=["0.7"], v=["0.1"], margin=["0"], c=["0.1"])
    found = search([recording], settings.settings(Settings()), Conditions(seeds=3, shuffle=True), Holdout())
    (choice,) = choose(found, slack=0.2)
    figures = choice.chosen.held_out[0]
    assert figures.attained_low < figures.attained < figures.attained_high
    lines = [str(line) for line in verdict(Tuning(found, (choice,), ((),)), choice, ((),))]
    assert f"(95 %: {figures.attained_low:.4f} to {figures.attained_high:.4f})" in lines[1]
