"""`messctl zoo calibrate`: measure what each model's tokens cost, and write it into zoo.yaml."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from messctl.cli.arguments import OUTPUT, REQUESTS, JsonOption, ZooOption, in_range
from messctl.cli.output import console, print_json, progress_console, warn
from messctl.display.text import plain
from messctl.errors import BackendError, MissingExtraError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from messctl.costs.calibration import Calibration
    from messctl.costs.meter import Meter
    from messctl.zoo import ModelSpec, ZooFile

EPILOG = "Example: messctl zoo calibrate --zoo zoo.yaml -o zoo.yaml"
COUNTED = ("nvml", "rapl")
"""The meters that are tried first without --meter: each reads an energy counter."""
LENGTHS = 9
"""The number of combinations of prompt length and answer length that each repetition measures."""

ModelsOption = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="NAME", help="Measure only this model. Repeatable.", rich_help_panel=REQUESTS),
]
MeterOption = Annotated[
    str | None,
    typer.Option(
        "--meter",
        metavar="NAME",
        help="nvml, rapl, nvml+rapl, seconds or flops. Default: the zoo's, else the best one here.",
        rich_help_panel=REQUESTS,
    ),
]
RepeatsOption = Annotated[
    int,
    typer.Option(
        "--repeats",
        metavar="N",
        callback=in_range(1),
        help="The number of measurements of each length.",
        rich_help_panel=REQUESTS,
    ),
]
SecondsOption = Annotated[
    float,
    typer.Option(
        "--seconds",
        metavar="SECONDS",
        callback=in_range(0),
        help="The shortest measurement; shorter answers are repeated.",
        rich_help_panel=REQUESTS,
    ),
]
PromptTokensOption = Annotated[
    int,
    typer.Option(
        "--prompt-tokens",
        metavar="N",
        callback=in_range(32),
        help="The longest prompt to measure, in tokens.",
        rich_help_panel=REQUESTS,
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write the costs into this zoo.yaml; the rest of it stays.",
        rich_help_panel=OUTPUT,
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show what -o would change, and write nothing.", rich_help_panel=OUTPUT)
]


def calibrate(
    zoo: ZooOption = None,
    model: ModelsOption = None,
    meter: MeterOption = None,
    repeats: RepeatsOption = 3,
    seconds: SecondsOption = 0.25,
    prompt_tokens: PromptTokensOption = 1024,
    output: OutputOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure the speed of every model, and its cost per token and per request."""
    from messctl.costs.calibration import origin
    from messctl.outputs import check_writable
    from messctl.zoo import load_zoo
    from messctl.zoo.edit import write

    if dry_run and not output:
        raise UsageError("--dry-run shows what -o would change; add -o zoo.yaml")
    zoo_file = load_zoo(zoo)
    chosen = _chosen(zoo_file, model or [])
    measuring = _meter(zoo_file, meter)
    if output:
        _check_whole(load_zoo(output) if output.exists() else zoo_file, chosen, measuring.unit)
        check_writable(output)
    found = _measure(chosen, measuring, repeats=repeats, least_s=seconds, longest_prompt=prompt_tokens)
    where = origin(measuring)
    diff = _difference(zoo_file, found, where, output) if output and dry_run else ""
    if as_json:
        document = {"zoo": str(zoo_file.path), "measured": where, "models": [_document(each) for each in found]}
        print_json(document | ({"diff": diff} if dry_run else {}))
    else:
        _print(found, where)
        sys.stdout.write(diff)
    if output and not dry_run:
        write(output, _change(zoo_file, found, where, output)[-1])


def _measure(
    chosen: list[ModelSpec], meter: Meter, *, repeats: int, least_s: float, longest_prompt: int
) -> list[Calibration]:
    """Measure the models, one after the other, so that the memory need not hold all of them."""
    from rich.progress import Progress

    from messctl.backends import LlamaCpp
    from messctl.costs.calibration import calibrate_model

    found: list[Calibration] = []
    _start_up(chosen[0])
    screen = progress_console()
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as progress:
        for spec in chosen:
            task = progress.add_task(plain(spec.name), total=LENGTHS * repeats)
            with LlamaCpp(on_warning=warn) as backend:
                found.append(
                    calibrate_model(
                        spec,
                        backend,
                        meter,
                        repeats=repeats,
                        least_s=least_s,
                        longest_prompt=longest_prompt,
                        on_measured=lambda task=task: progress.advance(task),  # type: ignore[misc]
                    )
                )
    return found


def _start_up(spec: ModelSpec) -> None:
    """Ask a model something without measuring it: starting llama.cpp and a GPU is not a model's cost."""
    from messctl.backends import LlamaCpp
    from messctl.records import Question

    with LlamaCpp() as backend:
        backend.complete(spec, Question("lamp", max_tokens=1))


