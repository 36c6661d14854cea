"""`messctl zoo init`: find the models that are on this machine already, and write a zoo.yaml for them."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from messctl.cli.arguments import OUTPUT, REQUESTS, JsonOption, option
from messctl.cli.output import confirmed, console, print_json, print_line, write_lines
from messctl.cli.progress import spinner
from messctl.display.text import counted, plain
from messctl.errors import ConfigError, OutputError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from messctl.zoo.finding.draft import Entry
    from messctl.zoo.finding.search import FoundFile, Search

EPILOG = "Example: messctl zoo init --folder models"
NO_TERMINAL = "{output} is not written: init asks first, but standard input is not a terminal; give --yes"
LEAST_FIRST = ("quantisation", "from", "parameters", "file or server", "size")
"""The columns that a narrow terminal leaves out, the first of them first."""

FolderOption = Annotated[
    list[Path] | None,
    option("--folder", "Search this folder, too. Repeatable.", REQUESTS, metavar="DIR"),
]
UrlOption = Annotated[
    list[str] | None,
    option("--url", "Ask this server for its models. Repeatable.", REQUESTS, metavar="URL"),
]
KeyEnvOption = Annotated[
    str | None,
    option("--key-env", "The environment variable that holds the servers' key.", REQUESTS, metavar="NAME"),
]
AllowHttpOption = Annotated[bool, option("--allow-http", "Send the key over plain http to other machines.", REQUESTS)]
ModelsOption = Annotated[
    list[str] | None,
    option("--model", "Take only this model; * stands for any text. Repeatable.", REQUESTS, metavar="NAME"),
]
OutputOption = Annotated[Path, option("--output -o", "The file to write. It must not exist.", OUTPUT, metavar="FILE")]
YesOption = Annotated[bool, option("--yes -y", "Do not ask before writing.", OUTPUT)]
DryRunOption = Annotated[bool, option("--dry-run", "Print the file, and write nothing.", OUTPUT)]


def init(
    folder: FolderOption = None,
    url: UrlOption = None,
    key_env: KeyEnvOption = None,
    allow_http: AllowHttpOption = False,
    model: ModelsOption = None,
    output: OutputOption = Path("zoo.yaml"),
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find the models on this machine and at servers, and write a zoo.yaml for them."""
    from datetime import date

    from messctl.backends.machine import free_memory
    from messctl.zoo.finding.draft import draft

    if not dry_run:
        _check_new(output)
    searched = _search(folder or [])
    free = free_memory()
    entries = [*_files(searched.files, free), *_servers(url or [], key_env, searched.files, allow_http=allow_http)]
    if not entries:
        raise _nothing_found(searched, output, as_json=as_json)
    entries = _chosen(entries, model or [])
    origin = f"{platform.node() or 'unknown machine'}, {date.today().isoformat()}"
    text = draft(entries, output, _home(), origin, free)
    writes = not dry_run and (yes or not as_json)
    if not as_json:
        _print(searched, entries)
        if dry_run:
            write_lines(f"\n{text}")
        elif not yes and not confirmed(f"Write {output}?", NO_TERMINAL.format(output=output)):
            print_line(f"{output}: not written")
            return
    if writes:
        _write(output, text)
    if as_json:
        print_json(_document(searched, entries, output, text if dry_run or not writes else None, written=writes))
    elif writes:
        zoo = "" if output == Path("zoo.yaml") else f" --zoo {output}"
        print_line(f"{output}: written, with {counted(len(entries), 'model')}")
        print_line(f"next: messctl zoo check{zoo}")
        print_line(f'then: messctl ask{zoo} "What is the capital of France?"')


def _check_new(output: Path) -> None:
    """Raise OutputError if the file exists, or cannot be written."""
    from messctl.outputs import check_writable

    if os.path.lexists(output):
        raise OutputError(f"{output}: exists already, and is not overwritten; give another file with --output")
    check_writable(output)


