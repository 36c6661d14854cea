"""`messctl tune`: find the setting that keeps the promise at the least cost."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from messctl.cli.arguments import (
    INT64,
    OUTPUT,
    POLICY,
    PROMISE,
    REQUESTS,
    SEARCH,
    DarkOption,
    JsonOption,
    option,
    settings_of,
)
from messctl.cli.command import COMPARE, Command
from messctl.cli.output import console, print_json, warn, write_lines
from messctl.cli.progress import progress_bar
from messctl.cli.replay_options import (
    CacheOption,
    CostScaleOption,
    FeedbackDelayOption,
    FeedbackRateOption,
    ReferenceOption,
    ZooOption,
)
from messctl.errors import StoppedError, UsageError

if TYPE_CHECKING:
    from messctl.tune import Trial
    from messctl.tune.tuning import Tuning

EPILOG = (
    "LIST is numbers such as 0.1,0.2 or a logarithmic grid LOW:HIGH:COUNT. "
    "Example: messctl tune traces/box.parquet --alpha 0.8 -o zoo.yaml --dry-run"
)

TracesArgument = Annotated[
    list[Path], typer.Argument(metavar="TRACE", help="Parquet traces; the promise must hold on each.")
]
AlphaOption = Annotated[
    list[str] | None,
    option("--alpha", "The promised share of satisfying answers; one or several.", PROMISE, metavar="LIST"),
]
MarginOption = Annotated[
    list[str] | None,
    option("--margin", "How far above α to aim. Default: 0,0.005,0.01,0.02,0.05.", PROMISE, metavar="LIST"),
]
SlackOption = Annotated[float, option("--slack", "How far below α a setting may stay.", PROMISE, metavar="0..1")]
PolicyOption = Annotated[
    list[str] | None,
    option(
        "--policy",
        "messplus, bandit, or always for each model alone; repeatable. Default: messplus and bandit.",
        POLICY,
        metavar="NAME",
    ),
]
VOption = Annotated[
    list[str] | None,
    option("--v", "V to try, or auto. Default: 0.001:10:25; bandit: auto,0.1,0.3,1,3.", SEARCH, metavar="LIST"),
]
COption = Annotated[
    list[str] | None,
    option("--c", "Exploration constants c to try. Default: 0.02,0.05,0.1,0.2,0.5,1.", SEARCH, metavar="LIST"),
]
ExponentOption = Annotated[
    list[str] | None,
    option("--exponent", "Exponents to try: exploration fades as 1/t^exponent.", SEARCH, metavar="LIST"),
]
SeedsOption = Annotated[int, option("--seeds", "The number of seeds per setting.", SEARCH, callback=INT64, metavar="N")]
SeedOption = Annotated[int | None, option("--seed", "The first seed.", SEARCH, callback=INT64, metavar="N")]
EngineOption = Annotated[
    str,
    option("--engine", "What runs in parallel: threads, loky or ray.", SEARCH, metavar="NAME"),
]
AddressOption = Annotated[
    str | None,
    option("--address", "The Ray cluster. Default: one on this machine.", SEARCH, metavar="TEXT"),
]
HoldoutOption = Annotated[
    float,
    option("--holdout", "The share of requests held out of the choice.", REQUESTS, metavar="0..1"),
]
HoldoutByOption = Annotated[
    str,
    option("--holdout-by", "time: the last to arrive; hash: by request id.", REQUESTS, metavar="NAME"),
]
ShuffleOption = Annotated[
    bool | None,
    option(
        "--shuffle/--no-shuffle", "Shuffle the requests, by seed. Default: if a trace lacks arrival times.", REQUESTS
    ),
]
OutputOption = Annotated[
    Path | None,
    option("--output -o", "Write the chosen setting to this zoo.yaml.", OUTPUT, metavar="FILE"),
]
DryRunOption = Annotated[bool, option("--dry-run", "Show the change of -o, and write nothing.", OUTPUT)]
PlotOption = Annotated[
    Path | None,
    option("--plot", "Draw the fronts and the choice, as .png or .svg.", OUTPUT, metavar="FILE"),
]
CsvOption = Annotated[bool, option("--csv", "Print CSV, a line per setting and trace.", OUTPUT)]


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("tune", cls=Command, epilog=EPILOG, rich_help_panel=COMPARE)(tune)


def tune(
    traces: TracesArgument,
    alpha: AlphaOption = None,
    margin: MarginOption = None,
    slack: SlackOption = 0.0,
    policy: PolicyOption = None,
    reference: ReferenceOption = None,
    cost_scale: CostScaleOption = None,
    zoo: ZooOption = None,
    v: VOption = None,
    c: COption = None,
    exponent: ExponentOption = None,
    seeds: SeedsOption = 10,
    seed: SeedOption = None,
    engine: EngineOption = "threads",
    address: AddressOption = None,
    holdout: HoldoutOption = 0.3,
    holdout_by: HoldoutByOption = "time",
    shuffle: ShuffleOption = None,
    feedback_rate: FeedbackRateOption = 1.0,
    feedback_delay: FeedbackDelayOption = 0,
    cache: CacheOption = True,
    output: OutputOption = None,
    dry_run: DryRunOption = False,
    plot: PlotOption = None,
    dark: DarkOption = False,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> int:
    """Find the setting that keeps the promise at the least cost. Exit 1 if no setting keeps it."""
    from messctl.library.tuning import searched, untimed, with_models
    from messctl.replay.holdout import Holdout
    from messctl.replay.result import Conditions
    from messctl.tune import check_engine, check_slack, parse_space, zoo_change
    from messctl.zoo.edit import write

    _check_formats(output, dry_run=dry_run, as_json=as_json, as_csv=as_csv)
    base = settings_of(zoo, seed=seed, reference=reference, cost_scale=cost_scale)
    space = parse_space(base, with_models(policy, traces), alpha=alpha, margin=margin, v=v, c=c, exponent=exponent)
    if output and len(space.alpha) > 1:
        raise UsageError("-o writes one setting, but there are several α; give one --alpha")
    settings, held_out = space.settings(base), Holdout(holdout, holdout_by)
    conditions = Conditions(seeds, untimed(traces) if shuffle is None else shuffle, feedback_rate, feedback_delay)
    check_slack(slack)
    check_engine(engine, address)
    _check_outputs(traces, None if dry_run else output, plot)
    if output:
        zoo_change(output, zoo, settings[0])  # an error in the file is raised before the search
    search = partial(searched, traces, settings, conditions, held_out, cache=cache, zoo=zoo, slack=slack)
    tuning = _behind_bar(partial(search, engine=engine, address=address))
    _draw(tuning, plot, dark=dark)
    diff = _difference(output, zoo, tuning.chosen) if output and dry_run else None
    _print(tuning, diff, as_json=as_json, as_csv=as_csv)
    if tuning.found.interrupted:
        result = f"nothing is written to {output}" if output else "the results are of the seeds played so far"
        raise StoppedError(f"interrupted; {result}")
    if output and tuning.chosen and not dry_run:
        write(output, zoo_change(output, zoo, tuning.chosen.settings)[-1])
    return int(not all(choice.chosen for choice in tuning.choices))


def _check_formats(output: Path | None, *, dry_run: bool, as_json: bool, as_csv: bool) -> None:
    """Raise UsageError for options of the output that exclude each other."""
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other; choose one")
    if dry_run and not output:
        raise UsageError("--dry-run shows what -o would change; add -o zoo.yaml")


def _check_outputs(traces: list[Path], output: Path | None, plot: Path | None) -> None:
    """Raise UsageError, before the search, for an output that cannot be written."""
    from messctl.display.plotting import check_format
    from messctl.outputs import check_distinct, check_writable

    outputs = [path for path in (output, plot) if path]
    check_distinct(outputs, traces)
    for path in outputs:
        check_writable(path)
    if plot:
        check_format(plot)


def _behind_bar(search: Callable[..., Tuning]) -> Tuning:
    """Run a search behind a progress bar, which also says if numba compiles."""
    from messctl.learning.compiled import compiling_told

    with progress_bar("", share=True) as update:

        def status(text: str) -> None:
            update(description=text)

        with compiling_told(status):
            return search(status=status, advance=lambda done, total: update(completed=done, total=total))


def _draw(tuning: Tuning, plot: Path | None, *, dark: bool) -> None:
    from messctl.display.plotting import look_of
    from messctl.tune.plot import write_plot

    if plot and tuning.choices:
        write_plot(tuning, plot, warn, look_of(dark=dark))


def _difference(output: Path, zoo: Path | None, chosen: Trial | None) -> str:
    """Return what `-o` would change, as `diff -u` prints it; empty if no setting is chosen."""
    from messctl.tune import zoo_change
    from messctl.zoo.edit import difference

    if chosen is None:
        return ""
    source, before, after = zoo_change(output, zoo, chosen.settings)
    return difference(source, before, output, after)


def _print(tuning: Tuning, diff: str | None, *, as_json: bool, as_csv: bool) -> None:
    """Print the tuning, and a warning if it has one seed only.

    The `diff` of a dry run is a key of the JSON, on stderr beside CSV, and below the table.
    """
    from messctl.tune import report

    if as_json:
        print_json(report.document(tuning) | ({} if diff is None else {"diff": diff}))
    elif as_csv:
        write_lines(report.as_csv(tuning))
        write_lines(diff or "", to=sys.stderr)
    else:
        screen = console()
        screen.print(report.table(tuning, screen.width), crop=False)
        write_lines(diff or "")
    if any(choice.chosen and choice.seeds == 1 for choice in tuning.choices):
        warn("one seed gives no confidence; play more seeds, as with --seeds 10")
