"""Other ways to route, on the same recorded requests as `bandit`: python benchmarks/rivals.py TRACE… [--seeds 5]

Every router gets the same features, the feedback on the answer that it served and on no other, at once, and the same
shuffled orders. `bandit` has its one setting. Every rival is tuned in its favour: all settings of its grid are run on
these very orders. The cheapest one whose attainment is on average at most 0.5 points below α is shown; if there is
none, the one that comes closest. Beside it is the cheapest of those that keep the promise in every order.

A rival without a way to keep a promise gets MESS+'s virtual queue. It serves argmin of V·Ē/scale + Q·(α − ŝ), where ŝ
is its own estimate, or an optimistic or sampled one.

Needs `pip install -e '.[bench]'`.
"""

from __future__ import annotations

import argparse
import logging
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
from joblib import Parallel, delayed
from sklearn import config_context
from sklearn.neighbors import KNeighborsRegressor

from messctl.learning.compiled import compiled
from messctl.learning.features import WORDS
from messctl.learning.mean_costs import AUTO_SCALE, observe, scale_of
from messctl.learning.virtual_queue import advance
from messctl.policies import Rounds, build
from messctl.policies.base import Floats, Played
from messctl.policies.messplus.rounds import explore_probability
from messctl.replay.loading import load
from messctl.zoo import Settings

if TYPE_CHECKING:
    from pareto_bandit import BanditRouter

SHARES = (0.90, 0.95, 0.98)
"""α, as shares of the best model's mean."""
SETTLED = 500
FOLDED = 32
"""Word buckets that `bandit` folds the hashed words into; its rivals may choose to."""
LARGE, HUGE = 4_000, 10_000
"""On traces with more requests than this, slow rivals get a shorter grid, and on still longer ones fewer orders."""
V = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Rival(Protocol):
    """One router with its settings."""

    @property
    def knows_alpha(self) -> bool:
        """Whether α changes what it does."""

    def run(self, rounds: Rounds, alpha: float, seed: int) -> tuple[Floats, Floats]:
        """Return what each request cost, and how far its answer satisfied, both (n,), in order of arrival."""


def design(rounds: Rounds, folded: bool) -> Floats:
    """Return a constant, the words and the properties less their means, (n, 1 + words + 8), in the trace's order."""
    dense = rounds.features.csr().toarray()
    words, properties = dense[:, :WORDS], dense[:, WORDS:]
    if folded:
        words = words.reshape(len(dense), -1, FOLDED).sum(axis=1)
    return np.hstack([np.ones((len(dense), 1)), words, properties - properties.mean(axis=0)])


@compiled
def cheapest_for_debt(v: float, alpha: float, queue: float, mean_cost: Floats, estimate: Floats) -> int:
    """Return argmin over models of V·Ē/scale + Q·(α − estimate)."""
    return int(np.argmin(v * mean_cost / scale_of(mean_cost, AUTO_SCALE) + queue * (alpha - estimate)))


@dataclass(frozen=True)
class Policy:
    """One of messctl's own policies; `v` and `c` as in its settings, `raw` costs not divided by anything."""

    knows_alpha: ClassVar[bool] = True
    name: str
    v: float | None = None
    c: float = 0.5
    raw: bool = False

    def run(self, rounds: Rounds, alpha: float, seed: int) -> tuple[Floats, Floats]:
        settings = Settings(alpha=alpha, v=self.v, c=self.c, cost_scale=1.0 if self.raw else None, seed=seed)
        played: Played = build(self.name, rounds, settings).play(rounds)
        return played.cost, played.satisfied


