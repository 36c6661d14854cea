"""`messctl zoo`: find models, check the models of a zoo, and measure what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from messctl.cli import calibrate, zoo_init
from messctl.cli.arguments import JsonOption, ZooOption
from messctl.cli.command import ZOO, Command, Group
from messctl.cli.opening import open_zoo
from messctl.cli.output import console, print_json, print_line
from messctl.display.text import counted, plain
from messctl.errors import BackendError, ConfigError

if TYPE_CHECKING:
    from messctl.costs.meter import Meter
    from messctl.zoo import ModelCheck, ModelSpec, ZooCheck, ZooFile

UNKNOWN = "–"
LEAST_FIRST = ("file", "architecture", "chat template", "parameters", "quantisation", "size")
"""The columns that a narrow terminal leaves out, the first of them first."""


def register(app: typer.Typer) -> None:
    """Mount the group of commands."""
    group = typer.Typer(cls=Group, no_args_is_help=True, help="Find models, check them, and measure their costs.")
    group.command("init", cls=Command, epilog=zoo_init.EPILOG)(zoo_init.init)
    group.command("check", cls=Command, epilog="Example: messctl zoo check --zoo zoo.yaml")(check)
    group.command("calibrate", cls=Command, epilog=calibrate.EPILOG)(calibrate.calibrate)
    app.add_typer(group, name="zoo", rich_help_panel=ZOO)


def check(zoo: ZooOption = None, as_json: JsonOption = False) -> None:
    """Show every model and all problems. Exit 2 if a model cannot be used."""
    from messctl.backends import OpenAICompatible
    from messctl.backends.machine import free_memory
    from messctl.costs.meter_choice import meter_for
    from messctl.zoo import check_zoo

    zoo_file = open_zoo(zoo)
    with OpenAICompatible() as servers:
        result = check_zoo(zoo_file, free_memory(), servers.list_models)
    meter = meter_for(zoo_file)
    if as_json:
        print_json(_document(zoo_file, result, meter))
    else:
        _print(zoo_file, result, meter)
    broken = {problem.model: problem for problem in result.problems if problem.fatal}
    if broken:
        first = next(iter(broken.values()))
        raise ConfigError(f"{zoo_file.path}: {len(broken)} of {len(zoo_file.models)} models cannot be used; {first}")


def _document(zoo_file: ZooFile, result: ZooCheck, meter: Meter) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "zoo": str(zoo_file.path),
        "usable": result.usable,
        "needed_bytes": result.needed_bytes,
        "available_bytes": result.available_bytes,
        "budgets": [asdict(budget) for budget in result.budgets],
        "cost_unit": meter.unit,
        "meter": meter.source,
        "models": [_model_document(model, meter) for model in result.models],
        "problems": [
            {"model": problem.model, "problem": problem.text, "fatal": problem.fatal} for problem in result.problems
        ],
    }


def _model_document(model: ModelCheck, meter: Meter) -> dict[str, Any]:
    spec, header = model.spec, model.header
    cost = _cost(spec, meter)
    return {
        "name": spec.name,
        "path": None if spec.path is None else str(spec.path),
        "url": spec.url,
        "listed": None if model.listed is None else list(model.listed),
        "bytes": header and header.file_bytes,
        "architecture": header and header.architecture,
        "parameters": header and header.parameters,
        "active_parameters": header and header.active_parameters,
        "quantisation": header and header.quantisation,
        "own_context": header and header.context_length,
        "context": model.context,
        "chat_template": _template(model),
        "needed_bytes": model.needed_bytes,
        "cost_per_prompt_token": cost and cost[0],
        "cost_per_generated_token": cost and cost[1],
        "license": header and header.license,
        "description": header and header.description,
    }


def _print(zoo_file: ZooFile, result: ZooCheck, meter: Meter) -> None:
    from rich.table import Table

    from messctl.display.tables import fitting
    from messctl.zoo.memory import format_bytes

    print_line(f"{zoo_file.path}: {counted(len(zoo_file.models), 'model')}")
    table = Table("model", "file", "architecture", "quantisation", "chat template")
    for title in ("size", "parameters", "context", "memory", f"{plain(meter.unit)} per token, in / out"):
        table.add_column(title, justify="right")
    for model in result.models:
        spec, header = model.spec, model.header
        cost = _cost(spec, meter)
        cells = (
            spec.name,
            spec.place if spec.path is None else spec.path.name,
            header.architecture if header else UNKNOWN,
            header.quantisation if header else UNKNOWN,
            _template(model) or UNKNOWN,
            format_bytes(header.file_bytes) if header else UNKNOWN,
            _parameters(model),
            f"{model.context:,} of {header.context_length:,}" if header else UNKNOWN,
            UNKNOWN if model.needed_bytes is None else format_bytes(model.needed_bytes),
            f"{cost[0]:.3g} / {cost[1]:.3g}" if cost else UNKNOWN,
        )
        table.add_row(*(plain(cell) for cell in cells))
    screen = console()
    screen.print(fitting(table, screen.width, least_first=LEAST_FIRST))
    free = "unknown" if result.available_bytes is None else format_bytes(result.available_bytes)
    print_line(f"memory: about {format_bytes(result.needed_bytes)} for all models; free: {free}")
    for budget in result.budgets:
        print_line(str(budget))
    print_line(f"costs: {meter.source}")
    _print_loads(zoo_file)
    if zoo_file.grader is not None and zoo_file.grader.name is not None:
        print_line(
            f"grader: {zoo_file.grader.name}; it needs a reference, from `messctl ask --expect` or a prompt's own"
        )
    for model in result.models:
        if model.listed is not None:
            print_line(
                f"{model.spec.name}: {model.spec.url} answers, and lists {', '.join(model.listed[:10]) or 'no models'}"
            )
    for problem in result.problems:
        print_line(f"{'✗' if problem.fatal else '!'} {problem}")


def _print_loads(zoo_file: ZooFile) -> None:
    if any(model.cost and model.cost.load is not None for model in zoo_file.models):
        print_line("loads: stated in zoo.yaml; a load that is not stated costs nothing")
    elif zoo_file.load_watts is not None and zoo_file.models[0].cost is None:
        print_line(f"loads: estimated: seconds × {zoo_file.load_watts:g} W")
    elif zoo_file.budget:
        print_line("loads: cost nothing; to count them, state energy.load_watts in zoo.yaml, or load in every cost")


def _parameters(model: ModelCheck) -> str:
    if model.header is None:
        return UNKNOWN
    total, active = model.header.parameters, model.header.active_parameters
    return f"{total:,}" if active == total else f"{total:,} ({active:,} active)"


def _template(model: ModelCheck) -> str | None:
    if model.spec.chat_template is not None:
        return "zoo.yaml's"
    if model.spec.url is not None:
        return "the server's"
    return None if model.header is None else ("own" if model.header.chat_template else "none")


def _cost(spec: ModelSpec, meter: Meter) -> tuple[float, float] | None:
    """Return the costs of a prompt token and of a generated token; None if the model cannot be read."""
    try:
        price = meter.per_token(spec)
    except BackendError:
        return None
    return price.prompt, price.generated
