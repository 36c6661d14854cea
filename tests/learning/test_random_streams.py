import pytest

from messctl.learning.random_streams import stream

GOLDEN = [0.29982013388758055, 0.49345845362684937]


def test_streams_are_reproducible_and_independent():
    assert stream(0, "exploration").random(3).tolist() == stream(0, "exploration").random(3).tolist()
    assert stream(0, "exploration").random() != stream(0, "feedback").random()
    assert stream(0, "exploration").random() != stream(1, "exploration").random()
    one_at_a_time = stream(7, "exploration")
    assert [one_at_a_time.random() for _ in range(5)] == stream(7, "exploration").random(5).tolist()


def test_the_numbers_of_seed_0_are_the_same_on_every_machine():
    assert stream(0, "exploration").random(2).tolist() == pytest.approx(GOLDEN, abs=1e-15)
