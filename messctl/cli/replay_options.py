"""The options of `messctl replay`; `messctl evaluate` and `messctl tune` share some of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from messctl.cli.arguments import INT64, OUTPUT, POLICY, PROMISE, REQUESTS

TraceArgument = Annotated[
    Path, typer.Argument(metavar="TRACE", help="A Parquet trace; `messctl import` makes one.", show_default=False)
]
MarginOption = Annotated[
    float | None,
    typer.Option("--margin", metavar="0..1", help="How far above α the policies aim.", rich_help_panel=PROMISE),
]
RequireOption = Annotated[
    bool,
    typer.Option(
        "--require-sla",
        help="Exit 1 if the judged policy ends below α. Judged is zoo.yaml's policy if it is played, else the first "
        "router, else the first policy.",
        rich_help_panel=PROMISE,
    ),
]
PolicyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--policy",
        metavar="NAME",
        help="A policy, such as bandit or always:<model>; repeatable. Default: all.",
        rich_help_panel=POLICY,
    ),
]
VOption = Annotated[
    str | None,
    typer.Option(
        "--v",
        metavar="N",
        help="Weight of cost against debt, or auto. A small V stays close to α.",
        rich_help_panel=POLICY,
    ),
]
COption = Annotated[
    float | None,
    typer.Option(
        "--c", metavar="N", help="MESS+ explores with probability min(1, c/t^exponent).", rich_help_panel=POLICY
    ),
]
ExponentOption = Annotated[
    float | None,
    typer.Option(
        "--exponent", metavar="N", help="The exponent in c/t^exponent. Default: 0.25.", rich_help_panel=POLICY
    ),
]
TrialBudgetOption = Annotated[
    str | None,
    typer.Option(
        "--trial-budget",
        metavar="0..1",
        help="Share of all costs for the bandit's trials, or none.",
        rich_help_panel=POLICY,
    ),
]
ReferenceOption = Annotated[
    str | None,
    typer.Option(
        "--reference", metavar="NAME", help="The most capable model. Default: the costliest.", rich_help_panel=POLICY
    ),
]
CostScaleOption = Annotated[
    str | None,
    typer.Option(
        "--cost-scale",
        metavar="N",
        help="The divisor of costs before V applies, or auto. 1 is the paper's.",
        rich_help_panel=POLICY,
    ),
]
PromptCostsOption = Annotated[
    bool,
    typer.Option("--prompt-costs", help="Routers know the cost of reading each prompt.", rich_help_panel=POLICY),
]
ReplicasOption = Annotated[
    int,
    typer.Option(
        "--replicas",
        callback=INT64,
        metavar="N",
        help="Split the requests among N routers that share nothing.",
        rich_help_panel=POLICY,
    ),
]
ZooOption = Annotated[
    Path | None,
    typer.Option(
        "--zoo", metavar="FILE", help="The settings. Default: ./zoo.yaml if it exists.", rich_help_panel=POLICY
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option("--seed", callback=INT64, metavar="N", help="The seed of all randomness.", rich_help_panel=REQUESTS),
]
SeedsOption = Annotated[
    int,
    typer.Option(
        "--seeds",
        callback=INT64,
        metavar="N",
        help="Play N seeds, and show and judge their means.",
        rich_help_panel=REQUESTS,
    ),
]
ShuffleOption = Annotated[
    bool,
    typer.Option(
        "--shuffle/--no-shuffle", help="Shuffle the requests, by seed.", rich_help_panel=REQUESTS, show_default=False
    ),
]
FeedbackRateOption = Annotated[
    float,
    typer.Option(
        "--feedback-rate",
        metavar="0..1",
        help="The share of requests with feedback.",
        rich_help_panel=REQUESTS,
    ),
]
FeedbackDelayOption = Annotated[
    int,
    typer.Option(
        "--feedback-delay",
        callback=INT64,
        metavar="N",
        help="Feedback comes N requests later.",
        rich_help_panel=REQUESTS,
    ),
]
HoldoutOption = Annotated[
    float | None,
    typer.Option(
        "--holdout",
        metavar="0..1",
        help="Play all requests, but count only this share, as `messctl tune` holds it out.",
        rich_help_panel=REQUESTS,
    ),
]
HoldoutByOption = Annotated[
    str | None,
    typer.Option(
        "--holdout-by",
        metavar="NAME",
        help="time: the last to arrive (default); hash: by request id.",
        rich_help_panel=REQUESTS,
    ),
]
StreamOption = Annotated[
    bool | None,
    typer.Option(
        "--stream/--no-stream",
        help="Read batch by batch. Default: above a million requests, if possible.",
        rich_help_panel=REQUESTS,
    ),
]
CacheOption = Annotated[
    bool,
    typer.Option(
        "--cache/--no-cache",
        help="Store a large trace's features as <trace>.features.npz.",
        rich_help_panel=REQUESTS,
        show_default=False,
    ),
]
PlotOption = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Draw the replay, as .png or .svg.", rich_help_panel=OUTPUT),
]
CalibrationOption = Annotated[
    Path | None,
    typer.Option(
        "--plot-calibration", metavar="FILE", help="Draw what routers predicted, and what came.", rich_help_panel=OUTPUT
    ),
]
StepsOption = Annotated[
    Path | None,
    typer.Option(
        "--steps", metavar="FILE", help="Write every decision of messplus, as Parquet.", rich_help_panel=OUTPUT
    ),
]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV, a line per policy.", rich_help_panel=OUTPUT)]
MovedOption = Annotated[bool, typer.Option("--off-policy", "--skip-forced", "--impute", "--no-impute", hidden=True)]
"""The options that went to `messctl evaluate`."""
