"""What a replay measures: conditions, results and their sums."""

import numpy as np
import pytest
from making import learnable, make_recording

from messctl.errors import MessctlError, UsageError
from messctl.policies import default_names
from messctl.replay.play import replay
from messctl.replay.result import Conditions
from messctl.zoo import Settings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": 0}, "seeds is 0"),
        ({"replicas": 0}, "replicas is 0"),
        ({"feedback_rate": 1.1}, "feedback-rate is 1.1"),
        ({"feedback_rate": float("nan")}, "feedback-rate is nan"),
        ({"feedback_delay": -1}, "feedback-delay is -1"),
    ],
)
def test_impossible_conditions_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        Conditions(**arguments)


def test_an_alpha_beyond_every_policy_names_the_best_model():
    recording = make_recording(learnable(200))
    reach = recording.rounds.satisfied.max(axis=1).mean()
    with pytest.raises(MessctlError, match=rf"{reach:.4f} can be attained; the best model, 'large', attains 0\."):
        replay(recording, ["messplus"], Settings(alpha=0.999), Conditions())


def test_the_numbers_of_a_result_agree_with_the_play():
    recording = make_recording(learnable(500))
    names = default_names(recording.rounds.zoo.models)
    outcome = replay(recording, [*names, "messplus"], Settings(alpha=0.85, c=0.5, policy="messplus"), Conditions())
    results = {result.policy: result for result in outcome.results}
    assert list(results) == names  # each once
    assert outcome.judged.policy == "messplus"
    router, large, mix = results["messplus"], results["always:large"], results["static-mix"]
    played = outcome.played["messplus"]
    assert router.attained == played.satisfied.mean() == router.attained_all
    assert router.total_cost == pytest.approx(played.cost.sum())
    assert router.mean_cost == pytest.approx(router.total_cost / 500)
    assert router.cost_vs_costliest == pytest.approx(router.mean_cost / large.mean_cost)
    assert router.cost_vs_static_mix == pytest.approx(router.mean_cost / mix.mean_cost)
    assert router.explored == played.explored.mean()
    assert router.certificate == pytest.approx(0.85 - router.queue_final / 500)
    assert router.v_per_cost_unit == pytest.approx(0.2 / np.nanmax(played.mean_cost[-1]), rel=0.01)
    assert (large.v, large.c, large.v_per_cost_unit) == (None, None, None)
    assert large.attained == recording.rounds.satisfied[:, 0].mean()
    assert large.model_share == {"large": 1.0, "middle": 0.0, "small": 0.0}
    served = {model: float((played.served == k).mean()) for k, model in enumerate(recording.rounds.zoo.models)}
    assert router.model_share == pytest.approx(served)


def test_results_of_several_seeds_are_means_with_spreads():
    recording, settings = make_recording(learnable(300)), Settings(alpha=0.85, seed=4)
    single = [
        replay(recording, ["messplus"], Settings(alpha=0.85, seed=seed), Conditions(shuffle=True)).results[0]
        for seed in (4, 5, 6)
    ]
    both = replay(recording, ["messplus", "static-mix"], settings, Conditions(seeds=3, shuffle=True)).results
    assert both[0].attained == pytest.approx(np.mean([result.attained for result in single]))
    assert both[0].mean_cost_spread == pytest.approx(np.std([result.mean_cost for result in single], ddof=1))
    assert both[0].attained_spread == pytest.approx(np.std([result.attained for result in single], ddof=1))
    assert both[1].attained_spread is None  # a yardstick has no luck
    assert single[0].attained_spread is None


def test_without_feedback_nothing_is_attained_or_owed():
    result = replay(
        make_recording(learnable(100)), ["messplus"], Settings(alpha=0.8), Conditions(feedback_rate=0.0)
    ).results[0]
    assert (result.attained, result.certificate, result.sla_met, result.queue_final) == (
        None,
        None,
        None,
        0.0,
    )
    assert result.attained_all > 0


def test_attainment_counts_only_answers_with_feedback():
    recording = make_recording(learnable(1000))
    outcome = replay(recording, ["messplus"], Settings(alpha=0.8), Conditions(feedback_rate=0.3))
    satisfied = outcome.played["messplus"].satisfied
    assert 200 < (~np.isnan(satisfied)).sum() < 400
    assert outcome.results[0].attained == pytest.approx(np.nanmean(satisfied))


@pytest.mark.parametrize("policy", ["messplus", "bandit"])
def test_a_policy_aims_at_the_margin_and_is_judged_by_the_promise(policy):
    recording = make_recording(learnable(300))
    with_margin = Settings(alpha=0.75, margin=0.125)
    played = replay(recording, [policy, "static-mix"], with_margin, Conditions())
    other = replay(recording, [policy, "static-mix"], Settings(alpha=0.875), Conditions())
    ours, mix = played.results
    assert played.played[policy].served.tolist() == other.played[policy].served.tolist()
    assert ours.attained == other.results[0].attained
    assert ours.certificate == pytest.approx(0.75 - ours.queue_final / 300)
    assert ours.queue_final < other.results[0].queue_final == played.played[policy].queue_final
    assert ours.sla_met is True
    assert mix.attained == pytest.approx(0.75)
    assert Settings(alpha=0.9, margin=0.5).aim == 1.0
