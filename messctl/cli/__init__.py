"""The command line: one module per command. Each parses the options, calls, prints, and returns an exit code."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from messctl.cli import (
    ask,
    chat,
    doctor,
    evaluate,
    export,
    feedback,
    import_,
    log,
    record,
    replay,
    reset,
    serve,
    state,
    status,
    trace,
    tune,
    warm,
    zoo,
)
from messctl.cli.command import Group
from messctl.cli.output import complain, discard_output, discard_unwritable_output
from messctl.errors import MessctlError, last_resort, traceback_of

INTERRUPTED = 130
"""The exit code after Ctrl-C; Typer returns it too."""

app = typer.Typer(
    name="messctl",
    cls=Group,
    help="Route each prompt to the cheapest model of a zoo while a service-level promise holds.",
    epilog='Example: messctl ask "What is 17 + 25?"',
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    ask, chat, serve, feedback, status, log, export, state, reset, replay, tune, evaluate, record, import_, trace, warm,
    zoo, doctor,
):  # fmt: skip
    command.register(app)


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from messctl import __version__

        typer.echo(f"messctl {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; an error is one line on stderr.

    It is never a traceback, unless MESSCTL_DEBUG asks for one.
    """
    try:
        return _run(arguments)
    except MessctlError as error:
        message, code, trace = str(error), error.exit_code, traceback_of(error)
    except typer.TyperException as error:
        message, code, trace = _usage_message(error), 2, ""
    except (KeyboardInterrupt, typer.Abort):
        message, code, trace = "interrupted; no half-written file is left", INTERRUPTED, ""
    except (BrokenPipeError, SystemExit):
        # The reader of stdout is gone; Typer and Rich turn that into SystemExit. The buffered rest has no reader.
        discard_output()
        return 0
    except Exception as error:  # noqa: BLE001  # a crash must not look like a missed promise, which exits with 1
        message, code, trace = last_resort(error), 2, traceback_of(error)
        discard_unwritable_output()
    complain(message, trace)
    return code


def _usage_message(error: typer.TyperException) -> str:
    """Return what is wrong with the command line, and what to do about it."""
    context, message = getattr(error, "ctx", None), error.format_message() or "no command given"
    takes_text = context and any(each.param_type_name == "argument" for each in context.command.params)
    if "unexpected extra argument" in message and takes_text:
        message += "; quote a text that has spaces"
    return f"{message} (see `{context.command_path} --help`)" if context else message


def _run(arguments: list[str]) -> int:
    code = app(arguments, prog_name="messctl", standalone_mode=False)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if sys.stdout is not None:
        sys.stdout.flush()
    return code if isinstance(code, int) else 0
