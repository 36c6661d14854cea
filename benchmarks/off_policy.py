"""The error of off-policy estimates, on logs drawn from a trace with all outcomes known.

    python benchmarks/off_policy.py traces/box.parquet

For policies that never learn: the mean error of the estimates, and how often the 95 % intervals hold the truth, over
many logs of `--rows` requests. For policies that learn: their attainment and cost when they serve the whole trace
themselves, in the order of the log, and with the odds of a replay along the log, without an estimator.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from messctl.learning.features import WordEncoder
from messctl.learning.snapshot import Snapshot
from messctl.off_policy import Log
from messctl.off_policy.evaluation import estimate_target
from messctl.off_policy.reward import RewardModel
from messctl.off_policy.target import replay_odds, target_of
from messctl.policies import Rounds, build, live_build
from messctl.records import Feedback, Request
from messctl.replay.loading import load
from messctl.trace import TraceFile
from messctl.zoo import Settings

ALPHA, LOGGED_ALPHA = 0.8, 0.75


@dataclass(frozen=True)
class World:
    rounds: Rounds
    prompts: list[str]

    def log(self, policy: str, seed: int, rows: int, has_feedback: float) -> tuple[Log, np.ndarray]:
        """Return a log of `rows` shuffled requests, and their rows in the trace."""
        settings = Settings(alpha=LOGGED_ALPHA, seed=seed)
        rounds = self.rounds.arranged(seed=seed, shuffle=True, feedback_rate=has_feedback, feedback_delay=0)
        models = len(rounds.zoo.models)
        if policy == "bandit":
            played = build(policy, rounds, settings).play(rounds)
            served, propensity = played.served, played.propensity
        else:
            odds = np.full(models, 1 / models) if policy == "evenly" else 0.5 ** np.arange(1, models + 1)
            odds /= odds.sum()
            served = np.random.default_rng(seed).choice(models, len(rounds), p=odds)
            propensity = odds[served]
        order = rounds.order[:rows]
        served, propensity = served[:rows], propensity[:rows]
        return Log(
            path=Path(policy),
            cost_unit="J",
            zoo=rounds.zoo,
            request_ids=tuple(rounds.request_ids[row] for row in order),
            prompts=tuple(self.prompts[row] for row in order),
            features=rounds.features.rows(order),
            served=served,
            propensity=propensity,
            satisfied=np.where(rounds.has_feedback[:rows], rounds.satisfied[order, served], np.nan),
            cost=rounds.cost[order, served],
            alone=np.ones(len(order), dtype=bool),
        ), order

    def served_live(self, policy: str, settings: Settings, order: np.ndarray) -> tuple[float, float]:
        """Return the attainment and mean cost of a policy that serves these requests itself."""
        serving, total_cost, total_satisfied = live_build(policy)(self.rounds.zoo, settings, Snapshot()), 0.0, 0.0
        for row in order:
            decision = serving.decide(Request(self.rounds.request_ids[row], self.prompts[row], gradable=False))
            model = self.rounds.zoo.index(decision.served)
            cost, satisfied = float(self.rounds.cost[row, model]), float(self.rounds.satisfied[row, model])
            serving.learn(decision, Feedback({decision.served: cost}, {decision.served: satisfied}))
            total_cost, total_satisfied = total_cost + cost, total_satisfied + satisfied
        return total_satisfied / len(order), total_cost / len(order)


def fixed(world: World, rows: int, logs: int) -> None:
    print(
        f"{logs} logs of {rows:,} requests, 80 % with feedback: mean error, and share of intervals that hold the truth"
    )
    print(
        "| log | policy | estimator | attained, error | held | cost, error | held |\n|---|---|---|---:|---:|---:|---:|"
    )
    models = world.rounds.zoo.models
    truths = world.rounds.satisfied.mean(axis=0), world.rounds.cost.mean(axis=0)
    for logging in ("evenly", "halving", "bandit"):
        found = defaultdict(list)
        for seed in range(logs):
            log, _ = world.log(logging, seed, rows, 0.8)
            reward = RewardModel.of(log)
            for policy in (*(f"always:{model}" for model in models), "random", "static-mix"):
                target = target_of(policy, log, Settings(alpha=ALPHA), WordEncoder(), reward)
                satisfied, cost = (float(target.odds[0] @ truth) for truth in truths)
                for each in estimate_target(log, target, reward).estimates:
                    found[policy, each.estimator].append(
                        (
                            np.nan if each.attained.mean is None else each.attained.mean - satisfied,
                            held(each.attained.interval, satisfied),
                            np.nan if each.cost.mean is None else each.cost.mean / cost - 1.0,
                            held(each.cost.interval, cost),
                        )
                    )
        for (policy, estimator), errors in found.items():
            values = np.array(errors, dtype=float)
            figures = [np.nanmean(column) if (~np.isnan(column)).any() else np.nan for column in values.T]
            cells = [f"{figures[0]:+.4f}", f"{figures[1]:.0%}", f"{figures[2]:+.1%}", f"{figures[3]:.0%}"]
            print(f"| {logging} | {policy} | {estimator} | {' | '.join(cells)} |".replace("nan%", "–"))


def held(interval: tuple[float, float] | None, truth: float) -> float:
    return np.nan if interval is None else float(interval[0] <= truth <= interval[1])


def learners(world: World, seeds: int) -> None:
    print(f"\n{seeds} logs of the whole trace, all with feedback: the learners' odds along the log")
    print("| log | policy | learns | attained | truth | cost ÷ truth − 1 | standard error |")
    print("|---|---|---|---:|---:|---:|---:|")
    for logging in ("evenly", "bandit"):
        for policy in ("bandit", "messplus"):
            rows = defaultdict(list)
            for seed in range(seeds):
                log, order = world.log(logging, seed, len(world.rounds), 1.0)
                satisfied, cost = world.rounds.satisfied[order], world.rounds.cost[order]
                settings = Settings(alpha=ALPHA, seed=seed)
                rows["truth"].append(world.served_live(policy, settings, order))
                rows["a quarter of it"].append(world.served_live(policy, settings, order[: len(order) // 4]))
                for name, reward in (("matched", None), ("imputed", RewardModel.of(log))):
                    odds = replay_odds(
                        live_build(policy), log, replace(settings, seed=seed + 50), WordEncoder(), reward
                    )
                    rows[name].append(tuple((odds * table).sum(axis=1).mean() for table in (satisfied, cost)))
            truth = np.mean(rows["truth"], axis=0)
            for name, values in rows.items():
                mean, error = np.mean(values, axis=0), np.std(values, axis=0) / np.sqrt(seeds)
                off, spread = mean[1] / truth[1] - 1.0, error[1] / truth[1]
                print(f"| {logging} | {policy} | {name} | {mean[0]:.4f} | {truth[0]:.4f} | {off:+.1%} | {spread:.1%} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--logs", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=12)
    arguments = parser.parse_args()
    texts = [text for batch in TraceFile(arguments.trace).batches() for text in batch.prompts.to_pylist()]
    world = World(load(arguments.trace).rounds, texts)
    if len(texts) != len(world.rounds):
        raise SystemExit(f"{arguments.trace}: not every row has all outcomes")
    fixed(world, arguments.rows, arguments.logs)
    learners(world, arguments.seeds)
