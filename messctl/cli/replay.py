"""`messctl replay`: play a trace through the router and its rivals."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from messctl.cli.arguments import settings_of
from messctl.cli.command import COMPARE, Command
from messctl.cli.off_policy import check_options, evaluate_log
from messctl.cli.output import console, ignore_closed_output, print_json, progress_console, warn
from messctl.display.text import plain
from messctl.errors import UsageError

if TYPE_CHECKING:
    from messctl.replay.facts import TraceFacts
    from messctl.replay.result import Conditions, Replay
    from messctl.zoo import Settings

STREAMED_ABOVE = 1_000_000  # requests: some two gigabytes, where all yardsticks are played in memory
MOST = 2**62  # what fits into an int64 with room to spare
STEPPED = "messplus"  # the policy whose decisions --steps writes
EPILOG = "Example: messctl replay traces/box.parquet --alpha 0.8 --plot replay.png"


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("replay", cls=Command, epilog=EPILOG, rich_help_panel=COMPARE)(replay)


def replay(
    trace: Annotated[
        Path,
        typer.Argument(help="The trace, a Parquet file; `messctl import` makes one. With --off-policy, a live log."),
    ],
    alpha: Annotated[float | None, typer.Option(help="The promised share of satisfying answers, 0..1.")] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="A policy to play; repeatable. Default: all. always:<model> is one too."),
    ] = None,
    v: Annotated[
        str | None, typer.Option("--v", help="Weight of cost against debt: small keeps close to α; auto: no need.")
    ] = None,
    margin: Annotated[float | None, typer.Option(help="The routers aim this far above α.")] = None,
    trial_budget: Annotated[
        str | None,
        typer.Option(help="Share of all costs for the bandit's trials, beyond its choices, or none."),
    ] = None,
    c: Annotated[float | None, typer.Option("--c", help="Exploration: with probability min(1, c/t^¼).")] = None,
    exponent: Annotated[float | None, typer.Option(help="Exploration fades as 1/t^exponent. Default: ¼.")] = None,
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
    cache: Annotated[
        bool,
        typer.Option("--cache/--no-cache", help="Keep a large trace's features beside it, as <trace>.features.npz."),
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, a line per policy.")] = False,
    replicas: Annotated[
        int, typer.Option(max=MOST, help="Split the requests among this many routers, each learning by itself.")
    ] = 1,
    stream: Annotated[
        bool | None,
        typer.Option("--stream/--no-stream", help="Read batch by batch. Default: above a million requests, if it can."),
    ] = None,
    holdout: Annotated[
        float | None, typer.Option(help="Play all, but count only this share of the requests, as `tune` holds it out.")
    ] = None,
    holdout_by: Annotated[
        str | None, typer.Option(help="'time', the last to arrive (default), or 'hash' of the request id.")
    ] = None,
    prompt_costs: Annotated[
        bool, typer.Option("--prompt-costs", help="The policy is told beforehand what reading each prompt will cost.")
    ] = False,
    require_sla: Annotated[
        bool,
        typer.Option(
            "--require-sla",
            help="Exit 1 where the judged policy ends below α (off-policy: surely). Judged is zoo.yaml's policy, where "
            "it is played, else the first router, else the first.",
        ),
    ] = False,
    off_policy: Annotated[
        bool,
        typer.Option(
            "--off-policy", help="Estimate what --policy would have attained, from an exported live log or a state."
        ),
    ] = False,
    skip_forced: Annotated[
        bool, typer.Option("--skip-forced", help="Of a live log, leave out requests whose model the user chose.")
    ] = False,
    impute: Annotated[
        bool | None,
        typer.Option(
            "--impute/--no-impute",
            help="Of a live log, a learner learns where it chose otherwise, too, from a model (default).",
        ),
    ] = None,
) -> int:
    """Play a recorded trace through the router and its rivals: cost, and attainment of the SLA."""
    from messctl.backends import encoder_of
    from messctl.policies import default_names
    from messctl.replay import play as replays
    from messctl.replay import plot as plots
    from messctl.replay import steps as stepping
    from messctl.replay.holdout import Holdout
    from messctl.replay.loading import load
    from messctl.replay.result import Conditions
    from messctl.zoo import DEFAULT_FILE

    conditioned = {
        "--replicas": replicas != 1,
        "--seeds": seeds != 1,
        "--shuffle": shuffle,
        "--feedback-rate": feedback_rate != 1.0,
        "--feedback-delay": feedback_delay != 0,
    }
    check_options(
        off_policy,
        {"--skip-forced": skip_forced, "--impute": impute is True, "--no-impute": impute is False},
        {
            "--stream": stream is True,
            "--no-stream": stream is False,
            "--csv": as_csv,
            "--plot": plot is not None,
            "--steps": steps is not None,
            **conditioned,
            "--holdout": holdout is not None,
            "--holdout-by": holdout_by is not None,
            "--prompt-costs": prompt_costs,
            "--no-cache": not cache,
            "--c": c is not None,
            "--exponent": exponent is not None,
        },
    )
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other; choose one")
    settings = settings_of(
        zoo,
        alpha=alpha,
        margin=margin,
        v=v,
        trial_budget=trial_budget,
        c=c,
        exponent=exponent,
        seed=seed,
        reference=reference,
        cost_scale=cost_scale,
    )
    if off_policy:
        return evaluate_log(
            trace,
            policy,
            settings,
            skip_forced=skip_forced,
            impute=impute is not False,
            as_json=as_json,
            require_sla=require_sla,
        )
    if holdout is None and holdout_by:
        raise UsageError("--holdout-by says which requests are held out, and none are; add --holdout 0.3")
    held_out = None if holdout is None else Holdout(holdout, holdout_by or "time")
    conditions = Conditions(seeds, shuffle, feedback_rate, feedback_delay, replicas)
    if policy == ["logged"]:
        _check_logged(conditioned)
    if steps and policy:
        stepping.check_played(STEPPED, policy)
    _check_outputs([trace, zoo or DEFAULT_FILE, settings.features], steps, plot)
    whole = _whole(conditions, {"--plot": plot, "--steps": steps, "--holdout": held_out})
    whole = whole or ("--prompt-costs" if prompt_costs else None)
    if stream and whole:
        raise UsageError(f"{whole} needs the whole trace at once; leave out --stream")
    with progress_console().status("reading") as status:
        if stream or (stream is None and not whole and _large(trace, policy, conditions)):
            played = _stream(trace, policy, settings, conditions, status.update)
        else:
            recording = load(
                trace,
                settings.reference,
                partial=policy == ["logged"],
                cache=cache,
                encoder=encoder_of(settings),
                prompt_costs=prompt_costs,
            )
            _warn_where_scarce(recording.facts)
            played = replays.replay(
                recording,
                policy or default_names(recording.facts.zoo.models),
                settings,
                conditions,
                lambda name: status.update(f"playing {name}"),
                held_out,
            )
        if steps:
            stepping.write_steps(played, STEPPED, steps)
        if plot:
            plots.write_plot(played, plot, warn)
    if prompt_costs:
        _warn_where_unused(played)
    with ignore_closed_output():
        _print(played, as_json=as_json, as_csv=as_csv)
    return 1 if require_sla and not played.judged.sla_met else 0


def _stream(
    trace: Path,
    policies: list[str] | None,
    settings: Settings,
    conditions: Conditions,
    progress: Callable[[str], None],
) -> Replay:
    """Play a trace batch by batch, and tell the `progress`."""
    from messctl.backends import encoder_of
    from messctl.replay import streaming

    facts = streaming.survey(trace, settings.reference)
    _warn_where_scarce(facts)
    return streaming.replay_streamed(
        facts,
        policies or streaming.default_streamed(facts.zoo.models),
        settings,
        conditions,
        lambda done: progress(f"played {done:,} of {facts.requests:,} requests"),
        encoder_of(settings),
    )


def _check_logged(given: Mapping[str, bool]) -> None:
    """Raise UsageError for an option, given by its name, that changes nothing about what happened."""
    for option, is_given in given.items():
        if is_given:
            raise UsageError(f"--policy logged tells what happened, once and as it did; leave out {option}")


def _check_outputs(inputs: Sequence[Path | None], steps: Path | None, plot: Path | None) -> None:
    """Raise UsageError, before anything is played, where an output could not be written."""
    from messctl.outputs import check_distinct, check_trace_writable, check_writable
    from messctl.replay import plot as plots

    outputs = [output for output in (steps, plot) if output]
    check_distinct(outputs, [path for path in inputs if path and path.exists()])
    if steps:
        check_trace_writable(steps)
    if plot:
        check_writable(plot)
        plots.check_format(plot)


def _warn_where_unused(played: Replay) -> None:
    """Say so where none of the policies goes by what it is told of a prompt's cost."""
    from messctl.policies import kind_of, kinds

    if any(kind_of(result.policy).uses_prompt_costs for result in played.results):
        return
    able = " or ".join(f"--policy {name}" for name, kind in kinds().items() if kind.uses_prompt_costs)
    warn(f"--prompt-costs changes nothing here, since none of these policies goes by it; leave it out, or add {able}")


