"""A command: the look of its `--help`, and how it takes the values of its options.

Typer checks values with pydantic, whose import takes as long as half of a short answer. Text, paths
and defaults need no check; so pydantic is imported only for an option that was given and is a number or a list.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typer.core import TyperCommand, TyperGroup

from messctl.cli.arguments import COLUMNS, OUTPUT, POLICY, PROMISE, REQUESTS, SEARCH
from messctl.cli.output import fitted_help
from messctl.errors import UsageError

ASK, COMPARE, TRACES, ZOO = "Ask", "Compare", "Traces", "Zoo"
"""The panels in which `messctl --help` groups the commands."""


_ADDRESSES = {
    "import": 400, "export": 400, "record": 400, "info": 400, "validate": 400, "head": 400,
    "replay": 2000, "tune": 2000, "evaluate": 2000, "warm": 2000,
}  # fmt: skip
"""The address space of commands that load large libraries, in 10⁶ bytes; they use a tenth of it as memory. With less,
a library prints what it likes, and ends the process by a signal or with 1, as if the promise were missed."""


class Command(TyperCommand):
    """A command whose help lists the options by panel; `--help` is the last option of the last panel."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Raises UsageError if a limit leaves its libraries too little address space."""
        _check_addresses(ctx.info_name)
        return super().invoke(ctx)

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the arguments and the options, in the order of the help."""
        parameters = _prepared(super().get_params(ctx))
        parameters[-1].rich_help_panel = OUTPUT
        return sorted(parameters, key=_panel)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help, as wide as the terminal."""
        with fitted_help():
            super().format_help(ctx, formatter)


class Group(TyperGroup):
    """A group of commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options."""
        return _prepared(super().get_params(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help, as wide as the terminal."""
        with fitted_help():
            super().format_help(ctx, formatter)


def _check_addresses(name: str) -> None:
    try:
        import resource  # it exists on Unix only
    except ImportError:
        return
    limit, least = resource.getrlimit(resource.RLIMIT_AS)[0], _ADDRESSES.get(name, 0)
    if limit != resource.RLIM_INFINITY and limit < least * 10**6:
        raise UsageError(
            f"`ulimit -v` allows {limit // 10**6:,} MB of address space, and `{name}` needs {least:,} MB, of which it "
            "uses a part; raise the limit"
        )


def _prepared(parameters: list[Any]) -> list[Any]:
    """Remove the type from every flag: some versions of Typer print `<bool>` behind it. Let text pass unchecked."""
    for parameter in parameters:
        _take_text_as_it_is(parameter)
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
        if parameter.param_type_name == "argument":
            _name_type(parameter)
    return parameters


def _name_type(argument: Any) -> None:
    """Let the help name the type of an argument as it names those of options: FILE or TEXT; none if its name tells it.

    Typer prints `<path>` or `<str>`.
    """
    annotation = getattr(getattr(argument, "type_descriptor", None), "annotation", None)
    kind = "FILE" if annotation in (Path, list[Path]) else "TEXT"
    tells = argument.metavar == kind or (kind == "TEXT" and argument.metavar is not None)
    argument.display_type_rich = lambda ctx: None if tells else kind  # noqa: ARG005  # Typer passes the context


def _take_text_as_it_is(parameter: Any) -> None:
    """Let a parameter take its default, and text if it is for text or a path, without Typer's check."""
    if parameter.required or parameter.multiple or parameter.nargs != 1:
        return
    annotation = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    check = type(parameter).process_value

    def process_value(context: Any, value: Any) -> Any:
        if isinstance(value, str) and annotation in (str, Path):
            value = annotation(value)
        elif value is not None and type(value) is not annotation:
            return check(parameter, context, value)
        return value if parameter.callback is None else parameter.callback(context, parameter, value)

    parameter.process_value = process_value


def _panel(parameter: Any) -> int:
    panel = getattr(parameter, "rich_help_panel", None)
    return 1 + (PROMISE, POLICY, SEARCH, COLUMNS, REQUESTS, OUTPUT).index(panel) if panel else 0
