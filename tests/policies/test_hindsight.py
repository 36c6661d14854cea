"""`hindsight`: the yardstick that predicts with full information."""

import numpy as np
import pytest
from making import learnable, make_rounds

from messctl.learning.compiled import plainly
from messctl.policies import build
from messctl.policies.hindsight import out_of_fold
from messctl.zoo import Settings


@pytest.fixture(autouse=True)
def _plain():
    with plainly():
        yield


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_model_that_is_never_or_always_right_is_predicted_so(level):
    """There is nothing to tell apart, so no regression can be fitted."""
    rounds = learnable(30)
    satisfied = rounds.satisfied.copy()
    satisfied[:, 1] = level
    predicted = out_of_fold(rounds.features.csr(), satisfied)
    assert (predicted[:, 1] == level).all()
    assert len(set(predicted[:, 0])) > 1


@pytest.mark.parametrize("alpha", [0.6, 0.8])
def test_it_meets_alpha_at_the_least_price_that_does(alpha):
    """Recomputed for a thousand prices: none that meets α costs less."""
    rounds = learnable(50, seed=1)
    played = build("hindsight", rounds, Settings(alpha=alpha)).play(rounds)
    predicted, mean_cost = out_of_fold(rounds.features.csr(), rounds.satisfied), rounds.cost.mean(axis=0)
    rows, meeting = np.arange(50), []
    for price in np.geomspace(1e-2, 1e4, 1000):
        served = (mean_cost - price * predicted).argmin(axis=1)
        if rounds.satisfied[rows, served].mean() >= alpha - 1e-9:
            meeting.append(rounds.cost[rows, served].mean())
    assert played.satisfied.mean() >= alpha - 1e-9
    assert played.cost.mean() <= min(meeting) + 1e-9
    assert played.cost.mean() == pytest.approx(min(meeting), rel=0.05)


def test_if_alpha_is_out_of_reach_it_comes_as_close_as_it_can():
    rounds = make_rounds([[0, 0], [0, 1], [0, 1], [0, 0]] * 5, [[1, 2]] * 20)
    played = build("hindsight", rounds, Settings(alpha=0.9)).play(rounds)
    assert played.satisfied.mean() == 0.5
