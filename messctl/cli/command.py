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

ASK, COMPARE, TRACES, ZOO = "Ask", "Compare", "Traces", "Zoo"
"""The panels in which `messctl --help` groups the commands."""


class Command(TyperCommand):
    """A command whose help lists the options by panel; `--help` is the last option of the last panel."""

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