def _write(output: Path, text: str) -> None:
    from messctl.zoo.edit import write

    _check_new(output)  # again: it may have been written while the user was asked
    write(output, text)


def _search(folders: Sequence[Path]) -> Search:
    from messctl.zoo.finding.places import places
    from messctl.zoo.finding.search import search

    for folder in folders:
        if not folder.is_dir():
            what = "is a file; give the folder that it is in" if folder.exists() else "there is no such folder"
            raise UsageError(f"--folder {folder}: {what}")
    absolute = [folder.resolve() if ".." in folder.parts else folder.absolute() for folder in folders]
    where = places(os.environ, _home(), sys.platform, here=Path.cwd(), folders=absolute)
    with spinner("searching") as tell:
        return search(where, lambda path: tell(f"reading {path.name}"))


def _home() -> Path:
    """Return the home folder; the current folder for a user without one."""
    try:
        return Path.home()
    except RuntimeError:
        return Path.cwd()


def _files(found: Sequence[FoundFile], free: int | None) -> list[Entry]:
    from messctl.zoo.finding.draft import Entry, context_for

    return [
        Entry(
            name=each.name,
            cost=_joules(each.header.active_parameters),
            comment=_about(each),
            path=each.path,
            header=each.header,
            n_ctx=context_for(each.header, free),
        )
        for each in found
    ]


def _about(found: FoundFile) -> str:
    """Return what is known about a file, on one line."""
    from messctl.zoo.finding.places import FOLDER, HERE
    from messctl.zoo.memory import format_bytes

    header = found.header
    parts = [] if found.program in (HERE, FOLDER) else [f"{found.program}: {found.title}"]
    parts += [f"{_count(header.parameters)} parameters", header.quantisation, format_bytes(header.file_bytes)]
    if not header.chat_template:
        parts.append("no chat template: set chat_template if it is a chat model")
    return plain(", ".join(parts))


def _servers(urls: Sequence[str], key_env: str | None, files: Sequence[FoundFile], *, allow_http: bool) -> list[Entry]:
    """Return the models of the servers. Each name is new, also among the files' names."""
    from messctl.backends import OpenAICompatible
    from messctl.zoo.finding.draft import Entry
    from messctl.zoo.finding.names import readable, unique
    from messctl.zoo.finding.servers import models_at

    if key_env and not urls:
        raise UsageError("--key-env is for servers; add --url")
    with OpenAICompatible() as servers:
        listed = [
            each
            for url in dict.fromkeys(urls)
            for each in models_at(url, key_env, servers.list_entries, allow_http=allow_http)
        ]
    found = list(dict.fromkeys(listed))
    largest = max((*(each.parameters or 0.0 for each in found), *(file.header.active_parameters for file in files)),
                  default=0.0)  # fmt: skip
    taken = [(file.name, file.header.quantisation, file.program) for file in files]
    names = unique([*taken, *((readable(each.model), "", each.host) for each in found)])[len(taken) :]
    return [
        Entry(
            name=name,
            cost=_joules(each.parameters or largest or 7e9),
            comment=plain(f"at {each.host}: {each.model}"),
            url=each.url,
            model=each.model,
            key_env=key_env,
            allow_http=allow_http,
            why=each.why,
        )
        for name, each in zip(names, found, strict=True)
    ]


def _joules(active_parameters: float) -> float:
    """Return the estimate of the energy per token, in joules, as messctl makes it without stated costs."""
    from messctl.costs.tokens import FLOPS_PER_PARAMETER
    from messctl.zoo.file import FLOP_PER_J

    return FLOPS_PER_PARAMETER * active_parameters / FLOP_PER_J


def _chosen(entries: Sequence[Entry], patterns: Sequence[str]) -> list[Entry]:
    """Return the entries whose names match a pattern; all of them without a pattern."""
    names = [entry.name for entry in entries]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UnknownNameError("model", pattern, names)
    return [entry for entry in entries if not patterns or any(fnmatchcase(entry.name, each) for each in patterns)]


