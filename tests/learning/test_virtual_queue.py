import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from messctl.learning.certificate import certificate
from messctl.learning.virtual_queue import advance, path

shares = st.floats(0, 1)


@pytest.mark.parametrize(
    ("queue", "alpha", "satisfied", "after"),
    [
        (0.0, 0.8, 1.0, 0.0),
        (0.0, 0.8, 0.0, 0.8),
        (3.0, 0.75, 0.5, 3.25),
        (0.1, 0.5, 1.0, 0.0),
        (5.0, 0.0, 0.0, 5.0),
        (5.0, 1.0, 1.0, 5.0),
    ],
)
def test_the_queue_follows_its_recursion(queue, alpha, satisfied, after):
    assert advance(queue, alpha, satisfied) == after


@given(st.lists(shares, max_size=200), shares)
def test_a_path_is_the_recursion_and_bounds_the_missing_satisfaction(satisfied, alpha):
    # The promise may change from one answer to the next.
    promised = [alpha * (1 + t % 2) / 2 for t in range(len(satisfied))]
    queue = path(np.array(satisfied, dtype=float), np.array(promised, dtype=float))
    expected = 0.0
    for t, value in enumerate(satisfied):
        assert queue[t] == expected
        expected = max(0.0, expected + promised[t] - value)
    assert queue[-1] == expected
    assert sum(satisfied) >= sum(promised) - queue[-1] - 1e-9


def test_the_certificate_is_alpha_less_queue_per_answer():
    assert certificate(0.8, 10.0, 100) == pytest.approx(0.7)
    assert certificate(0.8, 0.0, 0) is None
