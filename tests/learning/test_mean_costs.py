import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from messctl.learning.mean_costs import AUTO_SCALE, observe, scale_of


@given(st.floats(0, 1e6), st.integers(1, 50))
def test_the_mean_of_equal_costs_is_exactly_that_cost(cost, times):
    mean, count = np.zeros(2), np.zeros(2, dtype=np.int64)
    for _ in range(times):
        observe(mean, count, 1, cost)
    assert mean[1] == cost
    assert count.tolist() == [0, times]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_the_running_mean_is_the_mean(costs):
    mean, count = np.zeros(1), np.zeros(1, dtype=np.int64)
    for cost in costs:
        observe(mean, count, 0, cost)
    assert mean[0] == pytest.approx(np.mean(costs))


@pytest.mark.parametrize(
    ("means", "fixed", "scale"),
    [([0.0, 0.0], AUTO_SCALE, 1.0), ([2.0, 5.0], AUTO_SCALE, 5.0), ([2.0, 5.0], 1.0, 1.0), ([0.0], 3.0, 3.0)],
)
def test_the_scale_is_the_largest_mean_unless_it_is_fixed(means, fixed, scale):
    assert scale_of(np.array(means), fixed) == scale
