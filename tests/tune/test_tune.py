"""The search, its choice, and a replay that confirms its numbers."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import learnable, make_recording, make_rounds

from messctl.errors import MessctlError, MissingExtraError, UsageError
from messctl.replay.holdout import Holdout
from messctl.replay.loading import load
from messctl.replay.play import replay
from messctl.replay.result import Conditions
from messctl.tune import Space, choose, parse_values, play_yardsticks, search
from messctl.tune import engine as engines
from messctl.tune.choice import DRIFT, Window
from messctl.tune.windows import HELD_OUT, SELECTION, STRETCHES, WHOLE, WINDOWS, parts, rows, windows
from messctl.zoo import Settings

SPACE = Space(alpha=(0.8, 0.9), v=(0.01, 0.3, 3.0), c=(0.1, 0.5), exponent=(0.25,))


def found_on(recording, conditions=None, holdout=None, space=SPACE, **options):
    base = Settings(seed=3, policy="messplus")
    return search([recording], space.settings(base), conditions or Conditions(seeds=3), holdout or Holdout(), **options)


def same(found, other):
    for scores, others in zip(found.scores, other.scores, strict=True):
        for name in ("attained", "cost", "debt"):
            assert getattr(scores, name).tobytes() == getattr(others, name).tobytes()


CONDITIONS = [
    (Conditions(seeds=3), Holdout(0.3)),
    (Conditions(seeds=2, shuffle=True), Holdout(0.5)),
    (Conditions(seeds=2, shuffle=True, feedback_rate=0.5, feedback_delay=3), Holdout(0.3, "hash")),
    (Conditions(seeds=2), Holdout(0.2, "hash")),
]


@pytest.mark.parametrize(("conditions", "holdout"), CONDITIONS)
@pytest.mark.parametrize("policy", ["messplus", "bandit"])
def test_a_replay_gives_the_numbers_of_the_search(conditions, holdout, policy):
    recording = make_recording(learnable(400, seed=1))
    settings = replace(SPACE, policies=(policy,), bandit_v=(None, 0.3)).settings(Settings(seed=3))
    assert len(settings) == (12 if policy == "messplus" else 4)
    found = search([recording], settings, conditions, holdout)
    assert found.complete_seeds().tolist() == list(range(conditions.seeds))
    for at in (0, len(settings) - 1):
        for part, how in ((WHOLE, None), (HELD_OUT, holdout)):
            result = replay(recording, [policy], settings[at], conditions, holdout=how).results[0]
            attained, cost = found.scores[0].attained[part, at], found.scores[0].cost[part, at]
            assert result.attained == pytest.approx(attained.mean(), rel=1e-12)
            assert result.mean_cost == pytest.approx(cost.mean(), rel=1e-12)
            assert result.attained_spread == pytest.approx(attained.std(ddof=1), rel=1e-9, abs=1e-15)
        answers = 400 if conditions.feedback_rate == 1 else None
        if answers:
            queue = replay(recording, [policy], settings[at], conditions).results[0].queue_final
            assert found.scores[0].debt[at].mean() * answers == pytest.approx(queue, rel=1e-12)


def test_selection_and_held_out_add_up_to_the_whole():
    scores = found_on(make_recording(learnable(400))).scores[0]
    whole = 0.7 * scores.cost[SELECTION] + 0.3 * scores.cost[HELD_OUT]
    assert whole == pytest.approx(scores.cost[WHOLE])


def test_the_choice_keeps_the_promise_and_a_replay_confirms_it(root):
    """On the whole trace in the box, `replay` attains the numbers of `tune`."""
    recording = load(root / "traces" / "box.parquet")
    space = Space(
        (0.8,), parse_values("--v", ["0.001:10:25"]), parse_values("--c", ["0.02,0.05,0.1,0.2,0.5,1"]), (0.25,)
    )
    for conditions in (Conditions(seeds=20), Conditions(seeds=20, shuffle=True)):
        found = search([recording], space.settings(Settings(policy="messplus")), conditions, Holdout())
        (choice,) = choose(found)
        trial = choice.chosen
        assert trial.held_out[0].attained >= 0.8 - 0.005
        assert trial.selection[0].attained_bound >= 0.8
        for level, how in ((trial.whole[0], None), (trial.held_out[0], Holdout())):
            result = replay(recording, ["messplus"], trial.settings, conditions, holdout=how).results[0]
            assert result.attained == pytest.approx(level.attained, rel=1e-12)
            assert result.mean_cost == pytest.approx(level.cost, rel=1e-12)
            assert result.mean_cost_spread == pytest.approx(level.cost_spread, rel=1e-9)
        cheaper = [each for each in choice.trials if each.relative_cost < trial.relative_cost]
        assert cheaper
        assert all(each.attainable < 0.8 for each in cheaper)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["loky", "ray"])
def test_all_engines_give_the_same_results(engine):
    if engine == "ray" and importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    recording = make_recording(learnable(300))
    with np.errstate(all="raise"):
        same(found_on(recording), found_on(recording, engine=engine))


def test_an_unknown_or_missing_engine_is_refused(monkeypatch):
    recording = make_recording(learnable(30))
    with pytest.raises(MessctlError, match="did you mean 'loky'"):
        found_on(recording, engine="loki")
    with pytest.raises(UsageError, match="--engine ray"):
        found_on(recording, address="10.0.0.1:6379")
    monkeypatch.setattr(engines, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(MissingExtraError, match=r"messctl\[ray\]"):
        found_on(recording, engine="ray")


def test_an_interrupted_search_counts_completed_seeds():
    def stop(done, total):
        assert total == 6
        if done == 5:
            raise KeyboardInterrupt

    found = found_on(make_recording(learnable(100)), progress=stop)
    assert found.interrupted
    assert found.complete_seeds().tolist() == [0, 1]
    assert [choice.seeds for choice in choose(found)] == [2, 2]
    found = found_on(make_recording(learnable(100)), progress=lambda done, _: stop(done + 2, 6))
    assert found.complete_seeds().tolist() == [0]
    assert [(choice.seeds, choice.closest.whole[0].attained_spread) for choice in choose(found)] == [(1, None)] * 2
    found = found_on(make_recording(learnable(100)), progress=lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert choose(found) == ()


def window(bound, alone=1.0):
    return Window(bound + 0.1, bound, alone)


@pytest.mark.parametrize(
    ("window", "attainable", "below"),
    [
        (window(0.7), 0.7 + DRIFT, 0.1),
        (window(0.7, 0.75), 0.7 + DRIFT, 0.05),
        (window(0.7, 0.7 + DRIFT), np.inf, DRIFT),
        (window(0.9, 0.8), np.inf, -0.1),
        (window(0.9), 0.9 + DRIFT, -0.1),
    ],
)
def test_a_window_requires_alpha_or_the_attainment_of_the_best_model(window, attainable, below):
    assert window.attainable == pytest.approx(attainable)
    assert window.below(0.8) == pytest.approx(below)


@pytest.mark.parametrize(("share", "length"), [(0.3, 3), (0.1, 1), (0.02, 1), (0.5, 7), (0.9, 7), (0.4, 5)])
def test_a_window_is_as_long_as_the_held_out_part(share, length):
    found = windows(Holdout(share))
    assert len(found) == STRETCHES - length + 1 == rows(Holdout(share)) - WINDOWS
    assert {len(each) for each in found} == {length}
    assert sorted({stretch for each in found for stretch in each}) == list(range(STRETCHES))


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_every_request_is_in_one_part(is_held_out):
    part = parts(np.array(is_held_out))
    assert (part == STRETCHES).tolist() == is_held_out
    others = part[part < STRETCHES]
    assert (np.diff(others) >= 0).all()
    sizes = np.bincount(others, minlength=STRETCHES)
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("conditions", [Conditions(seeds=2), Conditions(seeds=2, shuffle=True, feedback_rate=0.6)])
def test_the_best_single_model_attains_what_its_replay_does(conditions):
    recording = make_recording(learnable(300))
    scores = found_on(recording, conditions).scores[0]
    for k in range(2):
        rounds = recording.rounds.arranged(
            seed=3 + k, shuffle=conditions.shuffle, feedback_rate=conditions.feedback_rate, feedback_delay=0
        )
        has_feedback, satisfied = rounds.has_feedback, rounds.satisfied[rounds.order]
        first, second = slice(0, 90), slice(30, 120)  # the windows of 3 × 30 requests
        for row, part in ((WHOLE, slice(None)), (HELD_OUT, slice(210, None)), (WINDOWS, first), (WINDOWS + 1, second)):
            best = satisfied[part][has_feedback[part]].mean(axis=0).max()
            assert scores.best_single[row, k] == pytest.approx(best, rel=1e-12)
        played = replay(
            recording, ["messplus"], Settings(alpha=0.8, v=0.01, c=0.1, seed=3 + k), replace(conditions, seeds=1)
        )
        judged = played.played["messplus"].satisfied[first]
        assert scores.attained[WINDOWS, 0, k] == pytest.approx(np.nanmean(judged), rel=1e-12)


def test_a_setting_that_is_low_in_one_window_is_not_chosen():
    """Two settings keep α on average, but the cheaper one misses it in one window."""
    found = found_on(
        make_recording(learnable(60)), Conditions(seeds=4), space=Space((0.8,), (0.1, 0.2), (0.5,), (0.25,))
    )
    scores = found.scores[0]
    scores.attained[:], scores.best_single[:] = 0.82, 0.9
    scores.cost[:, 0], scores.cost[:, 1] = 2.0, 1.0
    assert choose(found)[0].chosen.settings.v == 0.2
    scores.attained[WINDOWS + 2, 1] = 0.75
    (choice,) = choose(found)
    assert choice.chosen.settings.v == 0.1
    assert choice.trials[1].worst[0].attained == 0.75
    assert choice.trials[1].attainable == pytest.approx(0.75 + DRIFT)
    assert choose(found, slack=0.05)[0].chosen.settings.v == 0.2
    scores.best_single[WINDOWS + 2] = 0.75  # no model does better there
    assert choose(found)[0].chosen.settings.v == 0.2


@pytest.mark.parametrize("policy", ["messplus", "bandit"])
def test_a_margin_means_the_same_as_in_replay(policy):
    recording = make_recording(learnable(300))
    space = replace(SPACE, policies=(policy,), bandit_v=(None,), margin=(0.0, 0.05))
    settings = space.settings(Settings(seed=3))
    assert {each.margin for each in settings} == {0.0, 0.05}
    found = search([recording], settings, Conditions(seeds=2), Holdout())
    for at, each in enumerate(settings):
        result = replay(recording, [policy], each, Conditions(seeds=2)).results[0]
        assert result.attained == pytest.approx(found.scores[0].attained[WHOLE, at].mean(), rel=1e-12)
        assert result.mean_cost == pytest.approx(found.scores[0].cost[WHOLE, at].mean(), rel=1e-12)


def test_one_lucky_seed_is_not_enough():
    """Two settings attain the same on average; the one that varies over the seeds is not chosen."""
    found = found_on(
        make_recording(learnable(60)), Conditions(seeds=4), space=Space((0.8,), (0.1, 0.2), (0.5,), (0.25,))
    )
    scores = found.scores[0]
    scores.best_single[:] = 1.0
    scores.attained[:, 0] = [0.82, 0.82, 0.82, 0.82]
    scores.attained[:, 1] = [1.0, 0.76, 0.76, 0.76]
    scores.cost[:, 0], scores.cost[:, 1] = 2.0, 1.0
    (choice,) = choose(found)
    assert choice.chosen.settings.v == 0.1
    assert [trial.settings.v for trial in choice.front] == [0.2, 0.1]
    assert choose(found, slack=0.2)[0].chosen.settings.v == 0.2
    with pytest.raises(UsageError, match="slack is -1"):
        choose(found, slack=-1.0)


def test_no_setting_beats_one_on_the_front():
    (choice, _) = choose(found_on(make_recording(learnable(500))))
    pairs = [(trial.relative_cost, trial.selection[0].attained) for trial in choice.front if trial is not choice.chosen]
    assert pairs == sorted(pairs)
    for trial in choice.trials:
        beaten = [pair for pair in pairs if trial.relative_cost < pair[0] and trial.selection[0].attained >= pair[1]]
        assert not beaten


def test_an_unattainable_alpha_has_no_choice_and_no_yardsticks():
    rounds = make_rounds([[0, 1], [0, 0]] * 30, [[1, 2]] * 60)
    found = found_on(make_recording(rounds), space=Space((1.0,), (0.1,), (0.5,), (0.25,)))
    (choice,) = choose(found)
    assert choice.chosen is None
    assert choice.closest.attainable < 1.0
    assert play_yardsticks(found, 1.0) == ((),)


def test_the_choice_keeps_the_promise_on_every_trace():
    easy = make_recording(make_rounds([[1, 1]] * 60, [[1, 2]] * 60))
    hard = make_recording(make_rounds([[0, 1], [1, 0]] * 30, [[1, 2]] * 60), "hard.parquet")
    space = Space((0.8,), (0.01, 0.1), (0.5,), (0.25,))
    settings = space.settings(Settings(policy="messplus"))
    (choice,) = choose(search([easy], settings, Conditions(seeds=2), Holdout()))
    assert choice.chosen
    (choice,) = choose(search([easy, hard], settings, Conditions(seeds=2), Holdout()))
    assert choice.chosen is None
    assert len(choice.closest.held_out) == 2


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["0.1,0.2"], (0.1, 0.2)),
        (["0.1", "0.2,0.1"], (0.1, 0.2)),
        (["0.01:1:3"], (0.01, 0.1, 1.0)),
        (["0", "1:10:2"], (0.0, 1.0, 10.0)),
    ],
)
def test_lists_and_grids_of_values_are_parsed(texts, expected):
    assert parse_values("--v", texts) == expected


@pytest.mark.parametrize("text", ["", "x", "1,", "1:2", "2:1:3", "0:1:3", "1:2:1", "1:2:3:4", "1:inf:3", "1:2:x"])
def test_invalid_lists_of_values_are_refused(text):
    with pytest.raises(UsageError, match="--v holds"):
        parse_values("--v", [text])
