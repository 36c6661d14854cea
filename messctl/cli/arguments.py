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


def option(names: str, help: str, panel: str, **more: Any) -> Any:  # as typer.Option
    """Return an option, with its names as in "-o --output", and its panel of the help. `more` is for typer.Option."""
    return typer.Option(*names.split(), help=help, rich_help_panel=panel, **more)


def place(text: str | None) -> Place | None:
    """Return where the state is that an option names: a file, or a database. Raises UsageError."""
    return None if text is None else place_of(text)


ZooOption = Annotated[
    Path | None,
    option("--zoo", "The zoo file. Default: ./zoo.yaml if it exists, else the zoo in the box.", POLICY, metavar="FILE"),
]
STATE = option(
    "--state",
    "The state: a file, or postgresql://… Default: in the user's state folder.",
    REQUESTS,
    envvar="MESSCTL_STATE",
    metavar="PLACE",
    callback=place,
)
if TYPE_CHECKING:
    StateOption = Annotated[Place | None, STATE]
else:  # typer knows no unions; what a command gets is what the callback returns
    StateOption = Annotated[str | None, STATE]
JsonOption = Annotated[bool, option("--json", "Print one JSON document instead of text.", OUTPUT)]
TraceOutputOption = Annotated[
    Path,
    option("-o --output", "The trace to write, a Parquet file.", OUTPUT, metavar="FILE"),
]
DarkOption = Annotated[bool, option("--dark", "Draw on a dark ground.", OUTPUT)]
ModelOption = Annotated[
    str | None,
    option("--model", "The model that answers; the router does not choose.", POLICY, metavar="NAME"),
]
SystemOption = Annotated[str | None, option("--system", "The system message.", REQUESTS, metavar="TEXT")]
MaxTokensOption = Annotated[
    int | None,
    option("--max-tokens", "The longest answer, in tokens.", REQUESTS, metavar="N", callback=in_range(1)),
]
TemperatureOption = Annotated[
    float | None,
    option("--temperature", "0 always takes the likeliest token.", REQUESTS, metavar="N", callback=in_range(0)),
]
SeedOption = Annotated[
    int | None,
    option("--seed", "The seed of the sampling.", REQUESTS, metavar="N", callback=in_range(0)),
]
AlphaOption = Annotated[
    float | None,
    option("--alpha", "The promise α: the least share of satisfying answers.", PROMISE, metavar="0..1"),
]
LogOption = Annotated[bool, option("--log/--no-log", "Store the request and learn from it.", REQUESTS)]
ShowThinkingOption = Annotated[
    bool,
    option("--show-thinking", "Show what the model thinks before its answer, on stderr.", OUTPUT),
]
AsksOption = Annotated[
    int | None,
    option(
        "--asks",
        "How many models may be asked for one request; the likeliest answer is shown.",
        POLICY,
        metavar="1..3",
        callback=in_range(1, 3),
    ),
]
EqualOption = Annotated[
    str | None,
    option("--equal", "When two answers are equal: text, numeric, choice, none.", POLICY, metavar="FORM"),
]
GradeEmptyOption = Annotated[bool, option("--grade-empty", "Take an empty answer as an answer, and grade it.", PROMISE)]


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
