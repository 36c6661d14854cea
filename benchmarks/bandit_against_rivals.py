"""Evaluates `bandit` on recorded traces and made-up worlds, and prints every table.

python benchmarks/bandit_against_rivals.py TRACE…
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from worlds import WORLDS, Shuffled, drawn

from messctl.learning.snapshot import ModelSnapshot, Snapshot
from messctl.policies import Rounds, build
from messctl.policies.bandit import Bandit
from messctl.policies.bandit.tuning import Tuning
from messctl.policies.base import Floats, Played
from messctl.replay.loading import load
from messctl.zoo import Settings

SHARES = (0.90, 0.95, 0.98)
"""α, as shares of the best model's mean."""
SETTLED = 500
LATE = 100
V = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
C = (0.03, 0.1, 0.3, 0.5, 1.0)
KNOWN = 1e6
"""[answers] As if this number of answers had got feedback."""
UNTRIED: Mapping[str, float] = {
    "forgetting.memory": 1e12,
    "forgetting.idle_memory": 1e12,
    "forgetting.wrong_debt": 1e12,
    "trials.answers": 0.0,
    "trials.later_rate": 0.0,
}
LINES = (-1.0, 0.0, 1.0, 2.0, 4.0)
LESS = (0.0, -0.03, -0.1)
MORE = (0.005, 0.02, 0.05, 1.0)
ABLATIONS: Mapping[str, Mapping[str, float]] = {
    "as it is": {},
    "costs by running mean only": {"costs.per_prompt": False},
    "no shared ridge": {"satisfaction.shared_ridge": 0.0},
    "own ridge 60": {"satisfaction.own_ridge": 60.0},
    "no early trials": {"trials.answers": 0.0},
    "no trials later": {"trials.later_rate": 0.0},
    "no trials at all": {"trials.answers": 0.0, "trials.later_rate": 0.0},
    "nothing is forgotten": {"forgetting.memory": 1e9, "forgetting.idle_memory": 1e9, "forgetting.wrong_debt": 1e9},
    "memory of 1000": {"forgetting.memory": 1000.0},
    "means of idle models do not fade": {"forgetting.idle_memory": 1e12, "forgetting.wrong_debt": 1e12},
    "a debt that grows does not make them fade faster": {"forgetting.wrong_debt": 1e9},
    "idle models fade in 1000": {"forgetting.idle_memory": 1000.0},
    "models' means spread by 0.1": {"satisfaction.spread": 0.1},
    "models' means spread by 0.05": {"satisfaction.spread": 0.05},
    "reference expected like the others": {"satisfaction.reference_lead": 0.0},
    "expected halfway from α to 1": {"satisfaction.prior": 0.5},
    "λ may use all that is in reach": {"price.reach": 1.0},
    "λ₀ for α alone": {"price.step": 0.0},
    "no debt for learning": {"balance.learning_debt": 0.0},
    "twice the debt for learning": {"balance.learning_debt": 0.5},
    "no reserve": {"balance.reserve": 0.0},
    "a reserve without bounds": {"balance.reserve_share": 1e9},
    "early trials in debt, too": {"trials.balance": -1e9},
    "λ reacts twice as fast": {"price.temper": 3.0, "price.temper_growth": 0.01},
    "λ reacts half as fast": {"price.temper": 12.0, "price.temper_growth": 0.04},
    "λ does not slow down": {"price.temper_growth": 0.0},
    "no search": {"search.cheap": 0.0},
    "search: λ bounded by 5·c alone": {"search.debt": 1e9},
    "search: at any time": {"search.time": 1e9},
    "search: with any slack": {"search.slack": -1e9},
    "search: twice as hopeful": {"search.hope": 2.0},
    "search: not bold": {"search.boldness": 0.0},
    "λ has no bound": {"price.limit": 1e9},
    "λ is bounded by 5·c, longer": {"price.limit": 5.0, "price.limit_growth": 100.0},
    "no guard": {"guard.depth": 1e9, "balance.learning_debt": 2.25e-9},  # the debt for learning stays
    "guard at 4": {"guard.depth": 4.0},
    "guard: the slack does not matter": {"guard.slack": 0.0},
    "guard: no good start for the reference": {"guard.reference": 0.0},
    "guard: no retry": {"guard.retry": 0.0},
    "guard: never careful": {"guard.care": -1e9},
    "guard: careful at any depth": {"guard.care": 1e9},
}
DEFAULTS = Tuning()
DRAWN = (
    "as it is",
    "no trials at all",
    "nothing is forgotten",
    "reference expected like the others",
    "λ₀ for α alone",
    "no reserve",
    "λ reacts twice as fast",
    "no search",
    "λ has no bound",
    "no guard",
    "guard: no good start for the reference",
)
"""The ablations that are also played on zoos drawn at random."""


