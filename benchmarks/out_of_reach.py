"""Measures what no learner escapes: luck, and the price of finding out.

    python benchmarks/out_of_reach.py TRACE…

It prints four tables, for benchmarks/notes/BANDIT.md.

*Luck*: how often two routers end low and dip that know everything in advance, with all feedback and with a tenth of it.
One serves the best model alone. The other serves for every prompt the model that hindsight's regressions, fitted with
full information, think the likeliest to satisfy. No router that looks at no prompt ends low or dips less often than the
best model alone: any other model satisfies at most as often, no matter what came before.

*Blind to cost*: learners that want nothing but satisfaction, at any price, from single answers. How often even they are
two points below α, from request 500 on. They look at no prompt.

*All but which known*: α = 0.90 × the best model's mean, and one of several cheap models attains α. It is known in
advance which model is the best, which ones are cheap, and the exact means of the cheap ones, but not which mean is
whose. The beliefs are exact, and all constants are chosen in hindsight, on the very orders that are scored. It looks at
no prompt.

*Shown every answer*: the bandit itself, to which every request shows the outcomes and costs of all models for nothing.
It has nothing to try and nothing to search for.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from messctl.learning.compiled import compiled
from messctl.learning.features import SparseRows
from messctl.policies import Rounds, build
from messctl.policies.bandit import Bandit, Tuning
from messctl.policies.bandit.choice import Prices, choose
from messctl.policies.bandit.costs import learn_cost
from messctl.policies.bandit.debt import record_debt
from messctl.policies.bandit.prompt import fold
from messctl.policies.bandit.satisfaction import learn_satisfaction
from messctl.policies.bandit.state import AUTO_V, WIDTH, Promise, State, fresh
from messctl.policies.bandit.tuning import ForgettingTuning, SearchTuning, TrialTuning
from messctl.policies.hindsight import out_of_fold
from messctl.replay.loading import load
from messctl.zoo import Settings

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

NOISE = 0.4
SETTLED = 500
SHARES = (0.9, 0.95, 0.98)
"""α, as shares of the best model's mean."""
JUDGED = 0.1
LUCK = 2000
PRIOR_ANSWERS = (5.0, 25.0)
REFERENCE_ANSWERS = (0.0, 10.0, 40.0)
DEVIATIONS = {"greedy": 0.0, "half a deviation bold": 0.5, "one deviation bold": 1.0, "half a deviation shy": -0.5}
CHEAP, ALIKE = 0.5, 6.0
"""Cheap models cost less than CHEAP times the costliest model, and are within a factor ALIKE of each other."""
LINES = (4.0, 7.0, 9.0, 12.0, 16.0, 24.0)
PAID_BACK = (0.0, 1.0, 3.0)
BOLD = (0.0, 0.5, 1.0, 2.0)
WITHOUT_TRIALS = Tuning(trials=TrialTuning(rate=0.0, later_rate=0.0), search=SearchTuning(cheap=0.0))
WITHOUT_FORGETTING = WITHOUT_TRIALS._replace(forgetting=ForgettingTuning(memory=1e9, idle_memory=1e9))


@compiled
def blind(
    satisfied: Floats, order: Rows, alpha: float, deviations: float, prior: float, reference: int, trusted: float
) -> float:
    """Return how far the attainment is from α at its lowest, serving argmax of mean + deviations·σ/√answers."""
    models = satisfied.shape[1]
    known = np.full(models, prior)
    good = np.full(models, prior * (alpha + 0.25 * (1.0 - alpha)))
    known[reference] += trusted
    good[reference] += trusted
    balance, lowest = 0.0, np.inf
    for t in range(len(order)):
        model = np.argmax(good / known + deviations * NOISE / np.sqrt(known))
        good[model] += satisfied[order[t], model]
        known[model] += 1.0
        balance += satisfied[order[t], model] - alpha
        if t + 1 >= SETTLED:
            lowest = min(lowest, balance / (t + 1))
    return lowest


@compiled
def believed(evidence: Floats, means: Floats, mean: Floats, deviation: Floats) -> None:
    """Write what is believed of each model, which has one of `means`, no two the same (rows and columns are scaled)."""
    count = len(means)
    share = np.empty((count, count))
    for model in range(count):
        share[model] = np.exp(evidence[model] - evidence[model].max())
    for _ in range(8):
        for value in range(count):
            share[:, value] /= share[:, value].sum() + 1e-300
        for model in range(count):
            share[model] /= share[model].sum() + 1e-300
    for model in range(count):
        mean[model] = (share[model] * means).sum()
        deviation[model] = np.sqrt(max(0.0, (share[model] * means**2).sum() - mean[model] ** 2))


