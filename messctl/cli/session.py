"""What the live commands share: where the state is, and who answers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from messctl.cli.arguments import finite
from messctl.display.text import plain
from messctl.errors import StoreError

if TYPE_CHECKING:
    from messctl.backends.base import Backend
    from messctl.costs.load_costs import Loads
    from messctl.costs.meter import Meter
    from messctl.live.router import Router
    from messctl.state.store import Store
    from messctl.zoo import ZooFile

ZooOption = Annotated[
    Path | None, typer.Option("--zoo", help="The zoo file. Default: ./zoo.yaml, else the zoo in the box.")
]
StateOption = Annotated[
    Path | None,
    typer.Option("--state", envvar="MESSCTL_STATE", help="The state file. Default: in the user's state folder."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
ModelOption = Annotated[str | None, typer.Option("--model", help="Have this model answer, whatever the router thinks.")]
SystemOption = Annotated[str | None, typer.Option("--system", help="A system message.")]
MaxTokensOption = Annotated[int | None, typer.Option("--max-tokens", min=1, help="Bound of an answer, in tokens.")]
TemperatureOption = Annotated[
    float | None,
    typer.Option("--temperature", min=0.0, callback=finite, help="0 always takes the likeliest token."),
]
SeedOption = Annotated[int | None, typer.Option("--seed", min=0, help="Makes sampling repeatable.")]
AlphaOption = Annotated[float | None, typer.Option("--alpha", help="The promised share of satisfying answers, 0..1.")]
LogOption = Annotated[
    bool,
    typer.Option(
        "--log/--no-log", help="Keep the request, and learn from it; without, what is known decides all the same."
    ),
]
MOST_BYTES = 8 * 10**6
"""More than this in a prompt is refused before it is read in."""


def place_of(state: Path | None, *, needed: bool = False) -> Path:
    """Return where the state is, or would be. That one was named and is not there is told: it may be a slip.

    Raises StoreError for that where it is `needed`, or none could be made there; elsewhere an empty one is as good, and
    it is a warning.
    """
    from messctl.state.store import default_path

    if state is None:
        return default_path()
    if not state.exists():
        told = f"{state}: there is no state; correct --state or MESSCTL_STATE, or have `messctl ask` make it"
        if needed or state.is_symlink() or any(each.exists() and not each.is_dir() for each in state.parents):
            raise StoreError(told)
        warn(told)
    return state


def look(state: Path | None, *, needed: bool = False) -> Store:
    """Open the state for reading only; see `place_of`."""
    from messctl.state.store import Store

    return Store(place_of(state, needed=needed), looking=True)


def every_backend(zoo_file: ZooFile) -> Backend:
    """Return what has a zoo's models answer wherever they are."""
    from messctl.backends import Dispatch, LlamaCpp, OpenAICompatible

    files = LlamaCpp(on_warning=warn, budget=zoo_file.budget)
    return Dispatch(files, OpenAICompatible())


@contextmanager
def router(
    zoo: Path | None,
    state: Path | None,
    *,
    log: bool = True,
    backend: Backend | None = None,
    through: Callable[[Backend], Backend] | None = None,
    **settings: Any,
) -> Iterator[Router]:
    """Open everything that answering takes; `settings` that are not None go before the zoo file's.

    With `log` off, the state is copied into memory and what happens to the copy is forgotten. What `through` makes of
    the backend stands between it and the router.
    """
    from messctl.backends import encoder_of
    from messctl.costs.meter_choice import meter_for
    from messctl.graders import expect_regex
    from messctl.live.router import Router
    from messctl.zoo import load_zoo

    described = load_zoo(zoo)
    given = {name: value for name, value in settings.items() if value is not None}
    meter = meter_for(described)
    with _to_write(state, log=log) as store:
        answering = backend or every_backend(described)
        answering = through(answering) if through else answering
        try:
            yield Router(
                {model.name: model for model in described.models},
                replace(described.settings, **given),
                answering,
                meter,
                store,
                expect_regex(described.grader) if described.grader else None,
                encoder_of(described.settings),
                _loads(described, meter),
            )
        finally:
            answering.close()


def _loads(zoo_file: ZooFile, meter: Meter) -> Loads:
    """Return what knows what loads cost: `load_watts` are for where loads are neither measured nor stated."""
    from messctl.costs.load_costs import Loads

    estimated = not meter.includes_loads and all(model.cost is None for model in zoo_file.models)
    return Loads(zoo_file.load_watts if estimated else None)


@contextmanager
def _to_write(state: Path | None, *, log: bool) -> Iterator[Store]:
    """Open the state, or a copy of it in memory; where there is none to be copied, none is made."""
    from messctl.state.store import Store, default_path

    with Store(state or default_path(), looking=not log) as kept:
        if log:
            yield kept
        else:
            with kept.in_memory() as copy:
                yield copy


def chat_history(state: Path) -> Path:
    """Return where what is typed in a chat is kept, beside the state."""
    return state.with_name(f"{state.name}-chat")


def whole(argument: str) -> str:
    """Return an argument with U+FFFD for what is not UTF-8; Python hands it over with surrogates in it."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def put_question(question: str) -> str:
    """Ask the person at the terminal; return the reply in small letters, nothing where the input ends."""
    sys.stderr.write(plain(question))
    sys.stderr.flush()
    reply = sys.stdin.readline()
    if not reply.endswith("\n"):
        sys.stderr.write("\n")  # the cursor still stands behind the question
    return reply.strip().lower()


def complain(message: str) -> None:
    """Print an error on stderr, in one line."""
    print(f"messctl: {plain(' '.join(message.split()))}", file=sys.stderr)


def warn(message: str) -> None:
    """Print a warning on stderr."""
    typer.echo(f"messctl: warning: {plain(message)}", err=True)
