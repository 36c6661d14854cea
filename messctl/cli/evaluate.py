"""`messctl evaluate`: estimate from a live log what another policy would have attained and cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from messctl.cli.arguments import (
    OUTPUT,
    POLICY,
    PROMISE,
    REQUESTS,
    AlphaOption,
    DarkOption,
    JsonOption,
    option,
    place,
    settings_of,
)
from messctl.cli.command import COMPARE, Command
from messctl.cli.output import console, ignore_closed_output, print_json, warn
from messctl.cli.progress import spinner
from messctl.cli.replay_options import (
    CostScaleOption,
    MarginOption,
    ReferenceOption,
    SeedOption,
    TrialBudgetOption,
    VOption,
    ZooOption,
)

if TYPE_CHECKING:
    from messctl.off_policy import Evaluation
    from messctl.state.place import Place
    from messctl.zoo import Settings

EPILOG = "Example: messctl evaluate traces/live.parquet --policy always:nano-109k --policy bandit"


LOG = typer.Argument(metavar="LOG|URL", callback=place, help="A live log from `messctl export`, or the state itself.")
if TYPE_CHECKING:
    LogArgument = Annotated[Place, LOG]
else:  # as with StateOption
    LogArgument = Annotated[str, LOG]
RequireOption = Annotated[
    bool,
    option(
        "--require-sla",
        "Exit 1 if the interval of the judged policy lies below α. Judged is zoo.yaml's policy if evaluated, "
        "else the first router, else the first policy.",
        PROMISE,
    ),
]
PolicyOption = Annotated[
    list[str] | None,
    option(
        "--policy",
        "A policy to evaluate, such as bandit or always:<model>; repeatable. Default: zoo.yaml's.",
        POLICY,
        metavar="NAME",
    ),
]
SkipForcedOption = Annotated[
    bool,
    option("--skip-forced", "Leave out the requests whose model the user chose.", REQUESTS),
]
ImputeOption = Annotated[
    bool,
    option(
        "--impute/--no-impute",
        "A policy that learns uses imputed feedback when it chooses another model than the log.",
        REQUESTS,
    ),
]

PlotOption = Annotated[Path | None, option("--plot", "Draw the intervals, as .png or .svg.", OUTPUT, metavar="FILE")]


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("evaluate", cls=Command, epilog=EPILOG, rich_help_panel=COMPARE)(evaluate)


def evaluate(
    log: LogArgument,
    alpha: AlphaOption = None,
    margin: MarginOption = None,
    require_sla: RequireOption = False,
    policy: PolicyOption = None,
    v: VOption = None,
    trial_budget: TrialBudgetOption = None,
    reference: ReferenceOption = None,
    cost_scale: CostScaleOption = None,
    seed: SeedOption = None,
    zoo: ZooOption = None,
    skip_forced: SkipForcedOption = False,
    impute: ImputeOption = True,
    plot: PlotOption = None,
    dark: DarkOption = False,
    as_json: JsonOption = False,
) -> int:
    """Estimate from a live log what another policy would have attained and cost."""
    settings = settings_of(
        zoo,
        alpha=alpha,
        margin=margin,
        v=v,
        trial_budget=trial_budget,
        seed=seed,
        reference=reference,
        cost_scale=cost_scale,
    )
    _check_plot(log, plot)
    evaluation = _estimated(log, policy, settings, skip_forced=skip_forced, impute=impute)
    if plot:
        _draw(evaluation, plot, dark=dark)
    with ignore_closed_output():
        print_evaluation(evaluation, as_json=as_json)
    return 1 if require_sla and evaluation.decisive.sla_met(settings.alpha) is False else 0


def _check_plot(log: Place, plot: Path | None) -> None:
    """Raise UsageError, before the evaluation, for a plot that cannot be written."""
    from messctl.display.plotting import check_format
    from messctl.outputs import check_distinct, check_writable

    if plot:
        check_distinct([plot], [log] if isinstance(log, Path) else [])
        check_writable(plot)
        check_format(plot)


def _draw(evaluation: Evaluation, plot: Path, *, dark: bool) -> None:
    """Draw the evaluation. Raises OutputError."""
    from messctl.display.plotting import look_of
    from messctl.off_policy.plot import write_plot

    write_plot(evaluation, plot, warn, look_of(dark=dark))


def _estimated(
    log: Place, policies: Sequence[str] | None, settings: Settings, *, skip_forced: bool, impute: bool
) -> Evaluation:
    """Evaluate the policies, and tell what is being done."""
    from messctl.learning.compiled import compiling_told
    from messctl.library.evaluation import estimate

    with spinner("reading") as tell, compiling_told(tell):
        return estimate(log, policies, settings, skip_forced=skip_forced, impute=impute, progress=tell)


def print_evaluation(evaluation: Evaluation, *, as_json: bool) -> None:
    """Print the evaluation as a table, or as one JSON document."""
    from messctl.off_policy import report

    if as_json:
        print_json(report.document(evaluation))
    else:
        screen = console()
        screen.print(report.table(evaluation, screen.width))