@compiled
def informed(
    satisfied: Floats,
    cost: Floats,
    order: Rows,
    alpha: float,
    cheap: Rows,
    best: int,
    bold: float,
    line: float,
    paid_back: float,
) -> tuple[float, float, float]:
    """Return mean cost, end and lowest of serving the likeliest cheap model, but the best one below the line."""
    count = len(cheap)
    means = np.empty(count)
    for at in range(count):
        means[at] = min(0.99, max(0.01, satisfied[:, cheap[at]].mean()))
    evidence, mean, deviation = np.zeros((count, count)), np.empty(count), np.empty(count)
    believed(evidence, means, mean, deviation)
    balance, paid, lowest, paying = 0.0, 0.0, np.inf, False
    for t in range(len(order)):
        below = min(line, 0.02 * (t + 1))
        if balance < -below:
            paying = True
        if balance >= paid_back - below:
            paying = False
        at = np.argmax(mean + bold * deviation)
        model = best if paying else cheap[at]
        got = satisfied[order[t], model]
        if not paying:
            evidence[at] += got * np.log(means) + (1.0 - got) * np.log(1.0 - means)
            believed(evidence, means, mean, deviation)
        balance += got - alpha
        paid += cost[order[t], model]
        if t + 1 >= SETTLED:
            lowest = min(lowest, balance / (t + 1))
    return paid / len(order), balance / len(order), lowest


@compiled
def shown(
    state: State,
    promise: Promise,
    tuning: Tuning,
    order: Rows,
    words: SparseRows,
    outcomes: tuple[Floats, Floats],
    served: Rows,
) -> None:
    """Play all rounds; learn the answers of every model after each, though only one counts in the balance."""
    satisfied, cost = outcomes
    models = satisfied.shape[1]
    z, prices = np.empty(WIDTH), Prices(np.zeros(models), np.zeros(models))
    for t in range(len(order)):
        row = order[t]
        part = slice(words.starts[row], words.starts[row + 1])
        fold(words.indices[part], words.values[part], z)
        served[t] = choose(state, promise, tuning, z, prices, 0.5).model
        record_debt(state, tuning, promise.alpha, t + 1, satisfied[row, served[t]])
        for model in range(models):
            learn_cost(state, tuning, model, z, 0.0, cost[row, model])
            learn_satisfaction(state, promise, tuning, model, z, satisfied[row, model])


def orders(rounds: Rounds, seeds: int) -> list[Rows]:
    return [
        rounds.arranged(seed=seed, shuffle=True, feedback_rate=1.0, feedback_delay=0).order for seed in range(seeds)
    ]


def luck_of(satisfied: Floats, alpha: float) -> Sequence[float]:
    """Return which shares of the orders dip, end low and dip with a tenth judged, and dip from the 500th judged on."""
    rng, n = np.random.default_rng(0), len(satisfied)
    unlucky = np.zeros((LUCK, 4))
    for luck in unlucky:
        order, has_feedback = rng.permutation(n), np.flatnonzero(rng.random(n) < JUDGED)
        off = satisfied[order].cumsum() / np.arange(1, n + 1) - alpha
        off_judged = satisfied[order[has_feedback]].cumsum() / np.arange(1, len(has_feedback) + 1) - alpha
        luck[0] = off[SETTLED - 1 :].min() < -0.02
        luck[1] = off_judged[-1] < -0.005
        luck[2] = off_judged[has_feedback >= SETTLED - 1].min() < -0.02
        luck[3] = off_judged[SETTLED - 1 :].min(initial=np.inf) < -0.02
    return unlucky.mean(axis=0)


def luck_table(traces: dict[str, Rounds]) -> None:
    print(f"\n## Luck: what the best do at any cost; {LUCK:,} orders, in per cent\n")
    print("The best model alone / for every prompt the model that hindsight's regressions think the best.\n")
    print("| trace | α/best | dip | 10 %: end low | 10 %: dip | dip from the 500th judged |\n" + "|---" * 6 + "|")
    for name, rounds in traces.items():
        satisfied = rounds.satisfied
        best = int(satisfied.mean(axis=0).argmax())
        foreseen = out_of_fold(rounds.features.csr(), satisfied).argmax(axis=1)
        served = (satisfied[:, best], satisfied[np.arange(len(rounds)), foreseen])
        for share in SHARES:
            alone, each = (luck_of(one, share * float(satisfied[:, best].mean())) for one in served)
            cells = " | ".join(f"{100 * a:.1f} / {100 * b:.1f}" for a, b in zip(alone, each, strict=True))
            print(f"| {name} | {share} | {cells} |", flush=True)


def blind_table(traces: dict[str, Rounds], seeds: int) -> None:
    print(f"\n## Blind to cost, α = 0.98 × the best model's mean: how many of {seeds} orders dip, in per cent\n")
    print("Answers that the prior counts for, a quarter of the way from α to 1, and good answers of the reference.\n")
    print(f"| learner | prior | reference | {' | '.join(traces)} |\n{'|---' * (3 + len(traces))}|")
    played = {name: orders(rounds, seeds) for name, rounds in traces.items()}
    for (learner, deviations), prior, trusted in product(DEVIATIONS.items(), PRIOR_ANSWERS, REFERENCE_ANSWERS):
        cells = []
        for name, rounds in traces.items():
            alpha, reference = 0.98 * float(rounds.satisfied.mean(axis=0).max()), rounds.zoo.index(rounds.zoo.reference)
            lows = [
                blind(rounds.satisfied, order, alpha, deviations, prior, reference, trusted) for order in played[name]
            ]
            cells.append(f"{100 * float(np.mean(np.array(lows) < -0.02)):.1f}")
        print(f"| {learner} | {prior:g} | {trusted:g} | {' | '.join(cells)} |", flush=True)


