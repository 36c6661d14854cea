"""`messctl zoo calibrate`: measure what each model's tokens cost, and write it into zoo.yaml."""

from __future__ import annotations

import math
import re
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

from messctl.cli import calibration_progress, calibration_table
from messctl.cli.arguments import OUTPUT, REQUESTS, JsonOption, ZooOption, in_range, option
from messctl.cli.opening import open_zoo
from messctl.cli.output import finite, print_json, warn, write_lines
from messctl.errors import BackendError, MissingExtraError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from messctl.costs.calibration import Calibration
    from messctl.costs.meter import Meter
    from messctl.zoo import ModelSpec, ZooFile

EPILOG = "Example: messctl zoo calibrate --zoo zoo.yaml -o zoo.yaml"
COUNTED = ("nvml", "rapl")
"""The meters that are tried first without --meter: each reads an energy counter."""
LEAST_TIME_S, TIME_PER_MODEL_S = 120.0, 60.0
"""The time that measuring may take without --time: as much for each model, and at least so much for all together."""
_TIME = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", re.ASCII)

ModelsOption = Annotated[
    list[str] | None,
    option("--model", "Measure only this model. Repeatable.", REQUESTS, metavar="NAME"),
]
MeterOption = Annotated[
    str | None,
    option(
        "--meter",
        "nvml, rapl, nvml+rapl, seconds or flops. Default: the zoo's, else the best one here.",
        REQUESTS,
        metavar="NAME",
    ),
]
TimeOption = Annotated[
    str | None,
    option(
        "--time",
        "The longest time for all models, such as 90s or 5m. Default: 1m per model, at least 2m.",
        REQUESTS,
        metavar="TIME",
    ),
]
RepeatsOption = Annotated[
    int | None,
    option(
        "--repeats",
        "The most measurements of each length. Default: as many as are needed.",
        REQUESTS,
        metavar="N",
        callback=in_range(1),
    ),
]
SecondsOption = Annotated[
    float,
    option(
        "--seconds",
        "The shortest measurement; shorter answers are repeated.",
        REQUESTS,
        metavar="SECONDS",
        callback=in_range(0),
    ),
]
PromptTokensOption = Annotated[
    int,
    option(
        "--prompt-tokens", "The longest prompt to measure, in tokens.", REQUESTS, metavar="N", callback=in_range(32)
    ),
]
OutputOption = Annotated[
    Path | None,
    option("--output -o", "Write the costs into this zoo.yaml; the rest of it stays.", OUTPUT, metavar="FILE"),
]
ForceOption = Annotated[bool, option("--force", "Write costs that are known to ± 20 % or worse, too.", OUTPUT)]
DryRunOption = Annotated[bool, option("--dry-run", "Show what -o would change, and write nothing.", OUTPUT)]


