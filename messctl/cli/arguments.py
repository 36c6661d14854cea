"""What the commands' options share: the panels of the help, options of several commands, and checks of values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from messctl.errors import UsageError
from messctl.state.place import Place, place_of

if TYPE_CHECKING:
    from messctl.zoo import Settings

PROMISE, POLICY, REQUESTS, OUTPUT = "Promise", "Policy", "Requests", "Output"
"""The panels in which every command's help groups its options."""
SEARCH = "Search"
"""The panel of the options of a search."""
COLUMNS = "Columns"
"""The panel of the options that name the columns of a table."""
MOST_BYTES = 8 * 10**6
"""The longest prompt, in bytes. A longer one is refused before all of it is read."""


def in_range(low: float, high: float = math.inf) -> Callable[[float | None], float | None]:
    """Return the callback of an option whose number is finite, and from `low` to `high`; None passes.

    Typer's own `min` and `max` let `nan` and `inf` pass, and print the range into the help.
    """

    def check(value: float | None) -> float | None:
        if isinstance(value, float) and not math.isfinite(value):
            raise typer.BadParameter(f"{value:g} is not a finite number")
        if value is not None and value < low:
            raise typer.BadParameter(f"{value} is too small; the least is {low}")
        if value is not None and value > high:
            raise typer.BadParameter(f"{value} is too large; the most is {high}")
        return value

    return check


INT64 = in_range(-math.inf, 2**62)
"""The check of an integer option: numpy's int64 must hold it, with room to spare."""


def place(text: str | None) -> Place | None:
    """Return where the state is that an option names: a file, or a database. Raises UsageError."""
    return None if text is None else place_of(text)


ZooOption = Annotated[
    Path | None,
    typer.Option(
        "--zoo",
        metavar="FILE",
        help="The zoo file. Default: ./zoo.yaml if it exists, else the zoo in the box.",
        rich_help_panel=POLICY,
    ),
]
STATE = typer.Option(
    "--state",
    envvar="MESSCTL_STATE",
    metavar="PLACE",
    callback=place,
    help="The state: a file, or postgresql://… Default: in the user's state folder.",
    rich_help_panel=REQUESTS,
)
if TYPE_CHECKING:
    StateOption = Annotated[Place | None, STATE]
else:  # typer knows no unions; what a command gets is what the callback returns
    StateOption = Annotated[str | None, STATE]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document instead of text.", rich_help_panel=OUTPUT)
]
TraceOutputOption = Annotated[
    Path,
    typer.Option("-o", "--output", metavar="FILE", help="The trace to write, a Parquet file.", rich_help_panel=OUTPUT),
]
DarkOption = Annotated[bool, typer.Option("--dark", help="Draw on a dark ground.", rich_help_panel=OUTPUT)]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME", help="The model that answers; the router does not choose.",
                 rich_help_panel=POLICY),
]  # fmt: skip
SystemOption = Annotated[
    str | None,
    typer.Option("--system", metavar="TEXT", help="The system message.", rich_help_panel=REQUESTS),
]
MaxTokensOption = Annotated[
    int | None,
    typer.Option("--max-tokens", metavar="N", callback=in_range(1), help="The longest answer, in tokens.",
                 rich_help_panel=REQUESTS),
]  # fmt: skip
TemperatureOption = Annotated[
    float | None,
    typer.Option("--temperature", metavar="N", callback=in_range(0), help="0 always takes the likeliest token.",
                 rich_help_panel=REQUESTS),
]  # fmt: skip
SeedOption = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", callback=in_range(0), help="The seed of the sampling.",
                 rich_help_panel=REQUESTS),
]  # fmt: skip
AlphaOption = Annotated[
    float | None,
    typer.Option("--alpha", metavar="0..1", help="The promise α: the least share of satisfying answers.",
                 rich_help_panel=PROMISE),
]  # fmt: skip
LogOption = Annotated[
    bool,
    typer.Option("--log/--no-log", help="Store the request and learn from it.", rich_help_panel=REQUESTS),
]
ShowThinkingOption = Annotated[
    bool,
    typer.Option("--show-thinking", help="Show what the model thinks before its answer, on stderr.",
                 rich_help_panel=OUTPUT),
]  # fmt: skip
AsksOption = Annotated[
    int | None,
    typer.Option("--asks", metavar="1..3", callback=in_range(1, 3),
                 help="How many models may be asked for one request; the likeliest answer is shown.",
                 rich_help_panel=POLICY),
]  # fmt: skip
EqualOption = Annotated[
    str | None,
    typer.Option("--equal", metavar="FORM", rich_help_panel=POLICY,
                 help="When two answers are equal: text, numeric, choice, none."),
]  # fmt: skip
GradeEmptyOption = Annotated[
    bool,
    typer.Option("--grade-empty", help="Take an empty answer as an answer, and grade it.", rich_help_panel=PROMISE),
]


def settings_of(
    zoo: Path | None,
    *,
    v: str | None = None,
    cost_scale: str | None = None,
    trial_budget: str | None = None,
    **options: float | str | None,
) -> Settings:
    """Return the zoo file's settings; each option that is not None replaces its setting.

    Raises ConfigError for a wrong zoo file, and UsageError for an option that is neither its word nor a number.
    """
    from messctl.zoo import load_settings

    settings, _ = load_settings(zoo)
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    for name, text, word in (
        ("v", v, "auto"),
        ("cost_scale", cost_scale, "auto"),
        ("trial_budget", trial_budget, "none"),
    ):
        if text is not None:
            given[name] = _number_or(word, name, text)
    return replace(settings, **given)


def _number_or(word: str, name: str, text: str) -> float | None:
    if text == word:
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--{name.replace('_', '-')} is {text!r}; it must be {word!r} or a number") from None


def valid_utf8(argument: str) -> str:
    """Return an argument of the command line, with U+FFFD for every byte that is not UTF-8."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