def tuned(changes: Mapping[str, float]) -> Tuning:
    """Return the constants with these changes, by name: `guard.depth` is the guard's depth."""
    tuning = Tuning()
    for name, value in changes.items():
        group, field = name.split(".")
        tuning = tuning._replace(**{group: getattr(tuning, group)._replace(**{field: value})})
    return tuning


@dataclass(frozen=True)
class Trace:
    name: str
    rounds: Rounds

    def alpha(self, share: float) -> float:
        return share * float(self.rounds.satisfied.mean(axis=0).max())

    def arranged(self, seed: int, rate: float = 1.0, delay: int = 0) -> Rounds:
        return self.rounds.arranged(seed=seed, shuffle=True, feedback_rate=rate, feedback_delay=delay)


@dataclass(frozen=True)
class Run:
    """Over the seeds: mean cost, the attainment's distance to α at the end, and its lowest from request 500 on.

    `lowest_judged` is its lowest from the 500th answer with feedback on, NaN if there are fewer.
    """

    cost: float
    end: Floats
    lowest: Floats
    lowest_judged: Floats

    @property
    def missed(self) -> int:
        return int((self.end < -0.005).sum())

    @property
    def dipped(self) -> int:
        return int((self.lowest < -0.02).sum())

    @property
    def dipped_judged(self) -> int:
        return int((self.lowest_judged < -0.02).sum())


def run(
    trace: Trace,
    alpha: float,
    seeds: int,
    rate: float = 1.0,
    delay: int = 0,
    v: float | None = None,
    tuning: Tuning = DEFAULTS,
) -> Run:
    plays = []
    for seed in range(seeds):
        policy = Bandit(trace.rounds.zoo, Settings(alpha=alpha, seed=seed, v=v), tuning=tuning)
        plays.append(policy.play(trace.arranged(seed, rate, delay)))
    return summed(plays, alpha)


def summed(plays: Sequence[Played], alpha: float) -> Run:
    cost, end, lowest, judged = [], [], [], []
    for played in plays:
        has_feedback = ~np.isnan(played.satisfied)
        level = np.cumsum(played.satisfied[has_feedback]) / np.arange(1, has_feedback.sum() + 1)
        late = level[np.flatnonzero(has_feedback) >= SETTLED - 1]
        cost.append(played.cost.mean())
        end.append(level[-1] - alpha if len(level) else np.nan)
        lowest.append(late.min() - alpha if len(late) else np.nan)
        judged.append(level[SETTLED - 1 :].min() - alpha if len(level) >= SETTLED else np.nan)
    return Run(float(np.mean(cost)), np.array(end), np.array(lowest), np.array(judged))


def tuned_messplus(trace: Trace, alpha: float, seeds: int) -> tuple[float, float, float]:
    """Return the least mean cost over the grid among settings that end within 0.5 points of α, with V and c."""
    best = (np.inf, np.nan, np.nan)
    for c in C:
        for v in V:
            plays = []
            for seed in range(seeds):
                settings = Settings(alpha=alpha, v=v, c=c, seed=seed)
                plays.append(build("messplus", trace.rounds, settings).play(trace.arranged(seed)))
            cost = float(np.mean([played.cost.mean() for played in plays]))
            if np.mean([played.attained for played in plays]) >= alpha - 0.005 and cost < best[0]:
                best = (cost, v, c)
    return best