def calibrate(
    zoo: ZooOption = None,
    model: ModelsOption = None,
    meter: MeterOption = None,
    time: TimeOption = None,
    repeats: RepeatsOption = None,
    seconds: SecondsOption = 0.25,
    prompt_tokens: PromptTokensOption = 1024,
    output: OutputOption = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure the speed of every model, and its cost per token and per request."""
    from messctl.costs.calibration import origin
    from messctl.outputs import check_writable
    from messctl.zoo import load_zoo
    from messctl.zoo.edit import write

    for name, given in (("--dry-run", dry_run), ("--force", force)):
        if given and not output:
            raise UsageError(f"{name} is about what -o would change; add -o zoo.yaml")
    zoo_file = open_zoo(zoo)
    chosen = _chosen(zoo_file, model or [])
    limit_s = max(LEAST_TIME_S, TIME_PER_MODEL_S * len(chosen)) if time is None else seconds_of(time)
    measuring = _meter(zoo_file, meter)
    if output:
        _check_whole(load_zoo(output) if output.exists() else zoo_file, chosen, measuring.unit)
        check_writable(output)
    found = _measure(chosen, measuring, limit_s, most_rounds=repeats, least_s=seconds, longest_prompt=prompt_tokens)
    where = origin(measuring)
    diff = _difference(zoo_file, found, where, output) if output and dry_run else ""
    if as_json:
        document = {"zoo": str(zoo_file.path), "measured": where, "models": [_document(each) for each in found]}
        print_json(document | ({"diff": diff} if dry_run else {}))
    else:
        calibration_table.show(found, where)
        write_lines(diff)
    for warning in calibration_table.warnings(found):
        warn(warning)
    if output and not force:
        _check_known(found, output)
    if output and not dry_run:
        write(output, _change(zoo_file, found, where, output)[-1])


def seconds_of(text: str) -> float:
    """Return the seconds in a text such as 90, 90s, 5m or 1h30m. Raises UsageError if it is no time above 0."""
    found = _TIME.fullmatch(text.strip().lower())
    parts = [float(part) if part else 0.0 for part in found.groups()] if found else []
    seconds = sum(part * unit for part, unit in zip(parts, (3600.0, 60.0, 1.0), strict=False))
    if not 0.0 < seconds < math.inf:
        raise UsageError(f"--time is {text!r}; it must be a time above 0, such as 90s, 5m or 1h30m")
    return seconds


def _measure(
    chosen: list[ModelSpec],
    meter: Meter,
    limit_s: float,
    *,
    most_rounds: int | None,
    least_s: float,
    longest_prompt: int,
) -> list[Calibration]:
    """Measure the models, one after the other, so that the memory need not hold all of them.

    Each model may take its share of the time that is left.
    """
    from messctl.backends import LlamaCpp
    from messctl.costs.calibration import calibrate_model

    found: list[Calibration] = []
    _start_up(chosen[0])
    until = monotonic() + limit_s
    with calibration_progress.shown(limit_s) as progress:
        for number, spec in enumerate(chosen):
            progress.begin(spec.name, number, len(chosen))
            with LlamaCpp(on_warning=warn) as backend:
                found.append(
                    calibrate_model(
                        spec,
                        backend,
                        meter,
                        limit_s=max(0.0, until - monotonic()) / (len(chosen) - number),
                        least_s=least_s,
                        longest_prompt=longest_prompt,
                        most_rounds=most_rounds,
                        on_round=progress.update,
                    )
                )
    return found


def _check_known(found: list[Calibration], output: Path) -> None:
    """Raise UsageError if a cost is not known well enough to write it."""
    from messctl.costs.calibration import TOO_WIDE

    unknown = [
        f"{each.model}: {calibration_table.widths_text(wide)}" for each in found if (wide := each.wider_than(TOO_WIDE))
    ]
    if unknown:
        raise UsageError(
            f"{output} is not written, as costs are not known well enough ({'; '.join(unknown)}); "
            "give more --time, stop other programs, or add --force"
        )


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
    line, seconds, load = found.cost, found.seconds, found.load
    speeds = [calibration_table.speed(part) for part in (seconds.prompt, seconds.generated)]
    return {
        "model": found.model,
        "unit": found.unit,
        "fixed": line.fixed.value,
        "fixed_width": finite(line.fixed.share),
        "prompt": line.prompt.value,
        "prompt_width": finite(line.prompt.share),
        "generated": line.generated.value,
        "generated_width": finite(line.generated.share),
        "error": line.line.error,
        "cost_quality": found.quality,
        "load_s": found.load_s.value,
        "load_s_width": finite(found.load_s.share),
        "load": None if load is None else load.value,
        "load_width": None if load is None else finite(load.share),
        "prompt_tokens_per_s": speeds[0],
        "generated_tokens_per_s": speeds[1],
        "seconds_error": seconds.line.error,
        "rounds": len(found.rounds),
        "trials": sum(map(len, found.rounds)),
    }


def _difference(zoo_file: ZooFile, found: list[Calibration], where: str, output: Path) -> str:
    from messctl.zoo.edit import difference

    source, before, after = _change(zoo_file, found, where, output)
    return difference(source, before, output, after)


def _change(zoo_file: ZooFile, found: list[Calibration], where: str, output: Path) -> tuple[Path, str, str]:
    """Return the zoo file to change, its text before, and the text to write into `output`."""
    from messctl.zoo.edit import edit_costs

    source = output if output.exists() else zoo_file.path
    costs = {each.model: each.cost_per_token(where) for each in found}
    return source, *edit_costs(source, costs, output, calibration_table.notes(found))
