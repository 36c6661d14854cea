"""`messctl tune`: find the setting that keeps the promise for the least cost."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from messctl.cli.arguments import settings_of
from messctl.cli.output import console, print_json, progress_console, warn
from messctl.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from messctl.tune import Choice
    from messctl.zoo import Settings

MOST = 2**62
INTERRUPTED = 130
EPILOG = "Example: messctl tune traces/box.parquet --alpha 0.8 -o zoo.yaml --dry-run"
GRID = "numbers, as in 0.1,0.2, or LOW:HIGH:COUNT"


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("tune", epilog=EPILOG)(tune)


def tune(
    traces: Annotated[list[Path], typer.Argument(metavar="TRACE...", help="Traces, Parquet files; all must be kept.")],
    alpha: Annotated[list[str] | None, typer.Option(help="The promised share; one or several.")] = None,
    v: Annotated[
        list[str] | None,
        typer.Option("--v", help=f"V to try: {GRID}, or auto. Default: 0.001:10:25, for the bandit auto,0.1,0.3,1,3."),
    ] = None,
    margin: Annotated[
        list[str] | None, typer.Option(help="How far above α to aim, values to try. Default: 0,0.005,0.01,0.02,0.05.")
    ] = None,
    c: Annotated[list[str] | None, typer.Option("--c", help="c to try. Default: 0.02,0.05,0.1,0.2,0.5,1.")] = None,
    exponent: Annotated[list[str] | None, typer.Option(help="Exponents of the exploration to try.")] = None,
    policy: Annotated[
        list[str] | None, typer.Option(help="What to search: messplus or bandit; repeatable. Default: both.")
    ] = None,
    seeds: Annotated[
        int, typer.Option(max=MOST, help="Play every setting under this many seeds; one tells nothing for sure.")
    ] = 10,
    seed: Annotated[int | None, typer.Option(max=MOST, help="The first of them.")] = None,
    holdout: Annotated[float, typer.Option(help="Share of the requests that nothing is chosen by.")] = 0.3,
    holdout_by: Annotated[str, typer.Option(help="'time', the last to arrive, or 'hash' of the request id.")] = "time",
    slack: Annotated[float, typer.Option(help="A setting may stay this far below α.")] = 0.0,
    shuffle: Annotated[
        bool | None,
        typer.Option(
            "--shuffle/--no-shuffle",
            help="Shuffle the requests, by seed. Default: where a trace does not say when they arrived.",
        ),
    ] = None,
    feedback_rate: Annotated[float, typer.Option(help="Share of the requests that get feedback.")] = 1.0,
    feedback_delay: Annotated[int, typer.Option(max=MOST, help="Feedback comes after this many further requests.")] = 0,
    reference: Annotated[str | None, typer.Option(help="The most capable model. Default: the costliest.")] = None,
    cost_scale: Annotated[
        str | None, typer.Option(help="What costs are divided by before V: 'auto', or a number.")
    ] = None,
    zoo: Annotated[Path | None, typer.Option(help="Settings. Default: ./zoo.yaml where there is one.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write what was chosen, and under what, into this zoo.yaml; the rest stays."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what -o would change, and write nothing.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw cost against attainment into this .png or .svg file.")] = None,
    engine: Annotated[str, typer.Option(help="What runs the work: threads, loky or ray.")] = "threads",
    address: Annotated[str | None, typer.Option(help="Where the Ray cluster is. Default: a small one here.")] = None,
    cache: Annotated[
        bool,
        typer.Option("--cache/--no-cache", help="Keep a large trace's features beside it, as <trace>.features.npz."),
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, a line per setting and trace.")] = False,
) -> int:
    """Find the setting that keeps the promise for the least cost; exit 1 where none does."""
    from messctl import tune as tuning
    from messctl.backends import encoder_of
    from messctl.replay.loading import Holdout, load
    from messctl.replay.play import Conditions
    from messctl.trace import TraceFile
    from messctl.tune import report
    from messctl.tune.plot import write_plot
    from messctl.zoo.edit import write

    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other; choose one")
    if dry_run and not output:
        raise UsageError("--dry-run shows what -o would change; add -o zoo.yaml")
    base = settings_of(zoo, seed=seed, reference=reference, cost_scale=cost_scale)
    space = tuning.parse_space(
        policy or tuning.TUNABLE,
        tuning.parse_values("--alpha", alpha) if alpha else (base.alpha,),
        v,
        c,
        tuning.parse_values("--exponent", exponent) if exponent else (base.exponent,),
        margin,
    )
    if output and len(space.alpha) > 1:
        raise UsageError("-o writes one setting, and there are several α; give one --alpha")
    if shuffle is None:
        shuffle = not all(TraceFile(trace).timed for trace in traces)
    settings, held_out = space.settings(base), Holdout(holdout, holdout_by)
    conditions = Conditions(seeds, shuffle, feedback_rate, feedback_delay)
    tuning.check_slack(slack)
    tuning.check_engine(engine, address)
    _check_outputs(traces, None if dry_run else output, plot)
    if output:
        _change(output, zoo, settings[0])  # what is wrong with the file is said before all is played
    with _progress() as (status, advance):
        status("reading")
        encoder = encoder_of(base)
        recordings = [load(trace, base.reference, cache=cache, encoder=encoder) for trace in dict.fromkeys(traces)]
        status(f"{len(settings):,} settings × {seeds} seeds")
        found = tuning.search(
            recordings, settings, conditions, held_out, engine=engine, address=address, progress=advance
        )
        choices = tuning.choose(found, slack)
        status("yardsticks")
        marks = [tuning.play_yardsticks(found, choice.alpha) for choice in choices]
        if plot and choices:
            write_plot(found, choices, marks, plot)
    chosen = choices[0].chosen if choices and not found.interrupted else None
    diff = _difference(output, zoo, chosen.settings) if output and chosen and dry_run else ""
    if as_json:
        print_json(report.document(found, choices, marks, zoo) | ({"diff": diff} if dry_run else {}))
    else:
        shown = report.as_csv(found, choices) if as_csv else report.table(found, choices, marks, console().width, zoo)
        _print(shown, diff)
    _warn_of_luck(choices)
    if output and chosen and not dry_run:
        write(output, _change(output, zoo, chosen.settings)[-1])
    missed = not all(choice.chosen for choice in choices)
    return _interrupted(output) if found.interrupted else int(missed)


def _print(shown: str | RenderableType, diff: str) -> None:
    """Print what was found, as CSV or as a table, and what -o would change: beside CSV, on stderr."""
    if isinstance(shown, str):
        sys.stdout.write(shown)
        sys.stderr.write(diff)
    else:
        console().print(shown, crop=False)
        sys.stdout.write(diff)


def _warn_of_luck(choices: Sequence[Choice]) -> None:
    if any(choice.chosen and choice.seeds == 1 for choice in choices):
        warn("one seed gives no confidence; play more seeds, as with --seeds 10")


def _interrupted(output: Path | None) -> int:
    """Say what became of -o, and return the exit code."""
    if output:
        warn(f"interrupted; nothing is written to {output}")
    return INTERRUPTED


def _check_outputs(traces: list[Path], output: Path | None, plot: Path | None) -> None:
    """Raise UsageError, before anything is played, where an output could not be written."""
    from messctl.outputs import check_distinct, check_writable
    from messctl.replay.plot import check_format

    outputs = [path for path in (output, plot) if path]
    check_distinct(outputs, traces)
    for path in outputs:
        check_writable(path)
    if plot:
        check_format(plot)


def _difference(output: Path, zoo: Path | None, settings: Settings) -> str:
    from messctl.zoo.edit import difference

    source, before, after = _change(output, zoo, settings)
    return difference(source, before, output, after)


def _change(output: Path, zoo: Path | None, settings: Settings) -> tuple[Path, str, str]:
    """Return the zoo file that is to be changed, its text, and what is to stand in `output` instead.

    Written are what the search is over, and all else in which the file differs from what the setting was played under.
    """
    from dataclasses import replace

    from messctl.tune import SEARCHED, zoo_values
    from messctl.zoo import DEFAULT_FILE, load_settings
    from messctl.zoo import Settings as Defaults
    from messctl.zoo.edit import edited

    source = output if output.exists() else zoo or DEFAULT_FILE
    there = load_settings(source)[0] if source.exists() else Defaults()
    stated = zoo_values(replace(there, policy=settings.policy))
    values = {key: value for key, value in zoo_values(settings).items() if key in SEARCHED or value != stated[key]}
    return source, *edited(source, values, output)


@contextmanager
def _progress() -> Iterator[tuple[Callable[[str], None], Callable[[int, int], None]]]:
    """Yield what sets the text of the progress bar on stderr, and what moves it on."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=progress_console(), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=None)
        yield (
            lambda text: bar.update(task, description=text),
            lambda done, total: bar.update(task, completed=done, total=total),
        )
