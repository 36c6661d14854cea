"""The grid against the policy itself: the same decision on every request, under every setting."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import arbitrary_rounds, learnable

from messctl.policies import build
from messctl.tune.recursion import BLOCK, sweep
from messctl.zoo import Settings, Zoo

VS = (0.0, 0.01, 0.3, 1.0, 50.0)
ALPHAS = (0.0, 0.5, 0.8, 1.0)


def check(rounds, settings, alphas, vs):
    part = np.arange(len(rounds)) % 3
    good, paid, queue, served = sweep(rounds, part, settings, np.array(alphas), np.array(vs), keep=True)
    for s, (alpha, v) in enumerate(zip(alphas, vs, strict=True)):
        played = build("messplus", rounds, replace(settings, alpha=alpha, v=v)).play(rounds)
        assert served[:, s].tolist() == played.served.tolist()
        assert queue[s] == played.queue_final
        for k in (0, 1, 2):
            mine = part == k
            assert paid[k, s] == summed(played.cost[mine])
            assert good[k, s] == summed(played.satisfied[mine & ~np.isnan(played.satisfied)])


def summed(values):
    """The sum from first to last, as a loop has it."""
    return float(np.cumsum([0.0, *values])[-1])


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
def test_every_decision_is_that_of_the_policy(rounds, c, exponent, scale, seed, shuffle, rate, delay):
    """On any rounds: ties, zero costs, graded satisfaction, feedback that is rare or late."""
    arranged = rounds.arranged(seed=seed, shuffle=shuffle, feedback_rate=rate, feedback_delay=delay)
    settings = Settings(c=c, exponent=exponent, cost_scale=scale, seed=seed)
    pairs = [(alpha, v) for alpha in ALPHAS for v in VS]
    check(arranged, settings, *zip(*pairs, strict=True))


@given(
    arbitrary_rounds(),
    st.sampled_from([0.0, 0.3, 1.0, 5.0]),
    st.integers(0, 3),
    st.booleans(),
    st.sampled_from([0.0, 0.4, 1.0]),
    st.booleans(),
)
def test_every_decision_of_a_zoo_of_two_is_that_of_the_policy(rounds, c, seed, shuffle, rate, swapped):
    """The loop that a zoo of two has of its own, with either model as the reference."""
    rounds = two_of(rounds, swapped)
    arranged = rounds.arranged(seed=seed, shuffle=shuffle, feedback_rate=rate, feedback_delay=0)
    pairs = [(alpha, v) for alpha in ALPHAS for v in VS]
    check(arranged, Settings(c=c, seed=seed), *zip(*pairs, strict=True))


def two_of(rounds, swapped=False):
    """The rounds of the first two models."""
    names = list(rounds.zoo.models[:2])
    tables = {name: np.ascontiguousarray(getattr(rounds, name)[:, :2]) for name in ("satisfied", "cost")}
    return replace(rounds, zoo=Zoo.of(names, names[swapped]), **tables)


@pytest.mark.parametrize("many", [1, 31, 32, 33, 128, 300])
def test_a_zoo_of_two_under_any_number_of_settings(many):
    vs = np.geomspace(1e-3, 1e2, many)
    check(two_of(learnable(300)), Settings(c=0.4, seed=2), [0.85] * many, vs)
    check(two_of(learnable(2_000, seed=1)), Settings(c=0.1), [0.7] * many, vs)


def test_more_settings_than_a_block_holds():
    vs = np.geomspace(1e-3, 1e2, 2 * BLOCK + 7)
    check(learnable(300), Settings(c=0.4, seed=2), [0.85] * len(vs), vs)


def test_a_long_trace_of_real_length_agrees():
    check(learnable(20_000), Settings(c=0.5), [0.8, 0.9, 0.9], [0.2, 0.02, 3.0])
