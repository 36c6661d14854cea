"""What the bandit gains by knowing in advance what reading a prompt costs.

    python benchmarks/predicted_costs.py TRACE…

Every trace with tokens is played as it is. Every trace is also played with *contexts*, as conversations and documents
put them before a question. The router sees the prompts without contexts, and outcomes are those recorded. But each
prompt is read with 1 to 50 times its own tokens (log-uniform), and an answer is half to twice as long as the question
(log-uniform, for each model). A context tells nothing about how hard a question is.

Prices, in the order of the models' mean costs: a generated token costs the costliest model 100 times as much as the
cheapest one; the others lie between, in equal steps of the logarithm. To read a token costs the cheapest model 1/2 of
that and the costliest 1/8, with the same steps. 4 characters make a token.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pyarrow.parquet as pq

from messctl.errors import TraceError
from messctl.policies import Rounds
from messctl.policies.bandit import Bandit
from messctl.policies.bandit.costs import (
    BY_MEAN,
    BY_READING,
    BY_RIDGE,
    best_method,
    learn_cost,
    predicted_cost,
    properties_of,
)
from messctl.policies.bandit.prompt import fold
from messctl.policies.bandit.state import WIDTH, fresh
from messctl.policies.bandit.tuning import Tuning
from messctl.replay.loading import load
from messctl.zoo import Settings

SHARES = (0.90, 0.95, 0.98)
"""α, as shares of the best model's mean."""
ALPHA = 0.9
"""Costs are predicted alike at any."""
CHARACTERS = 4
MOST_CONTEXT = 50
ANSWERS = (0.5, 2.0)
"""As shares of the question's own tokens."""
DEAREST = 100.0
READING = (1 / 2, 1 / 8)
"""The price of reading a token over that of generating one, by the cheapest model and by the dearest."""


def with_contexts(path: Path) -> Rounds:
    """Return a trace whose prompts are read with contexts of any length, and what reading them costs."""
    rounds, rng = load(path).rounds, np.random.default_rng(0)
    n, models = rounds.cost.shape
    by_id = dict(zip(*(pq.read_table(path)[name].to_pylist() for name in ("request_id", "prompt")), strict=True))
    own = np.array([len(by_id[each]) for each in rounds.request_ids]) / CHARACTERS
    tokens_in = own * np.exp(rng.uniform(0.0, np.log(MOST_CONTEXT), n))
    tokens_out = own[:, None] * np.exp(rng.uniform(np.log(ANSWERS[0]), np.log(ANSWERS[1]), (n, models)))
    rank = rounds.cost.mean(axis=0).argsort().argsort() / (models - 1)
    generated = DEAREST**rank
    known = tokens_in[:, None] * generated * READING[0] * (READING[1] / READING[0]) ** rank
    return replace(rounds, cost=known + tokens_out * generated, prompt_cost=known)


def errors(rounds: Rounds) -> Mapping[str, float]:
    """Return each method's mean absolute error ÷ mean cost, averaged over models; each answers every prompt."""
    n, models = rounds.cost.shape
    features, z = rounds.features, np.empty(WIDTH)
    readings = rounds.prompt_cost if rounds.prompt_cost is not None else np.zeros((n, models))
    tuning = Tuning()
    silent, state = fresh(models, ALPHA, tuning), fresh(models, ALPHA, tuning)
    off = dict.fromkeys(
        (
            "running mean",
            "ridge, reading unknown",
            "reading known, mean rest",
            "reading known, ridge",
            "reading known, chosen",
        ),
        0.0,
    )
    scale = rounds.cost.mean(axis=0)
    order = np.random.default_rng(0).permutation(n)
    for row in order:
        start, stop = features.starts[row], features.starts[row + 1]
        fold(features.indices[start:stop], features.values[start:stop], z)
        properties = properties_of(z)
        for model in range(models):
            cost, known = rounds.cost[row, model], readings[row, model]
            guesses = {
                "running mean": predicted_cost(state, tuning, model, properties, known, BY_MEAN),
                "ridge, reading unknown": predicted_cost(silent, tuning, model, properties, 0.0, BY_RIDGE),
                "reading known, mean rest": predicted_cost(state, tuning, model, properties, known, BY_READING),
                "reading known, ridge": predicted_cost(state, tuning, model, properties, known, BY_RIDGE),
                "reading known, chosen": predicted_cost(
                    state, tuning, model, properties, known, best_method(state, model)
                ),
            }
            for name, guess in guesses.items():
                off[name] += abs(cost - guess) / scale[model] / (n * models)
            learn_cost(silent, tuning, model, z, 0.0, cost)
            learn_cost(state, tuning, model, z, known, cost)
    return off


def routed(rounds: Rounds, seeds: int) -> None:
    """Print the bandit's cost with and without known reading costs; each seed is one order of arrival."""
    for share in SHARES:
        alpha = share * float(rounds.satisfied.mean(axis=0).max())
        costs: dict[str, list[float]] = {}
        ends: dict[str, list[float]] = {}
        for seed in range(seeds):
            arranged = rounds.arranged(seed=seed, shuffle=True, feedback_rate=1.0, feedback_delay=0)
            for name, reading in (("unknown", None), ("known", rounds.prompt_cost)):
                policy = Bandit(rounds.zoo, Settings(alpha=alpha, seed=seed))
                played = policy.play(replace(arranged, prompt_cost=reading))
                costs.setdefault(name, []).append(float(played.cost.mean()))
                ends.setdefault(name, []).append(100.0 * (float(played.satisfied.mean()) - alpha))
        ratio = [with_it / without for with_it, without in zip(costs["known"], costs["unknown"], strict=True)]
        cells = " | ".join(f"{fmean(costs[name]):.4g} ({fmean(ends[name]):+.1f})" for name in costs)
        print(f"| {share} | {cells} | {fmean(costs['known']) / fmean(costs['unknown']):.3f} "
              f"| {fmean(ratio):.3f} ± {stdev(ratio) / len(ratio) ** 0.5:.3f} |", flush=True)  # fmt: skip


def main() -> None:
    """Print both tables for every trace."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("traces", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    worlds: dict[str, Rounds] = {}
    for path in arguments.traces:
        worlds[f"{path.stem}, with contexts"] = with_contexts(path)
        try:
            worlds[path.stem] = load(path, prompt_costs=True).rounds
        except TraceError as error:
            print(error)
    for name, rounds in worlds.items():
        print(f"\n## {name}\n\nMean absolute error ÷ mean cost: ", end="")
        print(", ".join(f"{way} {off:.3f}" for way, off in errors(rounds).items()))
        print(f"\nThe bandit's mean cost (points from α), {arguments.seeds} seeds, shuffled:\n")
        print("| α/best | reading unknown | known | known ÷ unknown | seed by seed, ± standard error |")
        print("|---|---|---|---|---|", flush=True)
        routed(rounds, arguments.seeds)


if __name__ == "__main__":
    main()
