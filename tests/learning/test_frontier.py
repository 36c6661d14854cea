import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import arbitrary_rounds
from scipy.optimize import linprog

from messctl.learning.frontier import chain, cheapest_mixture


def least_cost(cost, satisfied, alpha):
    """The linear program itself, by a general solver."""
    n, models = cost.shape
    return linprog(
        cost.ravel() / n,
        A_ub=-satisfied.ravel()[None] / n,
        b_ub=[-alpha],
        A_eq=np.kron(np.eye(n), np.ones((1, models))),
        b_eq=np.ones(n),
    )


@settings(max_examples=60)
@given(arbitrary_rounds(most=12), st.floats(0, 1))
def test_the_cheapest_mixture_is_the_optimum_of_the_linear_program(rounds, alpha):
    lottery = cheapest_mixture(rounds.cost, rounds.satisfied, alpha)
    assert lottery.sum(axis=1) == pytest.approx(np.ones(len(rounds)))
    assert (lottery >= 0).all()
    assert ((lottery > 0).sum(axis=1) > 1).sum() <= 1
    attained = (lottery * rounds.satisfied).sum() / len(rounds)
    reach = rounds.satisfied.max(axis=1).mean()
    assert attained >= min(alpha, reach) - 1e-9
    if alpha <= reach - 1e-9:
        solved = least_cost(rounds.cost, rounds.satisfied, alpha)
        assert (lottery * rounds.cost).sum() / len(rounds) == pytest.approx(solved.fun, abs=1e-7)


@pytest.mark.parametrize("seed", range(8))
def test_the_cheapest_mixture_of_many_different_costs_is_that_of_the_linear_program(seed):
    """Some models of a request lie on the way from the cheapest to the best, and some do not."""
    rng = np.random.default_rng(seed)
    cost, satisfied = rng.random((9, 4)) * 7, rng.random((9, 4))
    alpha = satisfied.max(axis=1).mean() * rng.uniform(0.6, 0.95)
    lottery = cheapest_mixture(cost, satisfied, alpha)
    assert (lottery * satisfied).sum() / 9 >= alpha - 1e-9
    assert (lottery * cost).sum() / 9 == pytest.approx(least_cost(cost, satisfied, alpha).fun, abs=1e-9)


@settings(max_examples=60)
@given(arbitrary_rounds(graded=False, most=6), st.sampled_from([0.25, 0.5, 0.75, 1.0]))
def test_no_assignment_that_meets_alpha_costs_less(rounds, alpha):
    n, models = rounds.cost.shape
    floor = (cheapest_mixture(rounds.cost, rounds.satisfied, alpha) * rounds.cost).sum()
    rows = np.arange(n)
    for choice in itertools.islice(itertools.product(range(models), repeat=n), 4000):
        if rounds.satisfied[rows, list(choice)].mean() >= alpha:
            assert rounds.cost[rows, list(choice)].sum() >= floor - 1e-9


@given(arbitrary_rounds())
def test_links_are_in_order_of_price_and_connected(rounds):
    links = chain(rounds.cost, rounds.satisfied)
    assert (np.diff(links.price) >= 0).all()
    at = links.start.copy()
    for row, before, model in zip(links.row, links.before, links.model, strict=True):
        assert at[row] == before
        assert rounds.satisfied[row, model] > rounds.satisfied[row, before]
        at[row] = model
    assert at.tolist() == links.after(len(links.row)).tolist()
    reached = rounds.satisfied[np.arange(len(rounds)), at]
    assert reached.tolist() == rounds.satisfied.max(axis=1).tolist()
