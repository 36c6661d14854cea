"""`messctl chat`: a conversation; the router chooses a model for each turn."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from messctl.cli.answer import acknowledge, document, end_line, footer, note, tell_of_look, telling_of_compiling, write
from messctl.cli.arguments import (
    OUTPUT,
    AlphaOption,
    AsksOption,
    GradeEmptyOption,
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
from messctl.cli.chat_interrupts import interrupts_ignored, one_interrupt
from messctl.cli.chat_turns import Lines, Turns, unquoted
from messctl.cli.command import ASK, Command
from messctl.cli.opening import history_path, open_router
from messctl.cli.output import complain, console, print_json, print_line, progress_console, warn
from messctl.cli.status import print_status, status_document
from messctl.cli.thinking import ShownThinking, warn_of_shown
from messctl.errors import MessctlError, UnknownNameError, UsageError, did_you_mean

if TYPE_CHECKING:
    from messctl.graders import Grader
    from messctl.live.conversation import Conversation
    from messctl.live.router import Router
    from messctl.zoo import Grading

EPILOG = "Example: messctl chat --system 'Answer briefly.'"
HELP = {
    "/good": "the last answer was good; /y for short",
    "/bad": "the last answer was bad; /n for short",
    "/model NAME": "this model answers from now on; /model auto: the router chooses; /model: show the choice",
    "/status": "whether the promise is kept, costs, and models",
    "/help": "this list",
    "/quit": "end the chat, as Ctrl-D does",
}
KEYS = 'Alt-Enter begins a new line. Enter does too in a turn that begins with """, until the next """.'
SHORT = ("/y", "/n")
AUTO = "auto"
LONGEST_COMMAND = 40
"""The longest unknown command that an error repeats, in characters."""

TurnJsonOption = Annotated[bool, option("--json", "Print one JSON document per turn, each on one line.", OUTPUT)]


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("chat", cls=Command, epilog=EPILOG, rich_help_panel=ASK)(chat)


def chat(
    alpha: AlphaOption = None,
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
    show_thinking: ShowThinkingOption = False,
    as_json: TurnJsonOption = False,
) -> int:
    """Chat with the zoo: each turn goes to the cheapest model that keeps the promise.

    The model also reads the turns before. /good and /bad judge the last answer; /help lists all commands. Without a
    terminal, each line of standard input is a turn or a command. Then the exit code is 2 if one of them failed.
    """
    from messctl.backends import LatestTurns
    from messctl.live.conversation import Conversation
    from messctl.records import Question

    system = None if system is None else valid_utf8(system)
    like = Question("", system, max_tokens=max_tokens, temperature=temperature, seed=seed)
    with open_router(
        zoo,
        state,
        log=log,
        accept_empty=grade_empty,
        through=lambda backend: LatestTurns(backend, warn),
        grader_of=_grader,
        alpha=alpha,
        asks=asks,
    ) as routing:
        talk = _Chat(routing, Conversation(routing, like), as_json=as_json, show_thinking=show_thinking)
        if model is not None:
            talk.choose(model)
        return talk.run(_turns(routing, log=log))


def _grader(grading: Grading | None) -> Grader | None:
    """Return the zoo's grader; if it compares with a reference, which a turn does not have, say so."""
    from messctl.live.grading import live_grader

    if grading is not None and grading.name is not None:
        warn(f"the zoo's grader {grading.name!r} needs a reference, so turns are not graded; judge with /good and /bad")
    return live_grader(grading)