def _warn_where_scarce(facts: TraceFacts) -> None:
    """Say so where for want of one model most of the trace is not played."""
    model = facts.scarcest
    if model is not None:
        lacking = facts.lacking[facts.zoo.index(model)]
        warn(
            f"{facts.path}: an outcome or a cost of {model!r} is missing in {lacking:,} rows, and with them all else "
            "that is known of these requests; make the trace without that model to play them"
        )


def _print(played: Replay, *, as_json: bool, as_csv: bool) -> None:
    from messctl.replay import report

    if as_json:
        print_json(report.document(played))
    elif as_csv:
        text = report.as_csv(played)
        # A machine gets the names as they are, a terminal does not obey them.
        sys.stdout.write("\n".join(map(plain, text.split("\n"))) if sys.stdout.isatty() else text)
    else:
        screen = console()
        screen.print(report.table(played, screen.width))


def _whole(conditions: Conditions, wanted: dict[str, object]) -> str | None:
    """Return the first of these options that is given: all need the whole trace. Raises UsageError for two at odds."""
    given = [name for name, value in wanted.items() if value]
    if "--holdout" in given and given[0] != "--holdout":
        raise UsageError(f"{given[0]} is of all requests; leave out --holdout")
    if conditions.replicas > 1 and given and given[0] != "--holdout":
        raise UsageError(f"{given[0]} is of one router; leave out --replicas")
    return given[0] if given else None


def _large(trace: Path, policies: list[str] | None, conditions: Conditions) -> bool:
    """Tell whether a trace is so large that it is better streamed, and whether what is asked for allows it."""
    from messctl.replay.streaming import streamable
    from messctl.trace import TraceFile

    return TraceFile(trace).rows > STREAMED_ABOVE and streamable(policies or [], conditions) is None