def informed_table(traces: dict[str, Rounds], seeds: int) -> None:
    print(f"\n## All but which known, α = 0.90 × the best model's mean; {seeds} orders, the best of all constants\n")
    print(
        "| trace | cheap models | which known: ÷ hindsight | not known: ÷ hindsight | bold | line | missed | dipped |"
    )
    print("|---" * 8 + "|")
    for name, rounds in traces.items():
        satisfied, cost = rounds.satisfied, rounds.cost
        means, costs = satisfied.mean(axis=0), cost.mean(axis=0)
        alpha, best = 0.9 * float(means.max()), int(means.argmax())
        cheap = np.flatnonzero(costs < CHEAP * costs.max())
        if len(cheap) < 2 or means[cheap].max() < alpha or costs[cheap].max() > ALIKE * costs[cheap].min():
            continue
        hindsight = float(build("hindsight", rounds, Settings(alpha=alpha)).play(rounds).cost.mean())
        cells = []
        for known in (cheap[[int(means[cheap].argmax())]], cheap):
            found = []
            for bold, line, paid_back in product(BOLD, LINES, PAID_BACK):
                runs = np.array(
                    [
                        informed(satisfied, cost, order, alpha, known, best, bold, line, paid_back)
                        for order in orders(rounds, seeds)
                    ]
                )
                missed, dipped = int((runs[:, 1] < -0.005).sum()), int((runs[:, 2] < -0.02).sum())
                if max(missed, dipped) <= seeds // 20:
                    found.append((float(runs[:, 0].mean()) / hindsight, bold, line, missed, dipped))
            cells.append(min(found))
        ratio, bold, line, missed, dipped = cells[1]
        print(
            f"| {name} | {len(cheap)} | {cells[0][0]:.2f} | {ratio:.2f} | {bold:g} | {line:g} | {missed} | {dipped} |",
            flush=True,
        )


def shown_all(rounds: Rounds, alpha: float, tuning: Tuning, seeds: int) -> tuple[float, int, int]:
    """Return the mean cost over the orders, how many end half a point low, and how many dip by two."""
    costs, missed, dipped = [], 0, 0
    promise = Promise(alpha, rounds.zoo.index(rounds.zoo.reference), AUTO_V)
    words = rounds.features.sparse_rows
    for order in orders(rounds, seeds):
        state, served = fresh(len(rounds.zoo.models), tuning), np.empty(len(order), dtype=np.int64)
        shown(state, promise, tuning, order, words, (rounds.satisfied, rounds.cost), served)
        costs.append(float(rounds.cost[order, served].mean()))
        level = np.cumsum(rounds.satisfied[order, served]) / np.arange(1, len(order) + 1)
        missed += level[-1] < alpha - 0.005
        dipped += level[SETTLED - 1 :].min() < alpha - 0.02
    return float(np.mean(costs)), missed, dipped


def shown_table(traces: dict[str, Rounds], seeds: int) -> None:
    print(f"\n## Shown every answer; {seeds} orders\n")
    print("| trace | α/best | ÷ hindsight, as it is | shown every answer | nothing forgotten | missed | dipped |")
    print("|---" * 7 + "|")
    ratios = []
    for (name, rounds), share in product(traces.items(), SHARES):
        settings = Settings(alpha=share * float(rounds.satisfied.mean(axis=0).max()))
        hindsight = float(build("hindsight", rounds, settings).play(rounds).cost.mean())
        usual = [
            Bandit(rounds.zoo, replace(settings, seed=seed)).play(replace(rounds, order=order)).cost.mean()
            for seed, order in enumerate(orders(rounds, seeds))
        ]
        fading, _, _ = shown_all(rounds, settings.alpha, WITHOUT_TRIALS, seeds)
        kept, missed, dipped = shown_all(rounds, settings.alpha, WITHOUT_FORGETTING, seeds)
        ratios.append(np.array([np.mean(usual), fading, kept]) / hindsight)
        cells = " | ".join(f"{ratio:.2f}" for ratio in ratios[-1])
        print(f"| {name} | {share} | {cells} | {missed} | {dipped} |", flush=True)
    means = np.exp(np.log(ratios).mean(axis=0))
    print(f"\nGeometric means {means[0]:.2f}, {means[1]:.2f} and {means[2]:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("traces", nargs="+", type=Path)
    arguments = parser.parse_args()
    traces = {path.stem: load(path).rounds for path in arguments.traces}
    luck_table(traces)
    blind_table(traces, 400)
    informed_table(traces, 20)
    shown_table(traces, 20)


if __name__ == "__main__":
    main()
