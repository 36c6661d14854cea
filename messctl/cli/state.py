"""`messctl state`: back up the state, copy it to another database, upgrade it, and delete old requests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from messctl.cli.arguments import OUTPUT, REQUESTS, JsonOption, StateOption, ZooOption, option
from messctl.cli.command import ASK, Command, Group
from messctl.cli.opening import state_files, state_path, warn_of_foreign_zoo, warn_of_shared_state
from messctl.cli.output import print_json, print_line
from messctl.display.text import counted, moment
from messctl.errors import OutputError, StoppedError, StoreError, UsageError
from messctl.state.place import refuse_foreign_link

if TYPE_CHECKING:
    from messctl.state.place import Place


COPY_EPILOG = "Example: messctl state copy state.sqlite postgresql://messctl@db.example.org/messctl"


def register(app: typer.Typer) -> None:
    """Mount the group of commands."""
    group = typer.Typer(cls=Group, no_args_is_help=True, help="Back up the state, copy it, and delete old requests.")
    group.command("backup", cls=Command, epilog="Example: messctl state backup monday.sqlite")(backup)
    group.command("copy", cls=Command, epilog=COPY_EPILOG)(copy)
    group.command("upgrade", cls=Command, epilog="Example: messctl state upgrade")(upgrade)
    group.command("prune", cls=Command, epilog="Example: messctl state prune --keep 90d")(prune)
    app.add_typer(group, name="state", rich_help_panel=ASK)


def backup(
    output: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
    overwrite: Annotated[bool, option("--overwrite", "Replace a file that is there.", OUTPUT)] = False,
    as_json: JsonOption = False,
    zoo: ZooOption = None,
    state: StateOption = None,
) -> None:
    """Copy the state to a file, also while others write to it. The copy is of one moment, and is checked."""
    from messctl.outputs import check_distinct, check_writable
    from messctl.state.backup import back_up

    path = _existing(state, zoo)
    if not isinstance(path, Path):
        raise UsageError(f"{path}: is on a server; copy it with `messctl state copy`, or make a backup with pg_dump")
    _check_made(path)
    check_writable(output)
    check_distinct([output], state_files(path))
    if output.exists() and not overwrite:
        raise OutputError(f"{output}: exists already; add --overwrite to replace it")
    requests = back_up(path, output)
    size = output.stat().st_size
    if as_json:
        print_json({"state": str(path), "output": str(output), "requests": requests, "bytes": size})
    else:
        print_line(f"{output}: {counted(requests, 'request')}, {size / 1e6:,.1f} MB; the copy is sound")


def copy(
    source: Annotated[str, typer.Argument(metavar="FILE|URL", help="The state to copy.")],
    target: Annotated[str, typer.Argument(metavar="FILE|URL", help="Where the copy goes; nothing may be there yet.")],
    as_json: JsonOption = False,
) -> None:
    """Copy a state to another file or database. If it was interrupted, the same command finishes it."""
    from contextlib import closing

    from messctl.cli.progress import spinner
    from messctl.state.copying import check_free, end
    from messctl.state.copying import copy as copy_state
    from messctl.state.databases import open_database
    from messctl.state.place import exists, place_of
    from messctl.state.store import Store

    there, here = _absolute(place_of(source)), _absolute(place_of(target))
    if not exists(there):
        raise StoreError(f"{there}: there is no state; correct its name: `messctl status` says where yours is")
    if there == here:
        raise UsageError(f"{here}: is the state itself; name another place for the copy")
    for each in (there, here):
        refuse_foreign_link(each)
    _check_made(there)
    with closing(open_database(here, looking=True)) as present:
        check_free(present)
    with Store(there, looking=True) as old, Store(here, begun=True) as new, spinner("copying") as tell:
        try:
            rows = copy_state(old.database, new.database, lambda done: tell(f"copied {done:,} rows"))
            tell("checking the copy")
            problems = new.check()
        except KeyboardInterrupt:
            raise StoppedError(
                f"interrupted; the copy at {here} is not complete; the same command finishes it"
            ) from None
        if problems:
            raise StoreError(f"{here}: the copy is not sound ({problems[0]}); check {there} with `messctl doctor`")
        end(new.database)
        requests = new.requests.count()
    if as_json:
        print_json({"source": str(there), "target": str(here), "requests": requests, "rows": rows})
    else:
        print_line(f"{here}: {counted(requests, 'request')}, {rows:,} rows; the copy is complete and sound")


def upgrade(as_json: JsonOption = False, zoo: ZooOption = None, state: StateOption = None) -> None:
    """Bring the tables of a state to the form of this messctl. Other commands that write do so by themselves."""
    from contextlib import closing

    from messctl.state.databases import open_database
    from messctl.state.store import Store

    path = _existing(state, zoo)
    with closing(open_database(path)) as opened:
        before = opened.version()
    with Store(path, begun=True) as store:
        after = store.database.version()
    if as_json:
        print_json({"state": str(path), "before": before, "after": after})
    else:
        done = f"version {before} became version {after}" if before != after else f"has the latest version, {after}"
        print_line(f"{path}: {done}")


def prune(
    keep: Annotated[
        str | None,
        option("--keep", "How long to keep requests: 90d, 12h. Default: the zoo's.", REQUESTS, metavar="TIME"),
    ] = None,
    dry_run: Annotated[bool, option("--dry-run", "Only count the requests that would go.", OUTPUT)] = False,
    as_json: JsonOption = False,
    zoo: ZooOption = None,
    state: StateOption = None,
) -> None:
    """Delete old requests, with their prompts and answers. Sums, debt and certificate stay, and what was learned."""
    import time

    from messctl.state.store import Store

    before = time.time() - _keep_s(keep, zoo)
    path = _existing(state, zoo)
    with Store(path, looking=dry_run) as store:
        warn_of_shared_state(path)
        pruned = 0
        if dry_run:
            pruned = store.pruning.count(before)
        else:
            while gone := store.prune(before):
                pruned += gone
            store.pack()
        left = store.pruning.left()
    if as_json:
        print_json({"state": str(path), "before": before, "pruned": pruned, "left": left, "dry_run": dry_run})
        return
    what = f"{counted(pruned, 'request')} from before {moment(before)}"
    if dry_run:
        print_line(f"{path}: {what} would go, of {left:,}")
    else:
        are = "is" if left == 1 else "are"
        print_line(f"{path}: pruned {what}; {left:,} {are} left, and the figures of `messctl status` stay")


def _keep_s(keep: str | None, zoo: Path | None) -> float:
    """Return for how many seconds requests are kept: as an option says, or else the zoo."""
    from messctl.zoo import load_state_place
    from messctl.zoo.duration import WANTED, seconds_of

    if keep is None:
        kept = load_state_place(zoo).keep
        if kept is None:
            message = "nothing says how long to keep requests"
            raise UsageError(f"{message}; give --keep 90d, or `state: {{keep: 90d}}` in zoo.yaml")
        return kept
    seconds = seconds_of(keep)
    if seconds is None:
        raise UsageError(f"--keep is {keep!r}; it must be {WANTED}")
    return seconds


def _check_made(place: Place) -> None:
    """Raise StoreError if nothing was ever stored at a place, such as an empty file, or a schema without tables."""
    from messctl.state.databases import is_made

    if not is_made(place):
        raise StoreError(f"{place}: there is no state, nothing was ever stored there; correct its name")


def _absolute(place: Place) -> Place:
    """Return a place that is the same in every folder."""
    return Path(os.path.realpath(place)) if isinstance(place, Path) else place  # a loop of links is no error here


def _existing(state: Place | None, zoo: Path | None) -> Place:
    """Return where a state is. Raises StoreError if there is none."""
    from messctl.state.place import exists

    if state is None:
        warn_of_foreign_zoo(zoo)
    path = state_path(state, zoo, required=True)
    if not exists(path):
        raise StoreError(f"{path}: there is no state; create it with `messctl ask`")
    refuse_foreign_link(path)
    return path
