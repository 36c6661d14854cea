"""The rivals of `bandit` in the benchmarks do what their papers say."""

from __future__ import annotations

import numpy as np
import pytest
from making import make_rounds, prompts_for
from rivals import Linear, Neighbours, Outcome, ParetoBandit, Policy, Rival, chosen, design, learn, outcomes

from messctl.learning.virtual_queue import advance
from messctl.policies import Rounds


def world(n: int, seed: int = 0) -> Rounds:
    """Three models; the cheapest satisfies where the prompt has few words."""
    rng = np.random.default_rng(seed)
    prompts = prompts_for(n, seed)
    hard = np.array([len(prompt.split()) > 4 for prompt in prompts])
    chance = np.where(hard[:, None], [0.2, 0.5, 0.9], [0.9, 0.8, 0.95])
    cost = np.tile([1.0, 3.0, 9.0], (n, 1)) * rng.uniform(0.5, 1.5, (n, 1))
    return make_rounds((rng.random((n, 3)) < chance).tolist(), cost.tolist(), prompts=prompts)


def shuffled(rounds: Rounds, seed: int) -> Rounds:
    return rounds.arranged(seed=seed, shuffle=True, feedback_rate=1.0, feedback_delay=0)


def test_learning_one_by_one_gives_the_ridge_regression() -> None:
    rng = np.random.default_rng(3)
    x, labels = rng.normal(size=(40, 7)) * (rng.random((40, 7)) < 0.6), rng.random(40)
    weight, covariance = np.zeros(7), np.eye(7) / 2.0
    for z, label in zip(x, labels, strict=True):
        learn(weight, covariance, z, np.flatnonzero(z), label)
    whole = 2.0 * np.eye(7) + x.T @ x
    np.testing.assert_allclose(weight, np.linalg.solve(whole, x.T @ labels), atol=1e-12)
    np.testing.assert_allclose(covariance, np.linalg.inv(whole), atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("folded", [False, True])
def test_linear_rivals_follow_their_equations(sampled: bool, folded: bool) -> None:
    rounds, alpha = shuffled(world(40), 1), 0.8
    rival = Linear(sampled, v=3.0, optimism=0.4, ridge=3.0, folded=folded)
    x = design(rounds, folded)[rounds.order]
    satisfied, cost = rounds.satisfied[rounds.order], rounds.cost[rounds.order]
    noise = np.random.default_rng(5).standard_normal((40, 3)) if sampled else np.ones((40, 3))
    shrinkage = np.diag([1.0, *[3.0] * (x.shape[1] - 1)])
    served: list[int] = []
    queue = 0.0
    for t in range(40):
        mean, estimate = np.zeros(3), np.zeros(3)
        for model in range(3):
            known = np.flatnonzero(np.array(served) == model)
            inverse = np.linalg.inv(shrinkage + x[known].T @ x[known])
            weight = inverse @ (x[known].T @ (satisfied[known, model] - alpha))
            estimate[model] = alpha + x[t] @ weight + 0.4 * noise[t, model] * np.sqrt(x[t] @ inverse @ x[t])
            mean[model] = cost[known, model].mean() if len(known) else 0.0
        served.append(int(np.argmin(3.0 * mean / (mean.max() or 1.0) + queue * (alpha - estimate))))
        queue = advance(queue, alpha, satisfied[t, served[-1]])
    costs, feedback = rival.run(rounds, alpha, 5)
    assert len(set(served)) > 1
    np.testing.assert_array_equal(costs, cost[np.arange(40), served])
    np.testing.assert_array_equal(feedback, satisfied[np.arange(40), served])


@pytest.mark.slow
@pytest.mark.parametrize(
    "rival",
    [
        Policy("bandit"),
        Policy("messplus", v=1.0, c=0.1),
        Neighbours(3.0, k=20, c=0.1),
        Linear(False, 3.0, 0.4, 3.0, True),
        Linear(True, 3.0, 0.4, 3.0, True),
        ParetoBandit(0.3, 1.0, 1.0, v=0.3),
    ],
    ids=str,
)
def test_rivals_keep_an_easy_promise_for_less_than_the_costliest_model(rival: Rival) -> None:
    if isinstance(rival, ParetoBandit):
        pytest.importorskip("pareto_bandit")
    rounds = world(1500)
    (outcome,) = outcomes(rival, rounds, [0.8], seeds=2)
    assert outcome.end.min() > -0.03
    assert outcome.cost < 0.9 * rounds.cost[:, 2].mean()


def test_paretobandit_spends_more_with_a_larger_budget() -> None:
    pytest.importorskip("pareto_bandit")
    rounds = world(600)
    few, many = (outcomes(ParetoBandit(0.3, 1.0, 1.0, budget), rounds, [0.8, 0.9], seeds=1) for budget in (0.2, 0.8))
    assert few[0].cost < many[0].cost
    assert few[0].cost == few[1].cost, "it knows no α"


def outcome(cost: float, *end: float) -> Outcome:
    return Outcome(Policy("bandit"), cost, np.array(end), np.array(end))


@pytest.mark.parametrize(
    ("tried", "place"),
    [
        ([outcome(3, 0.01), outcome(2, -0.004), outcome(1, -0.02)], 1),
        ([outcome(3, -0.05), outcome(2, -0.01), outcome(1, -0.02)], 1),
        ([outcome(3, 0.0, 0.0), outcome(2, 0.03, -0.03)], 1),
    ],
)
def test_the_cheapest_setting_that_attains_is_chosen_or_else_the_closest(tried: list[Outcome], place: int) -> None:
    assert chosen(tried) is tried[place]