def _nothing_found(searched: Search, output: Path, *, as_json: bool) -> ConfigError:
    """Print where messctl looked, and return the error."""
    if as_json:
        print_json(_document(searched, [], output, None, written=False))
    else:
        print_line("searched:")
        for listing in searched.listings:
            print_line(f"  {listing.place.program}: {listing.place.folder} – {listing.state or 'no model'}")
        _print_left_out(searched)
    where = ", ".join(dict.fromkeys(listing.place.program for listing in searched.listings))
    return ConfigError(
        f"no model was found in {counted(len(searched.listings), 'place')} ({where}); "
        "download a GGUF file and name its folder with --folder, or name a server with --url"
    )


def _print(searched: Search, entries: Sequence[Entry]) -> None:
    from rich.table import Table

    from messctl.display.tables import fitting
    from messctl.zoo.finding.places import OLLAMA
    from messctl.zoo.memory import format_bytes

    files = {file.path: file for file in searched.files}
    table = Table("model", "from", "file or server", "quantisation")
    for title in ("size", "parameters", "context", "J per token, estimated"):
        table.add_column(title, justify="right")
    for entry in sorted(entries, key=lambda entry: (entry.cost, entry.name)):
        header, file = entry.header, files.get(entry.path) if entry.path else None
        cells = (
            entry.name,
            file.program if file else "--url",
            (file.title if file.program == OLLAMA else file.path.name) if file else str(entry.url),
            header.quantisation if header else "–",
            format_bytes(header.file_bytes) if header else "–",
            _count(header.parameters) if header else "–",
            f"{entry.n_ctx:,} of {header.context_length:,}" if header and entry.n_ctx else "–",
            f"{entry.cost:.3g}",
        )
        table.add_row(*(plain(cell) for cell in cells))
    screen = console()
    screen.print(fitting(table, screen.width, folding=("file or server",), least_first=LEAST_FIRST))
    for file in searched.files:
        for twin in file.twins:
            print_line(f"= {file.name} is also {twin}")
    _print_left_out(searched)
    for listing in searched.listings:
        if listing.state and listing.state != "does not exist":
            print_line(f"! {listing.place.program}: {listing.place.folder}: {listing.state}")


def _print_left_out(searched: Search) -> None:
    for each in searched.left_out:
        print_line(f"! left out: {each.what}: {each.why}")


def _document(
    searched: Search, entries: Sequence[Entry], output: Path, text: str | None, *, written: bool
) -> dict[str, Any]:
    files = {file.path: file for file in searched.files}
    return {
        "zoo": str(output),
        "written": written,
        "text": text,
        "models": [_model_document(entry, files.get(entry.path) if entry.path else None) for entry in entries],
        "left_out": [{"what": each.what, "why": each.why} for each in searched.left_out],
        "searched": [
            {
                "program": listing.place.program,
                "folder": str(listing.place.folder),
                "found": len(listing.candidates),
                "state": listing.state or "searched",
            }
            for listing in searched.listings
        ],
    }


def _model_document(entry: Entry, file: FoundFile | None) -> dict[str, Any]:
    header = entry.header
    return {
        "name": entry.name,
        "from": "--url" if file is None else file.program,
        "path": None if entry.path is None else str(entry.path),
        "url": entry.url,
        "model": entry.model,
        "quantisation": header and header.quantisation,
        "bytes": header and header.file_bytes,
        "parameters": header and header.parameters,
        "own_context": header and header.context_length,
        "context": entry.n_ctx,
        "cost_per_token": entry.cost,
        "also": [] if file is None else list(file.twins),
    }


def _count(parameters: float) -> str:
    """Return a number of parameters with three digits, as 135M or 7.62B."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if parameters >= size:
            return f"{parameters / size:.3g}{unit}"
    return f"{parameters:.0f}"
