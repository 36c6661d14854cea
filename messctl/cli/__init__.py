"""The command line: one module per command; each parses, calls, renders, and ends with an exit code."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from messctl.cli import import_, replay, trace
from messctl.errors import MessctlError
from messctl.terminal import plain

INTERRUPTED = "interrupted; nothing was left half-written"

app = typer.Typer(
    name="messctl",
    help="Route each prompt to the cheapest model of a zoo while a service-level promise holds.",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
import_.register(app)
trace.register(app)
replay.register(app)


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


def main() -> None:
    """Run the command line and exit: 0 fine, 1 the SLA asked for was missed, 2 bad usage or input."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; an error is one line on stderr, never a traceback."""
    try:
        code = app(arguments, prog_name="messctl", standalone_mode=False)
        sys.stdout.flush()
    except MessctlError as error:
        return _say(str(error), error.exit_code)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see `{context.command_path} --help`)" if context else ""
        return _say(error.format_message() + hint, 2)
    except (KeyboardInterrupt, typer.Abort):
        return _say(INTERRUPTED, 130)
    except BrokenPipeError:
        # Whoever read our output has seen enough; what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if code == 130:
        return _say(INTERRUPTED, 130)
    return code if isinstance(code, int) else 0


def _say(message: str, code: int) -> int:
    print(f"messctl: {plain(' '.join(message.split()))}", file=sys.stderr)
    return code
