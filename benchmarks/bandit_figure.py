"""Draws docs/bandit.png: one run of the bandit on the trace in the box, its balance, its price, and who decided.

    python benchmarks/bandit_figure.py [--output docs/bandit.png]

The run is live, request by request, in one shuffled order; all that is drawn comes from the decisions themselves.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from messctl.policies.bandit import Bandit
from messctl.policies.bandit.choice import standing_of
from messctl.policies.bandit.policy import GUARDED, HELD_BACK, TRIED
from messctl.policies.bandit.satisfaction import levels_of
from messctl.records import Feedback, Request
from messctl.replay.loading import load
from messctl.trace import TraceFile
from messctl.zoo import Settings

ALPHA, SEED, REQUESTS = 0.85, 3, 2000
DECIDERS = {"": "price", HELD_BACK: "price", GUARDED: "guard", TRIED: "trial"}
COLORS = {"price": "#9aa5b1", "guard": "#c8452d", "trial": "#e0a030"}
INK, LINE = "#222222", "#1c5d8c"


@dataclass(frozen=True)
class Step:
    """What one decision was made of; `line` is the guard's, `price` is in mean costs of the costliest model."""

    balance: float
    setpoint: float
    line: float
    price: float
    decider: str


def run(path: Path) -> list[Step]:
    """Play the first requests of one order, as `ask` does."""
    rounds, steps = load(path).rounds, []
    prompts = [prompt for batch in TraceFile(path).batches() for prompt in batch.prompts.to_pylist()]
    order = rounds.arranged(seed=SEED, shuffle=True, feedback_rate=1.0, feedback_delay=0).order[:REQUESTS]
    policy = Bandit(rounds.zoo, Settings(alpha=ALPHA, seed=SEED))
    for row in order.tolist():
        state, promise, tuning = policy._state, policy._promise, policy._tuning
        levels, scale = levels_of(state, promise, tuning), float(state.mean_cost.max()) or 1.0
        nothing = np.zeros(len(levels.mean))
        standing = standing_of(state, promise, tuning, levels, nothing, nothing)
        decision = policy.decide(Request(rounds.request_ids[row], prompts[row]))
        assert decision.weighed is not None
        figures, served = decision.weighed.figures, decision.served
        decider = DECIDERS[decision.weighed.note]
        steps.append(Step(figures["balance"], standing.setpoint, standing.line, figures["λ"] / scale, decider))
        index = rounds.zoo.index(served)
        policy.learn(decision, Feedback({served: rounds.cost[row, index]}, {served: rounds.satisfied[row, index]}))
    return steps


def draw(steps: list[Step], output: Path) -> None:
    """Draw the run in three panels over one axis of requests."""
    import matplotlib  # noqa: PLC0415

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, (top, middle, bottom) = plt.subplots(
        3, 1, figsize=(8, 6), sharex=True, height_ratios=[3, 2.4, 1.3], constrained_layout=True
    )
    at = np.arange(1, len(steps) + 1)
    balance, setpoint, line = (
        np.array([getattr(step, name) for step in steps]) for name in ("balance", "setpoint", "line")
    )
    lowest = min(balance.min(), line.min()) - 2
    top.fill_between(at, lowest, line, color=COLORS["guard"], alpha=0.15, linewidth=0, label="the guard decides")
    top.plot(at, setpoint, color=LINE, linewidth=1.0, linestyle="--", label="setpoint h")
    top.axhline(0, color="#888888", linewidth=0.8)
    top.plot(at, balance, color=INK, linewidth=1.0)
    top.set_ylim(lowest, None)
    top.set_ylabel("balance B, answers")
    top.legend(loc="upper left", frameon=False, ncols=2)
    middle.plot(at, [step.price for step in steps], color=LINE, linewidth=1.0)
    middle.set_yscale("log")
    middle.set_ylim(1.0, 30.0)  # the first requests are cheaper: no cost is known yet
    middle.set_yticks([1, 3, 10, 30], ["1", "3", "10", "30"])
    middle.set_ylabel("price λ ÷ c")
    for row, name in enumerate(COLORS):
        hits = at[[step.decider == name for step in steps]]
        bottom.plot(hits, np.full(len(hits), row), "|", color=COLORS[name], markersize=9, markeredgewidth=0.6)
    bottom.set_yticks(range(len(COLORS)), list(COLORS))
    bottom.set_ylim(-0.6, len(COLORS) - 0.4)
    bottom.set_ylabel("decided by")
    bottom.set_xlabel("request")
    bottom.set_xlim(0, len(at))
    figure.savefig(output, dpi=120)


def main() -> None:
    """Run, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path, default=Path("traces/box.parquet"))
    parser.add_argument("--output", type=Path, default=Path("docs/bandit.png"))
    arguments = parser.parse_args()
    draw(run(arguments.trace), arguments.output)


if __name__ == "__main__":
    main()
