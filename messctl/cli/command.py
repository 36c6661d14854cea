"""The look of `--help`: the order of the panels, and the places of flags and of `--help` itself."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

from messctl.cli.arguments import OUTPUT, POLICY, PROMISE, REQUESTS, SEARCH

ASK, COMPARE, TRACES, ZOO = "Ask", "Compare", "Traces", "Zoo"
"""The panels in which `messctl --help` groups the commands."""


class Command(TyperCommand):
    """A command whose help lists the options by panel; `--help` is the last option of the last panel."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the arguments and the options, in the order of the help."""
        parameters = _without_flag_types(super().get_params(ctx))
        parameters[-1].rich_help_panel = OUTPUT
        return sorted(parameters, key=_panel)


class Group(TyperGroup):
    """A group of commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options."""
        return _without_flag_types(super().get_params(ctx))


def _without_flag_types(parameters: list[Any]) -> list[Any]:
    """Remove the type from every flag: some versions of Typer print `<bool>` behind it."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


def _panel(parameter: Any) -> int:
    panel = getattr(parameter, "rich_help_panel", None)
    return 1 + (PROMISE, POLICY, SEARCH, REQUESTS, OUTPUT).index(panel) if panel else 0
