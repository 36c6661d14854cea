"""`messctl replay`: play a trace through the router and its rivals."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import typer

from messctl.cli import replay_options as options
from messctl.cli.arguments import AlphaOption, AsksOption, DarkOption, EqualOption, JsonOption, settings_of
from messctl.cli.command import COMPARE, Command
from messctl.cli.output import console, ignore_closed_output, print_json, shows_charts, warn, write_lines
from messctl.cli.progress import spinner
from messctl.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from messctl.replay.holdout import Holdout
    from messctl.replay.result import Replay
    from messctl.replay.run import Plan

EPILOG = "Example: messctl replay traces/box.parquet --alpha 0.8 --plot replay.png"


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("replay", cls=Command, epilog=EPILOG, rich_help_panel=COMPARE)(replay)


def replay(
    trace: options.TraceArgument,
    alpha: AlphaOption = None,
    margin: options.MarginOption = None,
    require_sla: options.RequireOption = False,
    policy: options.PolicyOption = None,
    v: options.VOption = None,
    c: options.COption = None,
    exponent: options.ExponentOption = None,
    trial_budget: options.TrialBudgetOption = None,
    reference: options.ReferenceOption = None,
    cost_scale: options.CostScaleOption = None,
    asks: AsksOption = None,
    equal: EqualOption = None,
    prompt_costs: options.PromptCostsOption = False,
    replicas: options.ReplicasOption = 1,
    zoo: options.ZooOption = None,
    seed: options.SeedOption = None,
    seeds: options.SeedsOption = 1,
    shuffle: options.ShuffleOption = False,
    feedback_rate: options.FeedbackRateOption = 1.0,
    feedback_delay: options.FeedbackDelayOption = 0,
    holdout: options.HoldoutOption = None,
    holdout_by: options.HoldoutByOption = None,
    stream: options.StreamOption = None,
    cache: options.CacheOption = True,
    plot: options.PlotOption = None,
    plot_calibration: options.CalibrationOption = None,
    dark: DarkOption = False,
    steps: options.StepsOption = None,
    as_json: JsonOption = False,
    as_csv: options.CsvOption = False,
    moved: options.MovedOption = False,
) -> int:
    """Play a recorded trace through the router and its rivals: cost and attainment."""
    _check_options(trace, moved=moved, as_json=as_json, as_csv=as_csv)
    from messctl.replay.result import Conditions
    from messctl.replay.run import Plan

    settings = settings_of(
        zoo, alpha=alpha, margin=margin, v=v, c=c, exponent=exponent, trial_budget=trial_budget, reference=reference,
        cost_scale=cost_scale, seed=seed, asks=asks, equal=equal,
    )  # fmt: skip
    held_out = _holdout(holdout, holdout_by)
    conditions = Conditions(seeds, shuffle, feedback_rate, feedback_delay, replicas)
    names, plots = tuple(policy) if policy else None, (plot, plot_calibration, dark)
    plan = Plan(trace, names, settings, conditions, held_out, prompt_costs, zoo, stream, cache, steps, *plots)
    played = _played(plan)
    _print(played, as_json=as_json, as_csv=as_csv)
    return 1 if require_sla and not played.judged.sla_met else 0


def _check_options(trace: Path, *, moved: bool, as_json: bool, as_csv: bool) -> None:
    """Raise UsageError for an option that is another command now, and for two that exclude each other."""
    if moved:
        raise UsageError(f"--off-policy is now a command: messctl evaluate {shlex.quote(str(trace))}")
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other; choose one")


def _holdout(share: float | None, by: str | None) -> Holdout | None:
    """Return the hold-out of the options, None if there is none. Raises UsageError."""
    from messctl.replay.holdout import Holdout

    if share is not None:
        return Holdout(share, by or "time")
    if by:
        raise UsageError("--holdout-by says which requests are held out, but --holdout is missing; add --holdout 0.3")
    return None


def _played(plan: Plan) -> Replay:
    """Run the plan, and tell what is being done."""
    from messctl.learning.compiled import compiling_told
    from messctl.replay.run import run

    with spinner("reading") as tell, compiling_told(tell):
        return run(plan, warn, tell)


def _print(played: Replay, *, as_json: bool, as_csv: bool) -> None:
    from messctl.replay import report

    with ignore_closed_output():
        if as_json:
            print_json(report.document(played))
        elif as_csv:
            write_lines(report.as_csv(played))
        else:
            screen = console()
            screen.print(report.table(played, screen.width, charts=shows_charts(screen)))
