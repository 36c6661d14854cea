"""The options of `messctl import`; most are for tables, and name their columns."""

from __future__ import annotations

from typing import Annotated

import typer

from messctl.cli.arguments import COLUMNS, OUTPUT, REQUESTS, option
from messctl.cli.output import print_line

PER_1K_TOKENS = "per-1k-tokens"
PER_REQUEST = "per-request"


def _list_formats(wanted: bool) -> None:
    if wanted:
        from messctl.importers import formats

        for known in formats().values():
            print_line(f"{known.name:<16}{known.summary}", " " * 16)
        raise typer.Exit


CostOption = Annotated[
    list[str] | None,
    option(
        "--cost",
        f"A model's cost per request; add :{PER_1K_TOKENS} for its cost per 1,000 tokens. Repeatable. Of a table: "
        "the column of costs, or in a wide one a pattern such as 'cost_{model}'.",
        REQUESTS,
        metavar="NAME=N",
    ),
]
UnitOption = Annotated[
    str | None,
    option(
        "--unit --cost-unit",
        "The unit of costs, such as USD or J. Default: the source's, or 'unit'.",
        REQUESTS,
        metavar="TEXT",
    ),
]
AllowPickleOption = Annotated[
    bool,
    option("--allow-pickle", "Read pickle files. This runs any code in them.", REQUESTS),
]
MetricOption = Annotated[
    str | None,
    option("--metric", "lm-eval: the metric to take as satisfaction.", REQUESTS, metavar="NAME"),
]
FilterOption = Annotated[
    str | None,
    option("--filter", "lm-eval: the filter whose answers count.", REQUESTS, metavar="NAME"),
]
NameOption = Annotated[
    list[str] | None,
    option("--name", "The model whose results are in this folder or file. Repeatable.", REQUESTS, metavar="FILE=NAME"),
]
FormatsOption = Annotated[
    bool,
    option("--formats", "List the formats and exit.", OUTPUT, is_eager=True, callback=_list_formats),
]


def _column(name: str, help: str, metavar: str = "NAME") -> typer.models.OptionInfo:
    return typer.Option(name, metavar=metavar, help=help, rich_help_panel=COLUMNS)


WideOption = Annotated[
    list[str] | None,
    _column("--wide", "A row is a request: the columns of scores, as 'score_{model}' or by name. Repeatable."),
]
LongOption = Annotated[bool, option("--long", "A row is one model's answer to a request.", COLUMNS)]
ModelColumnOption = Annotated[str | None, _column("--model-column", "Of a long table: the model.")]
SatisfiedOption = Annotated[str | None, _column("--satisfied", "Of a long table: the score.")]
PromptOption = Annotated[str | None, _column("--prompt", "The prompt. Default: prompt, if there is one.")]
IdOption = Annotated[str | None, _column("--id", "The request's id. Default: request_id or id, if there is one.")]
AnswerOption = Annotated[str | None, _column("--answer", "The answer; in a wide table a pattern.")]
TokensInOption = Annotated[str | None, _column("--tokens-in", "The tokens of the prompt; likewise.")]
TokensOutOption = Annotated[str | None, _column("--tokens-out", "The tokens of the answer; likewise.")]
LatencyOption = Annotated[str | None, _column("--latency", "The seconds that the answer took; likewise.")]
ScaleOption = Annotated[
    str | None, _column("--scale", "The worst and the best score, such as 0:100. Default: 0:1.", "TEXT")
]
ThresholdOption = Annotated[
    str | None, _column("--threshold", "Scores of at least N satisfy, lower ones do not. 0..1 or N% is a share.", "N")
]
DuplicatesOption = Annotated[
    str | None,
    _column("--duplicates", "What counts of several answers of a model to a request: mean, first or last.", "NAME"),
]
DecimalOption = Annotated[str | None, _column("--decimal", "The decimal mark of numbers in text: . or ,", "TEXT")]
DelimiterOption = Annotated[
    str | None, _column("--delimiter", "The character between cells. Default: what fits.", "TEXT")
]
SkipOption = Annotated[int, _column("--skip", "The lines above the header of a text file.", "N")]
HeaderRowsOption = Annotated[int, _column("--header-rows", "The lines of the header, 1 to 3.", "N")]
IgnoreOption = Annotated[
    list[str] | None, _column("--ignore", "A column to leave out, though a pattern fits it. Repeatable.")
]