@dataclass(frozen=True)
class Neighbours:
    """The mean of the k nearest answers of each model, refitted whenever they have grown by a sixteenth.

    With probability min(1, c / t^¼) it serves a model drawn at random, without which it starves those that it
    has no good answer of. A model without answers is thought to satisfy always.
    """

    knows_alpha: ClassVar[bool] = True
    v: float
    k: int
    c: float

    def run(self, rounds: Rounds, alpha: float, seed: int) -> tuple[Floats, Floats]:
        x = design(rounds, folded=False)[rounds.order].astype(np.float32)
        satisfied, cost = rounds.satisfied[rounds.order], rounds.cost[rounds.order]
        n, models = cost.shape
        rng = np.random.default_rng(seed)
        coins, drawn = rng.random(n), rng.integers(models, size=n)
        served = np.empty(n, dtype=np.int64)
        mean_cost, count = np.zeros(models), np.zeros(models, dtype=np.int64)
        queue, start = 0.0, 0
        while start < n:
            end = min(n, start + max(16, start // 16))
            estimate = np.ones((end - start, models))
            for model in range(models):
                known = np.flatnonzero(served[:start] == model)
                if len(known):
                    regressor = KNeighborsRegressor(min(self.k, len(known)), algorithm="brute")
                    with config_context(assume_finite=True, skip_parameter_validation=True):
                        regressor.fit(x[known], satisfied[known, model])
                        estimate[:, model] = regressor.predict(x[start:end])
            for t in range(start, end):
                if coins[t] < explore_probability(self.c, 0.25, t + 1):
                    served[t] = drawn[t]
                else:
                    served[t] = cheapest_for_debt(self.v, alpha, queue, mean_cost, estimate[t - start])
                observe(mean_cost, count, served[t], cost[t, served[t]])
                queue = advance(queue, alpha, satisfied[t, served[t]])
            start = end
        rows = np.arange(n)
        return cost[rows, served], satisfied[rows, served]


@dataclass(frozen=True)
class Linear:
    """A ridge per model: LinUCB (Li et al. 2010) adds `optimism` deviations to each estimate, Thompson sampling
    (Agrawal & Goyal 2013) draws the estimate from a normal `optimism` deviations wide.

    What is not known is thought to satisfy at α. `ridge` shrinks all weights but the constant's, which has 1.
    """

    knows_alpha: ClassVar[bool] = True
    sampled: bool
    v: float
    optimism: float
    ridge: float
    folded: bool

    def run(self, rounds: Rounds, alpha: float, seed: int) -> tuple[Floats, Floats]:
        x = design(rounds, self.folded)
        n, models = rounds.cost.shape
        deviations = np.ones((n, models))
        if self.sampled:
            deviations = np.random.default_rng(seed).standard_normal((n, models))
        covariance = np.zeros((models, x.shape[1], x.shape[1]))
        covariance[:] = np.diag(np.append(1.0, np.full(x.shape[1] - 1, 1.0 / self.ridge)))
        served = _play_linear(
            (alpha, self.v), self.optimism * deviations, (rounds.order, x, rounds.satisfied, rounds.cost), covariance
        )
        return rounds.cost[rounds.order, served], rounds.satisfied[rounds.order, served]


@compiled
def _play_linear(settings, deviations, given, covariance):  # type: ignore[no-untyped-def]
    alpha, v = settings
    order, x, satisfied, cost = given
    n, models = deviations.shape
    weight = np.zeros((models, x.shape[1]))
    mean_cost, count, estimate = np.zeros(models), np.zeros(models, dtype=np.int64), np.empty(models)
    served, queue = np.empty(n, dtype=np.int64), 0.0
    for t in range(n):
        row = order[t]
        z = x[row]
        filled = np.flatnonzero(z)
        for model in range(models):
            variance = 0.0
            estimate[model] = alpha
            for i in filled:
                estimate[model] += weight[model, i] * z[i]
                for j in filled:
                    variance += z[i] * covariance[model, i, j] * z[j]
            estimate[model] += deviations[t, model] * np.sqrt(max(variance, 0.0))
        chosen = cheapest_for_debt(v, alpha, queue, mean_cost, estimate)
        served[t] = chosen
        observe(mean_cost, count, chosen, cost[row, chosen])
        queue = advance(queue, alpha, satisfied[row, chosen])
        learn(weight[chosen], covariance[chosen], z, filled, satisfied[row, chosen] - alpha)
    return served


@compiled
def learn(weight: Floats, covariance: Floats, z: Floats, filled: Floats, label: float) -> None:
    """Take one label into a ridge, in place, by the Sherman–Morrison formula; `filled` is where z is not 0."""
    gain = np.zeros(len(z))
    off, spread = label, 1.0
    for i in filled:
        gain += covariance[i] * z[i]
        off -= weight[i] * z[i]
    for i in filled:
        spread += gain[i] * z[i]
    weight += gain * (off / spread)
    for i in range(len(z)):
        covariance[i] -= gain * (gain[i] / spread)


@dataclass(frozen=True)
class ParetoBandit:
    """The package `paretobandit`, driven as its own demonstration drives it: features given, no priors, and each
    answer's true cost given before its feedback.

    It keeps a budget, not a promise: `budget` is its pacer's target as a share of the way from the cheapest
    model's mean cost to the dearest's, in logarithms. Its other means is a fixed `penalty` on (normalised, logarithmic)
    cost. With `v` that penalty is V/Q instead, anew before each request, which makes it keep a promise. It knows
    every model's mean cost in advance. `hope` is what it expects of a model that it never tried; its default of 0
    keeps it with the model that it tried first.
    """

    optimism: float
    forgetting: float
    hope: float
    budget: float | None = None
    penalty: float = 0.0
    v: float | None = None
    folded: bool = True

    @property
    def knows_alpha(self) -> bool:
        return self.v is not None

    def run(self, rounds: Rounds, alpha: float, seed: int) -> tuple[Floats, Floats]:
        return self.drive(self.router(rounds, seed), self.features(rounds), rounds, alpha)

    def features(self, rounds: Rounds) -> Floats:
        """Return the rows as it wants them, dense and with the constant last, in the trace's order."""
        return np.ascontiguousarray(np.roll(design(rounds, self.folded), -1, axis=1))

    def drive(self, router: BanditRouter, x: Floats, rounds: Rounds, alpha: float) -> tuple[Floats, Floats]:
        """Route every request and give back its cost and feedback."""
        index = {model: place for place, model in enumerate(rounds.zoo.models)}
        costs, satisfied, queue = np.empty(len(rounds)), np.empty(len(rounds)), 0.0
        for t, row in enumerate(rounds.order):
            if self.v is not None:
                router.cost_penalty = self.v / max(queue, 1e-6)
            model, log = router.route(x[row])
            costs[t], satisfied[t] = rounds.cost[row, index[model]], rounds.satisfied[row, index[model]]
            log.cost_usd = float(costs[t])
            router.process_feedback(log.request_id, reward=float(satisfied[t]))
            queue = advance(queue, alpha, float(satisfied[t]))
        return costs, satisfied

    def router(self, rounds: Rounds, seed: int) -> BanditRouter:
        """Return a fresh router for this zoo."""
        from pareto_bandit import BanditRouter, FeatureService, RouterConfig  # noqa: PLC0415  # only this rival needs it
        from pareto_bandit.budget_pacer import BudgetPacer  # noqa: PLC0415

        logging.getLogger("pareto_bandit").setLevel(logging.ERROR)
        width = 1 + rounds.features.width - (WORDS - FOLDED) * self.folded
        mean = np.maximum(rounds.cost.mean(axis=0), 1e-12)
        low, high = float(mean.min()), float(mean.max())
        pacer = None if self.budget is None else BudgetPacer(low * (high / low) ** self.budget)
        router = BanditRouter.create(
            model_registry={},
            priors="none",
            feature_service=FeatureService.for_precomputed(width),
            config=RouterConfig(market_cost_floor=low, market_cost_ceiling=high),
            alpha=self.optimism,
            forgetting_factor=self.forgetting,
            cost_penalty=self.penalty,
            budget_pacer=pacer,
            bandit_seed=seed,
        )
        # A request counts as a thousand tokens, so that dollars per thousand tokens are costs per request.
        for model, cost in zip(rounds.zoo.models, mean.tolist(), strict=True):
            router.register_model(
                model,
                input_cost_per_m=1000 * cost,
                output_cost_per_m=1000 * cost,
                initial_weights={"bias": self.hope},
            )
        return router


def grids(short: bool) -> Mapping[str, Sequence[Rival]]:
    """Return the settings to try, by the rival's name; the first is `bandit`, which has none."""
    shapes = [(3.0, True), (30.0, True)] + [(30.0, False)] * (not short)
    linear = [(v, optimism, *shape) for v, optimism, shape in product(V, (0.1, 0.4), shapes)]
    neighbours = product(V[:5], (40,), (0.1,)) if short else product(V, (10, 40), (0.1, 0.3))
    budgets = np.linspace(0.0, 1.0, 13)[1:].tolist()
    penalties = (0.0, 0.1, 0.3, 0.6, 1.2)
    knobs = [(budget, 0.0) for budget in budgets] + [(None, penalty) for penalty in penalties]
    learners = ((0.05, 0.997, 0.0), (0.05, 1.0, 1.0), (0.3, 1.0, 1.0))
    return {
        "bandit": [Policy("bandit")],
        "k nearest": [Neighbours(*each) for each in neighbours],
        "paretobandit": [ParetoBandit(*learner, *knob) for learner in learners for knob in knobs],
        "paretobandit + queue": [
            ParetoBandit(*learner, v=v) for learner in learners for v in (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
        ],
        "LinUCB": [Linear(False, *each) for each in linear],
        "Thompson": [Linear(True, *each) for each in linear],
        "MESS+ published": [Policy("messplus", v=0.01, c=1.0, raw=True)],
        "MESS+ tuned": [
            Policy("messplus", v, c)
            for v, c in product((0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0), (0.03, 0.1, 0.3, 0.5, 1.0))
        ],
    }


@dataclass(frozen=True)
class Outcome:
    """Over the orders: mean cost, and attainment less α at the end, and at its lowest from request 500 on."""

    rival: Rival
    cost: float
    end: Floats
    lowest: Floats

    @property
    def missed(self) -> int:
        return int((self.end < -0.005).sum())

    @property
    def dipped(self) -> int:
        return int((self.lowest < -0.02).sum())

    @property
    def kept(self) -> bool:
        return not self.missed and not self.dipped

    @property
    def attains(self) -> bool:
        return bool(self.end.mean() >= -0.005)

    @property
    def setting(self) -> str:
        parts = [(each.name, getattr(self.rival, each.name)) for each in fields(self.rival)]  # type: ignore[arg-type]
        shown = [f"{name} {value:.3g}" for name, value in parts if type(value) in (int, float)]
        return ", ".join(shown + [name for name, value in parts if value is True])


def outcomes(rival: Rival, rounds: Rounds, alphas: Sequence[float], seeds: int, first: int = 0) -> list[Outcome]:
    """Run one setting on every order for every α; the orders are those of the seeds from `first` on."""
    level, cost = np.empty((len(alphas), seeds, len(rounds))), np.empty((len(alphas), seeds))
    for seed in range(seeds):
        arranged = rounds.arranged(seed=first + seed, shuffle=True, feedback_rate=1.0, feedback_delay=0)
        for place, alpha in enumerate(alphas):
            if place and not rival.knows_alpha:
                level[place, seed], cost[place, seed] = level[0, seed], cost[0, seed]
                continue
            costs, satisfied = rival.run(arranged, alpha, first + seed)
            level[place, seed] = np.cumsum(satisfied) / np.arange(1, len(rounds) + 1)
            cost[place, seed] = costs.mean()
    return [
        Outcome(
            rival,
            float(cost[place].mean()),
            level[place, :, -1] - alpha,
            level[place, :, min(SETTLED, len(rounds)) - 1 :].min(axis=1) - alpha,
        )
        for place, alpha in enumerate(alphas)
    ]


def chosen(tried: Sequence[Outcome]) -> Outcome:
    """Return the cheapest that attains α less 0.5 points on average, or else the one that comes closest."""
    attaining = [each for each in tried if each.attains]
    return min(attaining, key=lambda each: each.cost) if attaining else max(tried, key=lambda each: each.end.mean())


def table(name: str, rounds: Rounds, arguments: argparse.Namespace) -> None:
    n, models = rounds.cost.shape
    alphas = [share * float(rounds.satisfied.mean(axis=0).max()) for share in SHARES]
    marks = [
        [build(mark, rounds, Settings(alpha=alpha)).play(rounds).cost.mean() for mark in ("hindsight", "static-mix")]
        for alpha in alphas
    ]
    tried: dict[str, list[list[Outcome]]] = {}
    for router, grid in grids(n > LARGE).items():
        if router != "bandit" and arguments.only and router not in arguments.only.split(","):
            continue
        slow = n > HUGE and not isinstance(grid[0], Policy)
        started = time.perf_counter()
        tried[router] = Parallel(n_jobs=arguments.jobs)(
            delayed(outcomes)(rival, rounds, alphas, min(arguments.seeds, 2) if slow else arguments.seeds)
            for rival in grid
        )
        print(f"<!-- {name}: {router}, {len(grid)} settings, {time.perf_counter() - started:.0f} s -->", flush=True)
    print(f"\n## {name}: {models} models, {n} requests\n")
    print("| α/best | router | ÷ hindsight | ÷ static-mix | missed | dipped | its setting | where kept: ÷ hindsight |")
    print("|---|---|---:|---:|---:|---:|---|---:|")
    for place, share in enumerate(SHARES):
        hindsight, mix = marks[place]
        for router, results in tried.items():
            of_alpha = [result[place] for result in results]
            best = chosen(of_alpha)
            kept = [each.cost for each in of_alpha if each.kept]
            short = "" if best.attains else f" (short by {-best.end.mean() * 100:.1f} points)"
            print(
                f"| {share:.2f} | {router}{short} | {best.cost / hindsight:.2f} | {best.cost / mix:.2f} "
                f"| {best.missed}/{len(best.end)} | {best.dipped}/{len(best.end)} "
                f"| {'–' if len(results) == 1 else best.setting} "
                f"| {f'{min(kept) / hindsight:.2f}' if kept else '–'} |"
            )
    print(flush=True)
    if arguments.fresh:
        fresh_table(rounds, alphas, [hindsight for hindsight, _ in marks], tried, arguments)


def fresh_table(
    rounds: Rounds,
    alphas: Sequence[float],
    hindsight: Sequence[float],
    tried: Mapping[str, Sequence[Sequence[Outcome]]],
    arguments: argparse.Namespace,
) -> None:
    """Run the cheapest setting that kept the promise on the orders it was chosen by on orders it was not."""
    print(f"On {arguments.fresh} other orders:\n")
    print("| α/best | router | ÷ hindsight | missed | dipped | the setting, cheapest of those that kept the promise |")
    print("|---|---|---:|---:|---:|---|")
    for place, alpha in enumerate(alphas):
        for router, results in tried.items():
            kept = [result[place] for result in results if result[place].kept]
            if not kept and router != "bandit":
                print(f"| {SHARES[place]:.2f} | {router} | – | – | – | none kept it |")
                continue
            best = min(kept, key=lambda each: each.cost) if kept else results[0][place]
            (again,) = outcomes(best.rival, rounds, [alpha], arguments.fresh, first=1000)
            setting = "–" if router == "bandit" else best.setting
            print(
                f"| {SHARES[place]:.2f} | {router} | {again.cost / hindsight[place]:.2f} "
                f"| {again.missed}/{arguments.fresh} | {again.dipped}/{arguments.fresh} | {setting} |"
            )
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--fresh", type=int, default=0, help="the number of other orders to run the chosen settings on")
    parser.add_argument("--only", default="", help="rivals' names, with commas between them")
    arguments = parser.parse_args()
    print(f"{arguments.seeds} shuffled orders, 2 for slow rivals on traces with more than {HUGE:,} requests.")
    print("missed: orders that end more than 0.5 points below α; dipped: more than 2 below from request 500 on.\n")
    for path in arguments.traces:
        table(path.stem, load(path).rounds, arguments)
    packages = ("paretobandit", "scikit-learn", "numpy", "numba")
    print(f"Python {platform.python_version()}, " + ", ".join(f"{package} {version(package)}" for package in packages))


if __name__ == "__main__":
    main()
