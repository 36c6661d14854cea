"""`messctl ask`: route one prompt to a model, stream its answer, learn from the feedback."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from messctl.cli.answer import (
    acknowledge,
    document,
    end_line,
    footer,
    tell_of_look,
    telling_of_compiling,
    terms_of,
    write,
    write_if_read,
)
from messctl.cli.arguments import (
    OUTPUT,
    PROMISE,
    AlphaOption,
    AsksOption,
    GradeEmptyOption,
    JsonOption,
    LogOption,
    MaxTokensOption,
    ModelOption,
    SeedOption,
    ShowThinkingOption,
    StateOption,
    SystemOption,
    TemperatureOption,
    ZooOption,
    option,
    valid_utf8,
)
from messctl.cli.command import ASK, Command
from messctl.cli.feedback import WORDS
from messctl.cli.opening import open_router
from messctl.cli.output import ignore_closed_output, print_json, print_line, progress_console, prompt_user, warn
from messctl.cli.standard_input import read_all
from messctl.cli.thinking import ShownThinking, warn_of_shown
from messctl.display.text import or_dash, plain
from messctl.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from messctl.graders import Grader
    from messctl.live.router import Answered, Router
    from messctl.records import Decision, Weighed
    from messctl.zoo import Grading

EPILOG = 'Example: messctl ask "What is 17 + 25?" --expect 42'


ExpectOption = Annotated[
    str | None,
    option(
        "--expect",
        "A good answer contains this text. It is the reference if the zoo names a grader.",
        PROMISE,
        metavar="TEXT",
    ),
]
ExpectRegexOption = Annotated[
    str | None,
    option("--expect-regex", "A good answer matches this regular expression.", PROMISE, metavar="TEXT"),
]
RequireSatisfiedOption = Annotated[bool, option("--require-satisfied", "Exit 1 if the answer is not good.", PROMISE)]
ExplainOption = Annotated[
    bool,
    option("--explain", "Print what the decision weighed, model by model, on stderr.", OUTPUT),
]


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("ask", cls=Command, epilog=EPILOG, rich_help_panel=ASK)(ask)


def ask(
    prompt: Annotated[
        str | None,
        typer.Argument(
            help="The prompt. Text on standard input is read too, and put behind it.",
        ),
    ] = None,
    alpha: AlphaOption = None,
    expect: ExpectOption = None,
    expect_regex: ExpectRegexOption = None,
    require_satisfied: RequireSatisfiedOption = False,
    grade_empty: GradeEmptyOption = False,
    model: ModelOption = None,
    asks: AsksOption = None,
    zoo: ZooOption = None,
    system: SystemOption = None,
    max_tokens: MaxTokensOption = None,
    temperature: TemperatureOption = None,
    seed: SeedOption = None,
    log: LogOption = True,
    state: StateOption = None,
    explain: ExplainOption = False,
    show_thinking: ShowThinkingOption = False,
    as_json: JsonOption = False,
) -> int:
    """Route a prompt to the cheapest model that keeps the promise, and stream its answer."""
    from messctl.backends.answer_stream import AnswerStream
    from messctl.records import Question

    if expect is not None and expect_regex is not None:
        raise UsageError("--expect and --expect-regex exclude each other; choose one")
    asks_user = log and not as_json and sys.stdin.isatty() and sys.stderr.isatty()

    grader_of = partial(_grader, text=expect, pattern=expect_regex, required=require_satisfied, asks=asks_user)
    question = Question(_prompt(prompt), system, max_tokens=max_tokens, temperature=temperature, seed=seed)
    opening = open_router(zoo, state, log=log, accept_empty=grade_empty, alpha=alpha, asks=asks, grader_of=grader_of)
    with opening as routing:
        thinking = ShownThinking(show=show_thinking)
        stream = AnswerStream(None if as_json else thinking.before(write_if_read if routing.grades else write))
        try:
            with telling_of_compiling(routing):
                answered = routing.ask(
                    question,
                    model=model,
                    on_text=stream.listener,
                    on_thinking=thinking.listener,
                    on_decision=_explain if explain else tell_of_look,
                )
        except BaseException:
            thinking.end()
            if stream.started:
                with ignore_closed_output():
                    end_line(stream.text)
            raise
        thinking.end()
        _print(routing, answered, as_json=as_json)
        warn_of_shown(stream, answered)
        if asks_user and answered.satisfied is None:
            _ask_for_feedback(routing, answered)
    return 1 if require_satisfied and not answered.satisfied else 0


def _print(routing: Router, answered: Answered, *, as_json: bool) -> None:
    """Print what comes after the streamed answer; or the whole document."""
    with ignore_closed_output():
        if as_json:
            print_json(document(routing, answered))
            return
        end_line(answered.completion.answer)
    for failure in answered.failures.values():
        warn(failure)
    footer(routing, answered)


def _grader(
    grading: Grading | None, text: str | None, pattern: str | None, *, required: bool, asks: bool
) -> Grader | None:
    """Return the grader of the answer: the zoo's, or the one of --expect or --expect-regex.

    Without one, raise UsageError if a grade is `required`; say why there is none if the zoo's grader lacks a reference
    and the user is not asked.
    """
    from messctl.graders import expect_regex
    from messctl.live.grading import live_grader

    if pattern is not None:
        return expect_regex(pattern)
    grader = live_grader(grading, text)
    if grader is None and grading is not None:
        lacks = f"the zoo's grader {grading.name!r} compares with a reference, so the answer is not graded"
        if required:
            raise UsageError(f"--require-satisfied needs a grade, and {lacks}; add --expect")
        if not asks:
            warn(f"{lacks}; add --expect")
    elif grader is None and required:
        raise UsageError("--require-satisfied needs a grade; add --expect, --expect-regex, or a grader in zoo.yaml")
    return grader


def _prompt(argument: str | None) -> str:
    """Return the prompt: the argument, standard input, or the argument as an instruction for the input."""
    text = "" if sys.stdin.isatty() else read_all().strip()
    instruction = valid_utf8(argument or "").strip()
    prompt = "\n\n".join(part for part in (instruction, text) if part)
    if not prompt:
        raise UsageError('no prompt; give one as an argument or on standard input: messctl ask "What is 17 + 25?"')
    return prompt


def _explain(decision: Decision) -> None:
    """Print the figures of a decision, and what it weighed of every model, on stderr."""
    if decision.answers:
        tell_of_look(decision)
        return
    from messctl.display.tables import fitting

    weighed, screen = decision.weighed, progress_console()
    if weighed is None:
        print_line("one model was named, so nothing was weighed", to=sys.stderr)
        return
    figures = ", ".join(f"{symbol} = {value:.4g}" for symbol, value in weighed.figures.items())
    print_line(f"{figures} ({weighed.note})" if weighed.note else figures, to=sys.stderr)
    screen.print(fitting(_table(decision, weighed), screen.width, folding=("model",)))
    if any(model not in decision.mean_cost for model in decision.predicted):
        print_line("–: unknown before the model's first answer; the sum counts the least possible cost", to=sys.stderr)


def _table(decision: Decision, weighed: Weighed) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("model")
    for heading in ("predicted", "mean cost", *weighed.terms, "sum"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for model, predicted in decision.predicted.items():
        terms, mean_cost = terms_of(model, decision, weighed), decision.mean_cost.get(model)
        table.add_row(
            Text(plain(model)),
            f"{predicted:.3f}",
            or_dash(mean_cost, ".3g"),
            *(or_dash(term, ".3g") for term in terms.values()),
            or_dash(sum(values[model] for values in weighed.terms.values()), ".3g"),
            _role(model, decision),
        )
    return table


def _role(model: str, decision: Decision) -> str:
    if model in decision.queried:
        return "served" if model == decision.served else "queried"
    return "left out" if model in decision.request.excluded else ""


def _ask_for_feedback(routing: Router, answered: Answered) -> None:
    """Ask whether the answer was good. Enter, or the end of input, gives no feedback."""
    reply = prompt_user("Was the answer good? [y/n, Enter to skip]")
    if reply in WORDS:
        routing.feedback(answered.decision.request.request_id, WORDS[reply])
        acknowledge(answered.decision.served, WORDS[reply], routing)
    elif reply:
        warn(f"'{reply}' is neither y nor n; give feedback later with `messctl feedback`")
