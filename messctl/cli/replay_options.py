"""The options of `messctl replay`; `messctl evaluate` and `messctl tune` share some of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from messctl.cli.arguments import INT64, OUTPUT, POLICY, PROMISE, REQUESTS, option

TraceArgument = Annotated[
    Path, typer.Argument(metavar="TRACE", help="A Parquet trace; `messctl import` makes one.", show_default=False)
]
MarginOption = Annotated[float | None, option("--margin", "How far above α the policies aim.", PROMISE, metavar="0..1")]
RequireOption = Annotated[
    bool,
    option(
        "--require-sla",
        "Exit 1 if the judged policy ends below α. Judged is zoo.yaml's policy if it is played, else the first "
        "router, else the first policy.",
        PROMISE,
    ),
]
PolicyOption = Annotated[
    list[str] | None,
    option("--policy", "A policy, such as bandit or always:<model>; repeatable. Default: all.", POLICY, metavar="NAME"),
]
VOption = Annotated[
    str | None,
    option("--v", "Weight of cost against debt, or auto. A small V stays close to α.", POLICY, metavar="N"),
]
COption = Annotated[
    float | None,
    option("--c", "MESS+ explores with probability min(1, c/t^exponent).", POLICY, metavar="N"),
]
ExponentOption = Annotated[
    float | None,
    option("--exponent", "The exponent in c/t^exponent. Default: 0.25.", POLICY, metavar="N"),
]
TrialBudgetOption = Annotated[
    str | None,
    option("--trial-budget", "Share of all costs for the bandit's trials, or none.", POLICY, metavar="0..1"),
]
ReferenceOption = Annotated[
    str | None,
    option("--reference", "The most capable model. Default: the costliest.", POLICY, metavar="NAME"),
]
CostScaleOption = Annotated[
    str | None,
    option("--cost-scale", "The divisor of costs before V applies, or auto. 1 is the paper's.", POLICY, metavar="N"),
]
PromptCostsOption = Annotated[bool, option("--prompt-costs", "Routers know the cost of reading each prompt.", POLICY)]
ReplicasOption = Annotated[
    int,
    option("--replicas", "Split the requests among N routers that share nothing.", POLICY, callback=INT64, metavar="N"),
]
ZooOption = Annotated[
    Path | None,
    option("--zoo", "The settings. Default: ./zoo.yaml if it exists.", POLICY, metavar="FILE"),
]
SeedOption = Annotated[
    int | None,
    option("--seed", "The seed of all randomness.", REQUESTS, callback=INT64, metavar="N"),
]
SeedsOption = Annotated[
    int,
    option("--seeds", "Play N seeds, and show and judge their means.", REQUESTS, callback=INT64, metavar="N"),
]
ShuffleOption = Annotated[
    bool,
    option("--shuffle/--no-shuffle", "Shuffle the requests, by seed.", REQUESTS, show_default=False),
]
FeedbackRateOption = Annotated[
    float,
    option("--feedback-rate", "The share of requests with feedback.", REQUESTS, metavar="0..1"),
]
FeedbackDelayOption = Annotated[
    int,
    option("--feedback-delay", "Feedback comes N requests later.", REQUESTS, callback=INT64, metavar="N"),
]
HoldoutOption = Annotated[
    float | None,
    option(
        "--holdout",
        "Play all requests, but count only this share, as `messctl tune` holds it out.",
        REQUESTS,
        metavar="0..1",
    ),
]
HoldoutByOption = Annotated[
    str | None,
    option("--holdout-by", "time: the last to arrive (default); hash: by request id.", REQUESTS, metavar="NAME"),
]
StreamOption = Annotated[
    bool | None,
    option("--stream/--no-stream", "Read batch by batch. Default: above a million requests, if possible.", REQUESTS),
]
CacheOption = Annotated[
    bool,
    option(
        "--cache/--no-cache", "Store a large trace's features as <trace>.features.npz.", REQUESTS, show_default=False
    ),
]
PlotOption = Annotated[Path | None, option("--plot", "Draw the replay, as .png or .svg.", OUTPUT, metavar="FILE")]
CalibrationOption = Annotated[
    Path | None,
    option("--plot-calibration", "Draw what routers predicted, and what came.", OUTPUT, metavar="FILE"),
]
StepsOption = Annotated[
    Path | None,
    option("--steps", "Write every decision of messplus, as Parquet.", OUTPUT, metavar="FILE"),
]
CsvOption = Annotated[bool, option("--csv", "Print CSV, a line per policy.", OUTPUT)]
MovedOption = Annotated[bool, typer.Option("--off-policy", "--skip-forced", "--impute", "--no-impute", hidden=True)]
"""The options that went to `messctl evaluate`."""