def _turns(routing: Router, *, log: bool) -> Turns:
    """Return the source of the turns: the user at the terminal, or the lines of standard input."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return Lines()
    from messctl.cli.chat_editor import LineEditor

    note("/help lists the commands; Ctrl-C ends an answer, Ctrl-D the chat")
    return LineEditor(history_path(routing.state_path) if log else None, lambda typed: _completions(routing, typed))


def _completions(routing: Router, typed: str) -> Iterator[str]:
    lines = [name.removesuffix("NAME") for name in HELP]
    lines += [f"/model {name}" for name in (AUTO, *routing.zoo.models)]
    return (line for line in lines if typed.startswith("/") and line.startswith(typed) and line != typed)


class _Chat:
    """Carries out the turns and commands of a chat, and prints answers and notes."""

    def __init__(self, routing: Router, conversation: Conversation, *, as_json: bool, show_thinking: bool) -> None:
        self._routing = routing
        self._conversation = conversation
        self._as_json = as_json
        self._show_thinking = show_thinking
        self._ended = False
        self._commands: dict[str, Callable[[str], None]] = {
            "/good": lambda argument: self._judge(1.0, argument),
            "/bad": lambda argument: self._judge(0.0, argument),
            "/y": lambda argument: self._judge(1.0, argument),
            "/n": lambda argument: self._judge(0.0, argument),
            "/model": self._model,
            "/status": self._status,
            "/help": self._help,
            "/quit": self._quit,
        }

    def run(self, turns: Turns) -> int:
        """Carry out all turns and return the exit code. A turn that fails prints its error, and the chat goes on."""
        failed = False
        with interrupts_ignored() if turns.interactive else nullcontext():
            while not self._ended:
                try:
                    turn = turns.read()
                    with one_interrupt() if turns.interactive else nullcontext():
                        self._carry_out(turn)
                except EOFError:
                    break
                except KeyboardInterrupt:
                    if not turns.interactive:
                        raise
                except MessctlError as error:
                    complain(str(error))
                    failed = True
        return 2 if failed and not turns.interactive else 0

    def choose(self, model: str) -> None:
        """Let this model answer from now on. Raises UnknownNameError."""
        if model not in self._routing.zoo.models:
            raise UnknownNameError("model", model, self._routing.zoo.models)
        self._conversation.model = model

    def _carry_out(self, turn: str) -> None:
        quoted = unquoted(turn)
        prompt = turn.strip() if quoted is None else quoted
        if turn.startswith("/"):
            self._command(prompt)
        elif prompt:
            self._answer(prompt)

    def _answer(self, prompt: str) -> None:
        from messctl.backends.answer_stream import AnswerStream

        thinking = ShownThinking(show=self._show_thinking)
        stream = AnswerStream(None if self._as_json else thinking.before(write))
        try:
            with telling_of_compiling(self._routing):
                answered = self._conversation.ask(prompt, stream.listener, thinking.listener, tell_of_look)
        except MessctlError:
            thinking.end()
            if stream.started:
                end_line(stream.text)
            raise
        except KeyboardInterrupt:
            end_line("")  # behind the ^C that the terminal shows
            note("ended; the part above stays in the conversation" if stream.started else "ended")
            raise
        thinking.end()
        if self._as_json:
            print_json(document(self._routing, answered), indent=None)
            return
        end_line(answered.completion.answer)
        for failure in answered.failures.values():
            warn(failure)
        warn_of_shown(stream, answered)
        footer(self._routing, answered)

    def _command(self, typed: str) -> None:
        name, *rest = typed.split(maxsplit=1)
        name, argument = name[:LONGEST_COMMAND], "".join(rest)
        if name not in self._commands:
            nearest = did_you_mean(name, [known for known in self._commands if known not in SHORT])
            raise UsageError(
                f"unknown command {name!r}{nearest}; /help lists them; put a space before a prompt that begins with /"
            )
        if argument and name != "/model":
            raise UsageError(f"{name} takes no argument; leave out {argument!r}")
        self._commands[name](argument)

    def _judge(self, satisfied: float, _argument: str) -> None:
        logged = self._conversation.give_feedback(satisfied)
        acknowledge(logged.decision.served, satisfied, self._routing)

    def _model(self, argument: str) -> None:
        if argument == AUTO:
            self._conversation.model = None
        elif argument:
            self.choose(argument)
        else:
            chosen = self._conversation.model or f"{AUTO}: the router chooses"
            self._say(f"{chosen}; known: {', '.join(self._routing.zoo.models)}")

    def _status(self, _argument: str) -> None:
        ledger, settings, path = self._routing.ledger(), self._routing.settings, self._routing.state_path
        if self._as_json:
            print_json(status_document(ledger, settings, path), indent=None)
        else:
            print_status(ledger, settings, path)

    def _help(self, _argument: str) -> None:
        from messctl.display.tables import Named, named

        screen = progress_console() if self._as_json else console()
        screen.print(named([Named(name, does) for name, does in HELP.items()], screen.width))
        self._say(KEYS)

    def _say(self, line: str) -> None:
        print_line(line, to=sys.stderr if self._as_json else None)  # with --json, stdout holds documents alone

    def _quit(self, _argument: str) -> None:
        self._ended = True
