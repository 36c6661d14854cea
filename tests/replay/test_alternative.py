"""What would have kept the promise without a router."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import learnable, make_recording, make_rounds

from messctl.replay import report
from messctl.replay.alternative import breaks_even_after, cheaper_than_router, cheapest_single
from messctl.replay.play import replay
from messctl.replay.result import Conditions
from messctl.zoo import Settings


def played(satisfied, cost, alpha, policies=("bandit",), **conditions):
    recording = make_recording(make_rounds(satisfied, cost))
    return replay(recording, policies, Settings(alpha=alpha), Conditions(**conditions))


GOOD_AND_CHEAP = ([[1, 1, 0]] * 40, [[9, 1, 0.5]] * 40)


def test_a_single_model_that_keeps_the_promise_for_less_is_named():
    outcome = played(*GOOD_AND_CHEAP, 0.9)
    found = cheaper_than_router(outcome)
    assert (found.shares, found.attained, found.mean_cost) == ({"m1": 1.0}, 1.0, 1.0)
    assert outcome.judged.mean_cost > 1.0
    assert report.without_router(outcome) == "m1 alone would have kept it for less: 1 unit/request"


def test_a_mixture_is_named_if_no_single_model_is_cheap_enough():
    rows = 2000
    rng = np.random.default_rng(0)
    satisfied = (rng.random((rows, 2)) < [0.5, 0.9]).astype(float)
    outcome = played(satisfied, [[1, 100]] * rows, 0.7)
    outcome = replace(outcome, results=(replace(outcome.judged, mean_cost=99.0),))
    found = cheaper_than_router(outcome)
    assert sorted(found.shares) == ["m0", "m1"]
    assert sum(found.shares.values()) == pytest.approx(1.0)
    assert found.attained == pytest.approx(0.7)
    share = found.shares["m0"]
    expected = f"a fixed mixture of m0 ({share:.0%}) and m1 would have kept it for less: "
    assert report.without_router(outcome).startswith(expected)


@given(
    st.lists(st.tuples(*[st.sampled_from([0.0, 0.5, 1.0])] * 3), min_size=2, max_size=12),
    st.lists(st.integers(1, 9), min_size=3, max_size=3),
    st.sampled_from([0.25, 0.5, 0.75]),
)
def test_the_cheapest_single_model_is_that_of_a_plain_search(satisfied, cost, alpha):
    facts = make_recording(make_rounds([list(row) for row in satisfied], [cost] * len(satisfied))).facts
    keeping = [index for index in range(3) if sum(row[index] for row in satisfied) / len(satisfied) >= alpha]
    found = cheapest_single(facts, alpha)
    if not keeping:
        assert found is None
    else:
        assert found.mean_cost == min(cost[index] for index in keeping)


@pytest.mark.parametrize("policies", [["always:m1"], ["static-mix"], ["clairvoyant"]])
def test_only_a_router_is_compared(policies):
    outcome = played(*GOOD_AND_CHEAP, 0.9, policies)
    assert (cheaper_than_router(outcome), breaks_even_after(outcome), report.without_router(outcome)) == (
        None,
        None,
        "",
    )


def test_a_router_breaks_even_where_its_total_cost_falls_below_that_of_the_best_single_model_for_good():
    recording = make_recording(learnable(2000))
    outcome = replay(recording, ["bandit"], Settings(alpha=0.8), Conditions())
    requests, single = breaks_even_after(outcome), cheapest_single(outcome.facts, 0.8)
    (model,) = single.shares
    play, index = outcome.played["bandit"], outcome.facts.zoo.index(model)
    router, alone = np.cumsum(play.cost), np.cumsum(outcome.rounds.cost[play.order, index])
    assert 0 < requests < 2000
    assert router[requests - 1] > alone[requests - 1]
    assert (router[requests:] <= alone[requests:]).all()
    assert f"breaks even with {model} alone after {requests:,} requests" in report.without_router(outcome)


def test_a_promise_that_no_fixed_choice_keeps_has_no_alternative():
    outcome = played([[1, 0], [0, 1]] * 40, [[1, 2]] * 80, 0.9)
    assert cheapest_single(outcome.facts, 0.9) is None
    assert (cheaper_than_router(outcome), breaks_even_after(outcome)) == (None, None)


def test_met_share_is_the_share_of_the_seeds_that_ended_at_alpha_or_above():
    shares = {}
    for alpha in (0.75, 0.8, 0.82, 0.85):
        recording = make_recording(learnable(300))
        outcome = replay(recording, ["bandit"], Settings(alpha=alpha), Conditions(seeds=6, shuffle=True))
        alone = [
            replay(recording, ["bandit"], Settings(alpha=alpha, seed=seed), Conditions(shuffle=True)).judged
            for seed in range(6)
        ]
        assert [one.met_share for one in alone] == [float(one.sla_met) for one in alone]
        shares[alpha] = outcome.judged.met_share
        assert shares[alpha] == pytest.approx(np.mean([one.sla_met for one in alone]))
        assert "kept in" in [column.header for column in report.table(outcome, 200).renderables[2].columns]
    assert len(set(shares.values())) > 1


def test_without_feedback_no_share_is_kept():
    rounds = make_recording(learnable(60))
    outcome = replay(rounds, ["bandit"], Settings(alpha=0.85), Conditions(seeds=2, feedback_rate=0.0))
    assert outcome.judged.met_share is None
    assert outcome.judged.sla_met is None