def yardsticks(trace: Trace, seeds: int) -> dict[float, tuple[float, float, float, float, float]]:
    """Return, by share of the best mean: cost of static-mix, of hindsight, of tuned MESS+ with its V and c."""
    known = {}
    for share in SHARES:
        alpha = trace.alpha(share)
        mix, hindsight = (
            float(build(name, trace.rounds, Settings(alpha=alpha)).play(trace.rounds).cost.mean())
            for name in ("static-mix", "hindsight")
        )
        known[share] = (mix, hindsight, *tuned_messplus(trace, alpha, seeds))
    return known


def geometric(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def main_table(traces: Sequence[Trace], marks: Mapping[str, dict], seeds: int) -> None:
    print(f"\n## (1) to (3): {seeds} seeds, shuffled\n")
    print("missed: seeds that end more than 0.5 points below α; dipped: seeds more than 2 below from request 500 on.\n")
    print(
        "| trace | models | n | α/best | ÷ hindsight | ÷ static-mix | ÷ MESS+ (V, c) "
        "| worst end | missed | lowest | dipped |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    ratios: dict[float, list[float]] = {}
    for trace in traces:
        for share in SHARES:
            mix, hindsight, mess, v, c = marks[trace.name][share]
            one = run(trace, trace.alpha(share), seeds)
            ratios.setdefault(share, []).append(one.cost / hindsight)
            n, models = trace.rounds.cost.shape
            print(
                f"| {trace.name} | {models} | {n} | {share} | {one.cost / hindsight:.2f} | {one.cost / mix:.2f} "
                f"| {one.cost / mess:.2f} ({v:g}, {c:g}) | {one.end.min() * 100:+.1f} | {one.missed} "
                f"| {np.nanmin(one.lowest) * 100:+.1f} | {one.dipped} |",
                flush=True,
            )
    each = ", ".join(f"{share}: {geometric(values):.2f}" for share, values in ratios.items())
    print(
        f"\nGeometric mean ÷ hindsight {geometric([value for each in ratios.values() for value in each]):.2f} ({each})"
    )


def auto_v_table(traces: Sequence[Trace], seeds: int) -> None:
    """Compare the price that is found with the best of fixed V, λ = Q·c/V, that ends within 0.5 points of α."""
    print(f"\n## V by itself: against the best fixed V in hindsight; {seeds} seeds\n")
    print("| trace | α/best | best V | its cost ÷ auto | its missed | its dipped |\n|---|---|---|---|---|---|")
    for trace in traces:
        for share in SHARES:
            alpha = trace.alpha(share)
            auto = run(trace, alpha, seeds)
            fixed = [(v, run(trace, alpha, seeds, v=v)) for v in V]
            kept = [(v, one) for v, one in fixed if one.end.mean() >= -0.005]
            v, one = min(kept or fixed, key=lambda pair: pair[1].cost)
            print(
                f"| {trace.name} | {share} | {v:g} | {one.cost / auto.cost:.2f} | {one.missed} | {one.dipped} |",
                flush=True,
            )


def sparse_table(traces: Sequence[Trace], seeds: int) -> None:
    print(f"\n## (4): feedback on 10 %, and late feedback; {seeds} seeds\n")
    print(
        "| trace | α/best | 10 %: cost ÷ full | worst end | missed | dipped | from the 500th judged "
        "| 100 late: cost ÷ prompt | missed | dipped |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for trace in traces:
        for share in SHARES:
            alpha = trace.alpha(share)
            full, sparse = run(trace, alpha, seeds), run(trace, alpha, seeds, rate=0.1)
            late = run(trace, alpha, seeds, delay=100)
            print(
                f"| {trace.name} | {share} | {sparse.cost / full.cost:.2f} | {sparse.end.min() * 100:+.1f} "
                f"| {sparse.missed} | {sparse.dipped} | {sparse.dipped_judged} "
                f"| {late.cost / full.cost:.2f} | {late.missed} | {late.dipped} |",
                flush=True,
            )


def ablation_table(traces: Sequence[Trace], marks: Mapping[str, dict], seeds: int) -> None:
    print(f"\n## Ablations: {seeds} seeds; missed and dipped summed over traces and α\n")
    print(
        "| variant | " + " | ".join(trace.name for trace in traces) + " | ÷ hindsight | missed | dipped | worst end |"
    )
    print("|---" * (len(traces) + 5) + "|")
    for name, changes in ABLATIONS.items():
        missed = dipped = 0
        worst, means = 0.0, []
        for trace in traces:
            part = []
            for share in SHARES:
                few = min(seeds, 3) if len(trace.rounds) > 10_000 else seeds
                one = run(trace, trace.alpha(share), few, tuning=tuned(changes))
                part.append(one.cost / marks[trace.name][share][1])
                missed, dipped, worst = missed + one.missed, dipped + one.dipped, min(worst, float(one.end.min()))
            means.append(geometric(part))
        cells = " | ".join(f"{mean:.2f}" for mean in means)
        print(f"| {name} | {cells} | {geometric(means):.3f} | {missed} | {dipped} | {worst * 100:+.1f} |", flush=True)


def play_world(
    made: Shuffled, share: float, seed: int, delay: int = 0, tuning: Tuning = DEFAULTS
) -> tuple[float, float, float]:
    """Return mean cost, end and lowest of one run at α = `share` × the best model's mean."""
    alpha = share * float(made.rounds.satisfied.mean(axis=0).max())
    policy = Bandit(made.rounds.zoo, Settings(alpha=alpha, seed=seed), tuning=tuning)
    played = policy.play(replace(made.rounds, delay=delay))
    level = np.cumsum(played.satisfied) / np.arange(1, len(played.satisfied) + 1)
    return float(played.cost.mean()), level[-1] - alpha, level[SETTLED - 1 :].min() - alpha


def mixed(made: Shuffled, share: float) -> float:
    """Return what static-mix costs."""
    alpha = share * float(made.rounds.satisfied.mean(axis=0).max())
    return float(build("static-mix", made.rounds, Settings(alpha=alpha)).play(made.rounds).cost.mean())


def run_world(worlds: Sequence[Shuffled], delay: int = 0, tuning: Tuning = DEFAULTS) -> Run:
    rows = [play_world(made, 0.95, seed, delay, tuning) for seed, made in enumerate(worlds)]
    cost, end, lowest = np.array(rows).T
    return Run(float(cost.mean() / np.mean([mixed(made, 0.95) for made in worlds])), end, lowest, lowest)


def world_table(seeds: int) -> None:
    print(f"\n## Made-up worlds, α = 0.95 × the best model's mean over all requests; {seeds} seeds\n")
    print(
        "| world | ÷ static-mix | worst end | missed | lowest | dipped "
        "| nothing forgotten: ÷ static-mix | missed | dipped | 100 late: ÷ static-mix | missed | dipped |"
    )
    print("|---" * 12 + "|")
    for name, world in WORLDS.items():
        made = [world(seed) for seed in range(seeds)]
        plain = run_world(made)
        cells = [
            f"{one.cost:.2f} | {one.missed} | {one.dipped}"
            for one in (run_world(made, 0, tuned(ABLATIONS["nothing is forgotten"])), run_world(made, LATE))
        ]
        print(
            f"| {name} | {plain.cost:.2f} | {plain.end.min() * 100:+.1f} | {plain.missed} "
            f"| {plain.lowest.min() * 100:+.1f} | {plain.dipped} | {' | '.join(cells)} |",
            flush=True,
        )


def drawn_table(zoos: int) -> None:
    print(f"\n## {zoos} zoos drawn at random: cost ÷ that of the bandit as it is, geometric mean; missed, dipped\n")
    print("| variant | " + " | ".join(f"{share}" for share in SHARES) + " |")
    print("|---" * (1 + len(SHARES)) + "|")
    made = [drawn(zoo) for zoo in range(zoos)]
    mixes = np.array([[mixed(one, share) for one in made] for share in SHARES])
    runs = {
        name: np.array(
            [
                [play_world(one, share, zoo, 0, tuned(ABLATIONS[name])) for zoo, one in enumerate(made)]
                for share in SHARES
            ]
        )
        for name in DRAWN
    }
    usual = runs["as it is"]
    for name, run in runs.items():
        ratio = run[:, :, 0] / (mixes if run is usual else usual[:, :, 0])
        means = np.exp(np.log(ratio).mean(axis=1))
        noise = np.log(ratio).std(axis=1) / np.sqrt(zoos)
        missed, dipped = (run[:, :, 1] < -0.005).sum(axis=1), (run[:, :, 2] < -0.02).sum(axis=1)
        by = " × static-mix" if run is usual else ""
        cells = [
            f"{mean:.2f} ± {error:.2f}{by}; {ends}, {dips}"
            for mean, error, ends, dips in zip(means, noise, missed, dipped, strict=True)
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def with_known_means(trace: Trace, policy: Bandit) -> Snapshot:
    """Return the policy's state as if it knew each model's mean satisfaction and cost exactly, and nothing else."""
    known = policy.snapshot()
    models = {}
    for index, (name, model) in enumerate(known.models.items()):
        mean, cost = (float(table[:, index].mean()) for table in (trace.rounds.satisfied, trace.rounds.cost))
        arrays = {array: value.copy() for array, value in model.arrays.items()}
        arrays["good"][...], arrays["answers"][...] = mean * KNOWN, KNOWN
        arrays["own"][0], arrays["lean"][:] = mean, 0.0
        arrays["own_cov"][0, :] = arrays["own_cov"][:, 0] = 0.0
        models[name] = ModelSnapshot(mean_cost=cost, cost_count=int(KNOWN), arrays=arrays)
    return replace(known, models=models)


def known_means_table(traces: Sequence[Trace], marks: Mapping[str, dict], seeds: int) -> None:
    """Play the same bandit with known means: it has nothing to try, and never forgets."""
    print(f"\n## Every model's mean known in advance, the rest learned; {seeds} seeds\n")
    print("| trace | α/best | ÷ hindsight | means known: ÷ hindsight | missed | dipped |\n|---|---|---|---|---|---|")
    ratios = []
    for trace in traces:
        for share in SHARES:
            alpha, hindsight = trace.alpha(share), marks[trace.name][share][1]
            plays = []
            for seed in range(seeds):
                settings = Settings(alpha=alpha, seed=seed)
                known = with_known_means(trace, Bandit(trace.rounds.zoo, settings))
                policy = Bandit(trace.rounds.zoo, settings, known, tuned(UNTRIED))
                plays.append(policy.play_on(trace.arranged(seed)))
            one = summed(plays, alpha)
            ratios.append((run(trace, alpha, seeds).cost / hindsight, one.cost / hindsight))
            print(
                f"| {trace.name} | {share} | {ratios[-1][0]:.2f} | {ratios[-1][1]:.2f} | {one.missed} | {one.dipped} |",
                flush=True,
            )
    plain, known = (geometric(column) for column in zip(*ratios, strict=True))
    print(f"\nGeometric means {plain:.2f} and {known:.2f}")


def steered_table(traces: Sequence[Trace], seeds: int, rate: float) -> None:
    """Steer by the balance, all else known: hindsight's choice for less than α, and for more below a line.

    Line, less and more are those that cost least among those by which at most one seed in twenty ends low. More than
    the linear models can attain is the best model alone.
    """
    print(f"\n## Steered, all else known: feedback on {rate:.0%}; {seeds} seeds\n")
    print("| trace | α/best | line | α less | more | cost ÷ the bandit's with all feedback | missed | the best alone |")
    print("|---|---|---|---|---|---|---|---|")
    for trace in traces:
        best = int(trace.rounds.satisfied.mean(axis=0).argmax())
        alone = trace.rounds.cost[:, best], trace.rounds.satisfied[:, best]
        orders = [trace.arranged(seed, rate) for seed in range(seeds)]
        for share in SHARES:
            alpha, full = trace.alpha(share), run(trace, trace.alpha(share), seeds).cost
            choices = {step: hindsight(trace, alpha + step) or alone for step in (*LESS, *MORE)}
            found = []
            for less, more, line in product(LESS, MORE, LINES):
                ends = [steered(alpha, line, one, choices[less], choices[more]) for one in orders]
                missed = sum(end < -0.005 for _, end in ends)
                if missed <= seeds // 20:
                    found.append((np.mean([cost for cost, _ in ends]), missed, line, less, more))
            missed_alone = sum(steered(alpha, 0.0, one, alone, alone)[1] < -0.005 for one in orders)
            cells = "none | | | |"
            if found:
                cost, missed, line, less, more = min(found)
                cells = f"{line:g} | {abs(less):g} | {more:g} | {cost / full:.2f} | {missed}"
            print(f"| {trace.name} | {share} | {cells} | {missed_alone} |", flush=True)


def hindsight(trace: Trace, alpha: float) -> tuple[Floats, Floats] | None:
    """Return each request's cost and satisfaction by hindsight's choice; None if α is out of its reach."""
    played = build("hindsight", trace.rounds, Settings(alpha=min(1.0, alpha))).play(trace.rounds)
    return None if played.satisfied.mean() < alpha - 0.001 else (played.cost, played.satisfied)


def steered(
    alpha: float, line: float, rounds: Rounds, cheap: tuple[Floats, Floats], dear: tuple[Floats, Floats]
) -> tuple[float, float]:
    """Return the mean cost, and the attainment at the end less α, of serving the expensive choice below the line."""
    balance, cost, has_feedback = 0.0, 0.0, 0
    for row, judged in zip(rounds.order.tolist(), rounds.has_feedback.tolist(), strict=True):
        costs, satisfied = cheap if balance >= line else dear
        cost += costs[row]
        if judged:
            balance += satisfied[row] - alpha
            has_feedback += 1
    return cost / len(rounds.order), balance / has_feedback


def speed(traces: Sequence[Trace]) -> None:
    print("\n## (5): one decision with its learning\n\n| trace | models | µs, best of 5 |\n|---|---|---|")
    for trace in traces:
        policy, taken = Bandit(trace.rounds.zoo, Settings(alpha=trace.alpha(0.95))), []
        for _ in range(5):
            start = time.process_time()
            policy.play(trace.rounds)
            taken.append(time.process_time() - start)
        print(f"| {trace.name} | {len(trace.rounds.zoo.models)} | {min(taken) / len(trace.rounds) * 1e6:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("traces", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", default="main,known-means,speed,auto,sparse,steered,worlds,drawn,ablations")
    arguments = parser.parse_args()
    traces = [Trace(path.stem, load(path).rounds) for path in arguments.traces]
    only = arguments.only.split(",")
    marks = {}
    if {"main", "known-means", "ablations"} & set(only):
        marks = {trace.name: yardsticks(trace, 5) for trace in traces}
    if "main" in only:
        main_table(traces, marks, arguments.seeds)
    if "known-means" in only:
        known_means_table(traces, marks, arguments.seeds)
    if "speed" in only:
        speed(traces)
    if "auto" in only:
        auto_v_table(traces, min(arguments.seeds, 10))
    if "sparse" in only:
        sparse_table(traces, arguments.seeds)
    if "steered" in only:
        steered_table(traces, arguments.seeds, 0.1)
    if "worlds" in only:
        world_table(min(arguments.seeds, 10))
    if "drawn" in only:
        drawn_table(200)
    if "ablations" in only:
        ablation_table(traces, marks, min(arguments.seeds, 10))


if __name__ == "__main__":
    main()
