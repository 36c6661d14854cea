"""`messctl ask`: route one prompt to a model, stream its answer, learn from the feedback."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from messctl.cli.answer import document, end_line, footer, number, terms_of, write, write_if_read
from messctl.cli.arguments import (
    MOST_BYTES,
    AlphaOption,
    JsonOption,
    LogOption,
    MaxTokensOption,
    ModelOption,
    SeedOption,
    StateOption,
    SystemOption,
    TemperatureOption,
    ZooOption,
    valid_utf8,
)
from messctl.cli.opening import open_router
from messctl.cli.output import ignore_closed_output, print_json, progress_console, prompt_user, warn
from messctl.display.text import plain
from messctl.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from messctl.graders import Grader
    from messctl.live.router import Answered, Router
    from messctl.records import Decision, Weighed

REPLIES = {"y": 1.0, "yes": 1.0, "good": 1.0, "n": 0.0, "no": 0.0, "bad": 0.0}
EPILOG = 'Example: messctl ask "What is 17 + 25?" --expect 42'


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("ask", epilog=EPILOG)(ask)


def ask(
    prompt: Annotated[
        str | None,
        typer.Argument(
            help="The prompt. With text on standard input, which is read to its end, the instruction for that."
        ),
    ] = None,
    model: ModelOption = None,
    system: SystemOption = None,
    max_tokens: MaxTokensOption = None,
    temperature: TemperatureOption = None,
    seed: SeedOption = None,
    alpha: AlphaOption = None,
    expect: Annotated[str | None, typer.Option(help="Text that a good answer holds: grades the answer.")] = None,
    expect_regex: Annotated[str | None, typer.Option(help="What a good answer matches: grades the answer.")] = None,
    require_satisfied: Annotated[
        bool, typer.Option("--require-satisfied", help="Exit 1 where the answer is graded and misses.")
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Print what the decision was made of.")] = False,
    log: LogOption = True,
    as_json: JsonOption = False,
    zoo: ZooOption = None,
    state: StateOption = None,
) -> int:
    """Route a prompt to the cheapest model that keeps the promise, and stream its answer."""
    from messctl.backends.answer_stream import AnswerStream
    from messctl.records import Question

    grader = _grader(expect, expect_regex)
    question = Question(_prompt(prompt), system, max_tokens=max_tokens, temperature=temperature, seed=seed)
    with open_router(zoo, state, log=log, alpha=alpha) as routing:
        graded = grader is not None or routing.grades
        if require_satisfied and not graded:
            raise UsageError("--require-satisfied needs --expect, --expect-regex, or a grader in zoo.yaml to grade by")
        stream = AnswerStream(None if as_json else write_if_read if graded else write)
        try:
            asked = routing.ask(
                question,
                model=model,
                grader=grader,
                on_text=stream.listener,
                on_decision=_explain if explain else None,
            )
        except BaseException:
            if stream.started:
                with ignore_closed_output():
                    end_line(stream.text)
            raise
        if as_json:
            with ignore_closed_output():
                print_json(document(routing, asked))
        else:
            with ignore_closed_output():
                end_line(asked.completion.answer)
            for failure in asked.failures.values():
                warn(failure)
            footer(routing, asked)
            if log and asked.satisfied is None and sys.stdin.isatty() and sys.stderr.isatty():
                _question(routing, asked)
    return 1 if require_satisfied and not asked.satisfied else 0


def _grader(expect: str | None, expect_regex: str | None) -> Grader | None:
    from messctl.graders import expect_regex as by_regex
    from messctl.graders import expect_text

    if expect is not None and expect_regex is not None:
        raise UsageError("--expect and --expect-regex exclude each other; choose one")
    if expect is not None:
        return expect_text(expect)
    return None if expect_regex is None else by_regex(expect_regex)


def _prompt(argument: str | None) -> str:
    """Return the prompt: the argument, standard input, or the argument as an instruction for the input."""
    text = ""
    if not sys.stdin.isatty():
        data = sys.stdin.buffer.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise UsageError(f"standard input is larger than {MOST_BYTES // 10**6} MB; no model's context holds that")
        text = data.decode("utf-8", "replace").strip()
    asked = valid_utf8(argument or "").strip()
    prompt = "\n\n".join(part for part in (asked, text) if part)
    if not prompt:
        raise UsageError('no prompt; give one as an argument or on standard input: messctl ask "What is 17 + 25?"')
    return prompt


def _explain(decision: Decision) -> None:
    from messctl.display.tables import fitting

    weighed, screen = decision.weighed, progress_console()
    if weighed is None:
        screen.print("--model chose; nothing was weighed")
        return
    figures = ", ".join(f"{symbol} = {value:.4g}" for symbol, value in weighed.figures.items())
    screen.print(f"{figures} ({weighed.note})" if weighed.note else figures)
    screen.print(fitting(_table(decision, weighed), screen.width, folding=("model",)))
    if any(model not in decision.mean_cost for model in decision.predicted):
        screen.print("–: not known before its first answer, and taken for as little as it may be")


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
            number(mean_cost),
            *(number(term) for term in terms.values()),
            number(sum(values[model] for values in weighed.terms.values())),
            _role(model, decision),
        )
    return table


def _role(model: str, decision: Decision) -> str:
    if model in decision.queried:
        return "served" if model == decision.served else "queried"
    return "left out" if model in decision.request.excluded else ""


def _question(routing: Router, asked: Answered) -> None:
    """Ask whether the answer was good; Enter or the end of input leaves it open."""
    reply = prompt_user("good? [y/n, Enter to leave it open] ")
    if reply in REPLIES:
        routing.feedback(asked.decision.request.request_id, REPLIES[reply])
    elif reply:
        warn(f"'{reply}' is neither yes nor no; `messctl feedback` judges it later")