def _chosen(zoo_file: ZooFile, names: list[str]) -> list[ModelSpec]:
    """Return the models that run on this machine; warn about the others. Raises UsageError if none does."""
    for name in names:
        if name not in zoo_file.names:
            raise UnknownNameError("model", name, zoo_file.names)
    wanted = [spec for spec in zoo_file.models if not names or spec.name in names]
    local = [spec for spec in wanted if spec.url is None]
    for spec in wanted:
        if spec not in local:
            warn(f"model {spec.name!r} is at a server, so it is not measured here")
    if not local:
        raise UsageError(f"{zoo_file.path}: no model to measure runs on this machine; name one that has a path")
    return local


def _meter(zoo_file: ZooFile, name: str | None) -> Meter:
    """Return the named meter. If neither the option nor the zoo names one, return a counter, or else the clock."""
    from dataclasses import replace

    from messctl.costs.meter_choice import meter_for
    from messctl.zoo.file import METERS

    name = name or zoo_file.meter
    if name not in METERS:
        raise UnknownNameError("meter", name, METERS)
    if name != "auto":
        return meter_for(replace(zoo_file, meter=name))
    for counter in COUNTED:
        try:
            found = meter_for(replace(zoo_file, meter=counter))
            with found.measuring():
                return found
        except (BackendError, MissingExtraError):
            continue
    return meter_for(replace(zoo_file, meter="seconds"))


def _check_whole(zoo_file: ZooFile, chosen: list[ModelSpec], unit: str) -> None:
    """Raise UsageError if the written zoo would have costs in two units, or costs of some models only."""
    names = [spec.name for spec in chosen]
    for name in names:
        zoo_file.model(name)
    for spec in zoo_file.models:
        if spec.name not in names and (spec.cost is None or spec.cost.unit != unit):
            raise UsageError(
                f"{zoo_file.path}: model {spec.name!r} is not measured and has no cost in {unit}, so its cost cannot "
                "be compared; state its cost, measure all models, or leave out -o"
            )


def _document(found: Calibration) -> dict[str, Any]:
    return {
        "model": found.model,
        "unit": found.unit,
        "fixed": found.cost.fixed,
        "prompt": found.cost.prompt,
        "generated": found.cost.generated,
        "error": found.cost.error,
        "cost_quality": found.quality,
        "load_s": found.load_s,
        "load": found.load,
        "prompt_tokens_per_s": _speed(found.seconds.prompt),
        "generated_tokens_per_s": _speed(found.seconds.generated),
        "seconds_error": found.seconds.error,
        "trials": len(found.trials),
    }


def _speed(seconds: float) -> float | None:
    return 1.0 / seconds if seconds > 0.0 else None


def _print(found: list[Calibration], where: str) -> None:
    from rich.table import Table

    from messctl.display.tables import fitting

    unit = plain(found[0].unit)
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("model")
    for title in ("load, s", "prompt, tokens/s", "answer, tokens/s", f"{unit} per request", "per prompt token",
                  "per generated token", "per load", "error"):  # fmt: skip
        table.add_column(title, justify="right")
    for each in found:
        speeds = [_speed(each.seconds.prompt), _speed(each.seconds.generated)]
        table.add_row(
            plain(each.model),
            f"{each.load_s:.3g}",
            *("–" if speed is None else f"{speed:,.0f}" for speed in speeds),
            f"{each.cost.fixed:.3g}",
            f"{each.cost.prompt:.3g}",
            f"{each.cost.generated:.3g}",
            "–" if each.load is None else f"{each.load:.3g}",
            f"{each.cost.error:.1%}",
        )
    screen = console()
    screen.print(fitting(table, screen.width, folding=("model",)))
    qualities = {each.quality for each in found}
    known = qualities.pop() if len(qualities) == 1 else "; ".join(f"{each.model} {each.quality}" for each in found)
    console().print(plain(f"{where}; quality of the costs: {known}"), soft_wrap=True)


def _difference(zoo_file: ZooFile, found: list[Calibration], where: str, output: Path) -> str:
    from messctl.zoo.edit import difference

    source, before, after = _change(zoo_file, found, where, output)
    return difference(source, before, output, after)


def _change(zoo_file: ZooFile, found: list[Calibration], where: str, output: Path) -> tuple[Path, str, str]:
    """Return the zoo file to change, its text before, and the text to write into `output`."""
    from messctl.zoo.edit import edit_costs

    source = output if output.exists() else zoo_file.path
    return source, *edit_costs(source, {each.model: each.cost_per_token(where) for each in found}, output)
