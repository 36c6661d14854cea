"""The choice of `tune`, and its figures on the requests held out: python benchmarks/tune_held_out.py TRACE…

α is 90, 95 and 98 % of the best model's mean, over 20 seeds, in the order of the trace and shuffled. Beside it are, on
the same requests, the cheapest fixed mixture that meets α, which knows them in advance, and the best model's mean.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from messctl.replay.holdout import Holdout
from messctl.replay.loading import Recording, load
from messctl.replay.result import Conditions
from messctl.tune import choose, parse_space, play_yardsticks, search
from messctl.zoo import Settings

SHARES = (0.90, 0.95, 0.98)
FEW_MARGINS, FEW_V = "0,0.005,0.01,0.02", (None, 0.3, 1.0)
"""What is tried with --few: these margins, and these V of the bandit."""


def row(recording: Recording, share: float, conditions: Conditions, holdout: Holdout, few: bool) -> str:
    alpha = round(share * float(recording.facts.mean_satisfied.max()), 3)
    base = Settings(alpha=alpha)
    space = parse_space(base, margin=[FEW_MARGINS] if few else None)
    space = replace(space, bandit_v=FEW_V) if few else space
    found = search([recording], space.settings(base), conditions, holdout)
    (choice,) = choose(found)
    marks = {result.policy: result for result in play_yardsticks(found, alpha)[0]}
    best = max((result.attained or 0.0 for name, result in marks.items() if name.startswith("always:")), default=0.0)
    name = f"{recording.facts.path.stem}{', shuffled' if conditions.shuffle else ''}"
    if choice.chosen is None:
        return f"| {name} | {alpha} | none; at most α = {choice.closest.attainable:.4f} | – | – | – | {best:.4f} |"
    settings, level = choice.chosen.settings, choice.chosen.held_out[0]
    mix = f"{level.cost / marks['static-mix'].mean_cost:.2f}" if "static-mix" in marks else "–"
    attained = f"{level.attained:.4f} ± {level.attained_spread:.4f}"
    points = f"{100 * (level.attained - alpha):+.2f}"
    v = "auto" if settings.v is None else f"{settings.v:g}"
    setting = f"{settings.policy}, {v}, " + (f"{settings.c:g}, " if settings.policy == "messplus" else "")
    setting += f"{settings.margin:g}"
    return f"| {name} | {alpha} | {setting} | {attained} | {points} | {mix} | {best:.4f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--holdout-by", default="time")
    parser.add_argument("--few", action="store_true", help="try fewer margins, and fewer V of the bandit")
    parser.add_argument("--shuffled", action="store_true", help="leave out the order of the trace")
    arguments = parser.parse_args()
    print("| trace | α | policy, V, c, margin | held out | points from α | ÷ static-mix | best model there |")
    print("|---|---:|---|---:|---:|---:|---:|")
    for path in arguments.traces:
        recording = load(path)
        for shuffle in (True,) if arguments.shuffled else (False, True):
            for share in SHARES:
                conditions = Conditions(seeds=arguments.seeds, shuffle=shuffle)
                holdout = Holdout(by=arguments.holdout_by)
                print(row(recording, share, conditions, holdout, arguments.few), flush=True)


if __name__ == "__main__":
    main()
