"""`messctl replay`: play a trace through the router and its rivals."""

from __future__ import annotations

import sys
from dataclasses import replace as changed
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from messctl.cli.arguments import console, print_json, progress_console
from messctl.errors import UsageError

if TYPE_CHECKING:
    from messctl.zoo import Settings

MOST = 2**62  # what fits into an int64 with room to spare
EPILOG = "Example: messctl replay traces/synthetic.parquet --alpha 0.8 --plot replay.png"


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("replay", epilog=EPILOG)(replay)


def replay(
    trace: Annotated[Path, typer.Argument(help="The trace, a Parquet file; `messctl import` makes one.")],
    alpha: Annotated[float | None, typer.Option(help="The promised share of satisfying answers, 0..1.")] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="A policy to play; repeatable. Default: all. always:<model> is one too."),
    ] = None,
    v: Annotated[float | None, typer.Option("--v", help="Weight of cost against debt; small keeps close to α.")] = None,
    c: Annotated[float | None, typer.Option("--c", help="Exploration: with probability min(1, c/t^¼).")] = None,
    seed: Annotated[int | None, typer.Option(max=MOST, help="Seed of all randomness.")] = None,
    seeds: Annotated[int, typer.Option(max=MOST, help="Play this many seeds; print, and judge by, their means.")] = 1,
    feedback_rate: Annotated[float, typer.Option(help="Share of the requests that get feedback.")] = 1.0,
    feedback_delay: Annotated[int, typer.Option(max=MOST, help="Feedback comes after this many further requests.")] = 0,
    shuffle: Annotated[bool, typer.Option("--shuffle/--no-shuffle", help="Shuffle the requests, by seed.")] = False,
    reference: Annotated[
        str | None,
        typer.Option(help="The most capable model, served when exploring. Default: the costliest."),
    ] = None,
    cost_scale: Annotated[
        str | None,
        typer.Option(help="What costs are divided by before V: 'auto', or a number; 1 is the paper's."),
    ] = None,
    zoo: Annotated[Path | None, typer.Option(help="Settings. Default: ./zoo.yaml where there is one.")] = None,
    steps: Annotated[Path | None, typer.Option(help="Write every decision of messplus to this Parquet file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the four panels into this .png or .svg file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, a line per policy.")] = False,
    require_sla: Annotated[
        bool, typer.Option("--require-sla", help="Exit 1 where the judged policy ends below α.")
    ] = False,
) -> int:
    """Play a recorded trace through the router and its rivals: cost, and attainment of the SLA."""
    from messctl import plot as plots
    from messctl import replay as replays
    from messctl import report
    from messctl import steps as stepping
    from messctl.outputs import check_distinct, check_writable
    from messctl.policies import default_names
    from messctl.recording import load

    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other; choose one")
    settings = _settings(zoo, alpha=alpha, v=v, c=c, seed=seed, reference=reference, cost_scale=_scale(cost_scale))
    conditions = replays.Conditions(seeds, shuffle, feedback_rate, feedback_delay)
    outputs = [output for output in (steps, plot) if output]
    check_distinct(outputs, [trace])
    for output in outputs:
        check_writable(output)
    if plot:
        plots.check_format(plot)
    with progress_console().status("reading") as status:
        recording = load(trace, settings.reference, partial=policy == ["logged"])
        played = replays.replay(
            recording,
            policy or default_names(recording.rounds.zoo.models),
            settings,
            conditions,
            lambda name: status.update(f"playing {name}"),
        )
        if steps:
            stepping.write_steps(played, "messplus", steps)
        if plot:
            plots.write_plot(played, plot)
    if as_json:
        print_json(report.document(played))
    elif as_csv:
        sys.stdout.write(report.as_csv(played))
    else:
        screen = console()
        screen.print(report.table(played, screen.width))
    return 1 if require_sla and not played.judged.sla_met else 0


def _scale(text: str | None) -> float | str | None:
    if text is None or text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--cost-scale is {text!r}; it must be 'auto' or a number above 0") from None


def _settings(path: Path | None, **options: float | str | None) -> Settings:
    """Return the zoo file's settings, with the options that were given in their place."""
    from messctl.zoo import load_settings

    settings, _ = load_settings(path)
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if given.get("cost_scale") == "auto":
        given["cost_scale"] = None
    return changed(settings, **given)
