"""The recursion over a grid makes the policy's own decision on every request, under every setting."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import arbitrary_rounds, learnable

from messctl.policies import build
from messctl.tune.recursion import sweep
from messctl.tune.two_model_recursion import BLOCK
from messctl.zoo import Settings, Zoo

VS = (0.0, 0.01, 0.3, 1.0, 50.0)
ALPHAS = (0.0, 0.5, 0.8, 1.0)


def check(rounds, settings, alphas, vs):
    part = np.arange(len(rounds)) % 3
    satisfied_sum, cost_sum, queue, served = sweep(
        rounds, part, settings, np.array(alphas), np.array(vs), with_served=True
    )
    for s, (alpha, v) in enumerate(zip(alphas, vs, strict=True)):
        played = build("messplus", rounds, replace(settings, alpha=alpha, v=v)).play(rounds)
        assert served[:, s].tolist() == played.served.tolist()
        assert queue[s] == played.queue_final
        for k in (0, 1, 2):
            mine = part == k
            assert cost_sum[k, s] == summed(played.cost[mine])
            assert satisfied_sum[k, s] == summed(played.satisfied[mine & ~np.isnan(played.satisfied)])


def summed(values):
    """The sum in order, as a loop computes it."""
    return float(np.cumsum([0.0, *values])[-1])


@pytest.mark.slow
@given(
    arbitrary_rounds(),
    st.sampled_from([0.0, 0.3, 1.0, 5.0]),
    st.sampled_from([0.0, 0.25, 1.0]),
    st.sampled_from([None, 1.0, 0.01]),
    st.integers(0, 3),
    st.booleans(),
    st.sampled_from([0.0, 0.4, 1.0]),
    st.sampled_from([0, 1, 3, 99]),
)
def test_the_grid_decides_as_the_policy(rounds, c, exponent, scale, seed, shuffle, rate, delay):
    """On any rounds: with ties, zero costs, graded satisfaction, and rare or late feedback."""
    arranged = rounds.arranged(seed=seed, shuffle=shuffle, feedback_rate=rate, feedback_delay=delay)
    settings = Settings(c=c, exponent=exponent, cost_scale=scale, seed=seed)
    pairs = [(alpha, v) for alpha in ALPHAS for v in VS]
    check(arranged, settings, *zip(*pairs, strict=True))


@pytest.mark.slow
@given(
    arbitrary_rounds(models=2),
    st.sampled_from([0.0, 0.3, 1.0, 5.0]),
    st.integers(0, 3),
    st.sampled_from([0.0, 0.4, 1.0]),
)
def test_the_grid_decides_as_the_policy_on_two_models(rounds, c, seed, rate):
    """With immediate feedback and the automatic scale, so that the recursion for two models runs."""
    arranged = rounds.arranged(seed=seed, shuffle=True, feedback_rate=rate, feedback_delay=0)
    pairs = [(alpha, v) for alpha in ALPHAS for v in VS]
    check(arranged, Settings(c=c, seed=seed), *zip(*pairs, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("models", [2, 3])
def test_more_settings_than_a_block_agree(models):
    vs = np.geomspace(1e-3, 1e2, 2 * BLOCK + 7)
    check(of_models(learnable(300), models), Settings(c=0.4, seed=2), [0.85] * len(vs), vs)


@pytest.mark.parametrize("many", [1, 31, 32, 33, 128, 300])
@pytest.mark.parametrize("swapped", [False, True])
def test_two_models_agree_with_any_number_of_settings_and_either_reference(many, swapped):
    rounds = of_models(learnable(1_000), 2)
    rounds = replace(rounds, zoo=Zoo.of(rounds.zoo.models, rounds.zoo.models[swapped]))
    check(rounds, Settings(c=0.2, seed=2), [0.8] * many, np.geomspace(1e-3, 1e2, many))


@pytest.mark.parametrize("models", [2, 3])
def test_a_trace_of_real_length_agrees(models):
    check(of_models(learnable(20_000), models), Settings(c=0.5), [0.8, 0.9, 0.9], [0.2, 0.02, 3.0])


def of_models(rounds, count):
    """The same requests for the first `count` models, with the costliest among them."""
    zoo = Zoo.of(rounds.zoo.models[:count], rounds.zoo.reference)
    tables = {name: np.ascontiguousarray(getattr(rounds, name)[:, :count]) for name in ("satisfied", "cost")}
    return replace(rounds, zoo=zoo, **tables)
