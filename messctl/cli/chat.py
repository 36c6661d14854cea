"""`messctl chat`: a conversation, each turn of it routed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from messctl.cli.answer import attained, document, end_line, footer, note, write
from messctl.cli.arguments import (
    AlphaOption,
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
from messctl.cli.chat_interrupts import interrupts_ignored, one_interrupt
from messctl.cli.chat_turns import Lines, Turns, unquoted
from messctl.cli.opening import history_path, open_router
from messctl.cli.output import complain, console, print_json, warn
from messctl.cli.status import status_document, status_table
from messctl.display.text import plain
from messctl.errors import MessctlError, UnknownNameError, UsageError, did_you_mean

if TYPE_CHECKING:
    from messctl.live.conversation import Conversation
    from messctl.live.router import Router

EPILOG = "Example: messctl chat --system 'Answer briefly.'"
HELP = {
    "/good": "the last answer was good",
    "/bad": "the last answer was bad",
    "/model NAME": "have this model answer; /model auto: the router chooses; /model: which it is",
    "/status": "where the promise stands",
    "/help": "this",
    "/quit": "end; Ctrl-D does, too",
}
KEYS = 'Alt-Enter begins a line, and so does Enter in a turn that begins with """, up to the next """'
AUTO = "auto"
LONGEST_COMMAND = 40


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("chat", epilog=EPILOG)(chat)


def chat(
    model: ModelOption = None,
    system: SystemOption = None,
    max_tokens: MaxTokensOption = None,
    temperature: TemperatureOption = None,
    seed: SeedOption = None,
    alpha: AlphaOption = None,
    log: LogOption = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON document per turn, on a line of its own.")
    ] = False,
    zoo: ZooOption = None,
    state: StateOption = None,
) -> int:
    """Talk to the zoo: every turn goes to the cheapest model that keeps the promise, with the turns before it.

    /good and /bad judge the last answer, /help lists the commands. Without a terminal, every line of standard input
    is a turn or a command; then the exit code is 2 where one of them failed.
    """
    from messctl.backends import LatestTurns
    from messctl.live.conversation import Conversation
    from messctl.records import Question

    system = None if system is None else valid_utf8(system)
    like = Question("", system, max_tokens=max_tokens, temperature=temperature, seed=seed)
    with open_router(zoo, state, log=log, alpha=alpha, through=lambda backend: LatestTurns(backend, warn)) as routing:
        talk = _Chat(routing, Conversation(routing, like), as_json=as_json)
        if model is not None:
            talk.choose(model)
        return talk.go_on(_turns(routing, log=log))


def _turns(routing: Router, *, log: bool) -> Turns:
    """Return where turns come from: whoever sits at the terminal, or the lines of standard input."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return Lines()
    from messctl.cli.chat_editor import LineEditor

    note("/help lists the commands, Ctrl-C ends an answer, Ctrl-D the chat")
    return LineEditor(history_path(routing.state_path) if log else None, lambda typed: _completions(routing, typed))


def _completions(routing: Router, typed: str) -> Iterator[str]:
    lines = [name.removesuffix("NAME") for name in HELP]
    lines += [f"/model {name}" for name in (AUTO, *routing.zoo.models)]
    return (line for line in lines if typed.startswith("/") and line.startswith(typed) and line != typed)


class _Chat:
    """A chat as it is seen: turns and commands come in, answers and lines on what happened go out."""

    def __init__(self, routing: Router, conversation: Conversation, *, as_json: bool) -> None:
        self._routing = routing
        self._conversation = conversation
        self._as_json = as_json
        self._ended = False
        self._commands: dict[str, Callable[[str], None]] = {
            "/good": lambda argument: self._judge(1.0, argument),
            "/bad": lambda argument: self._judge(0.0, argument),
            "/model": self._model,
            "/status": self._status,
            "/help": self._help,
            "/quit": self._quit,
        }

    def go_on(self, turns: Turns) -> int:
        """Take turns until the last, and return the exit code. What fails is told, and the chat goes on."""
        failed = False
        with interrupts_ignored() if turns.by_hand else nullcontext():
            while not self._ended:
                try:
                    said = turns.read()
                    with one_interrupt() if turns.by_hand else nullcontext():
                        self._take(said)
                except EOFError:
                    break
                except KeyboardInterrupt:
                    if not turns.by_hand:
                        raise
                except MessctlError as error:
                    complain(str(error))
                    failed = True
        return 2 if failed and not turns.by_hand else 0

    def choose(self, model: str) -> None:
        """Have this model answer. Raises UnknownNameError."""
        if model not in self._routing.zoo.models:
            raise UnknownNameError("model", model, self._routing.zoo.models)
        self._conversation.model = model

    def _take(self, said: str) -> None:
        quoted = unquoted(said)
        prompt = said.strip() if quoted is None else quoted
        if said.startswith("/"):
            self._command(prompt)
        elif prompt:
            self._answer(prompt)

    def _answer(self, prompt: str) -> None:
        from messctl.backends.answer_stream import AnswerStream

        stream = AnswerStream(None if self._as_json else write)
        try:
            asked = self._conversation.ask(prompt, stream.listener)
        except MessctlError:
            if stream.started:
                end_line(stream.text)
            raise
        except KeyboardInterrupt:
            end_line("")  # behind the ^C that the terminal shows
            note("ended; what was said stays in the conversation" if stream.started else "ended")
            raise
        if self._as_json:
            print_json(document(self._routing, asked), indent=None)
            return
        end_line(asked.completion.answer)
        for failure in asked.failures.values():
            warn(failure)
        footer(self._routing, asked)

    def _command(self, typed: str) -> None:
        name, *rest = typed.split(maxsplit=1)
        name, argument = name[:LONGEST_COMMAND], "".join(rest)
        if name not in self._commands:
            raise UsageError(
                f"unknown command {name!r}{did_you_mean(name, self._commands)}; /help lists them; "
                "put a space before a prompt that begins with /"
            )
        if argument and name != "/model":
            raise UsageError(f"{name} takes nothing after it")
        self._commands[name](argument)

    def _judge(self, satisfied: float, _argument: str) -> None:
        logged = self._conversation.give_feedback(satisfied)
        standing = attained(self._routing.standing(), self._routing.settings.alpha)
        note(f"{logged.decision.served}: {'good' if satisfied else 'bad'} · {standing}")

    def _model(self, argument: str) -> None:
        if argument == AUTO:
            self._conversation.model = None
        elif argument:
            self.choose(argument)
        else:
            chosen = self._conversation.model or f"{AUTO}: the router chooses"
            self._tell(plain(f"{chosen}; known: {', '.join(self._routing.zoo.models)}"))

    def _status(self, _argument: str) -> None:
        ledger, settings, path = self._routing.ledger(), self._routing.settings, self._routing.state_path
        if self._as_json:
            print_json(status_document(ledger, settings, path), indent=None)
        else:
            console().print(status_table(ledger, settings, path))

    def _help(self, _argument: str) -> None:
        width = max(map(len, HELP))
        for name, does in HELP.items():
            self._tell(f"{name:<{width}}  {does}")
        self._tell(KEYS)

    def _tell(self, line: str) -> None:
        typer.echo(line, err=self._as_json)  # documents stand alone on stdout

    def _quit(self, _argument: str) -> None:
        self._ended = True
