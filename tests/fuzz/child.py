"""One child of a campaign: takes inputs one after the other, and writes to the file `report` how each went."""

from __future__ import annotations

import faulthandler
import random
import resource
import shutil
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import typer.main
from campaign import LONGEST_S, MOST_MIB
from subjects import ROOT, SUBJECTS, command, unreachable

from messctl import cli
from messctl.errors import MessctlError

OWN = ("report", "said")


def warm_up(corpus: Path) -> None:
    """Load, and compile, what every child would load and compile again: run commands that read sound files."""
    cli.traceback_of = _traceback_of
    cli.app = typer.main.get_command(cli.app)  # Typer builds all commands anew for each run, which takes 20 ms
    trace, log = corpus / "trace" / "t.parquet", corpus / "log" / "log.db"
    zoo, state = ("--zoo", ROOT / "zoo.yaml"), ("--state", shutil.copy(corpus / "state.db", "warm.db"))
    for policy in ("messplus", "static-mix"):
        command("replay", "--policy", policy, "--alpha", "0.3", trace)
    command("evaluate", "--policy", "static-mix", log)
    for words in (["validate"], ["info"], ["head"]):
        command("trace", *words, trace)
    for words in (["status"], ["log", "--json"], ["feedback", "good"], ["export", "-o", "warm.parquet"]):
        command(*words, *zoo, *state) if words[0] != "export" else command(*words, *state)
    command("zoo", "check", *zoo)
    with suppress(MessctlError):
        unreachable()


def take(inputs: Sequence[tuple[str, int]], corpus: Path, until: float) -> None:
    """Take the inputs until a time, each with limits on its time and memory."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_virtual_bytes() + 8 * MOST_MIB * 2**20, hard))
    start = _peak_mib()
    with Path("report").open("w", buffering=1) as report:
        for name, number in inputs:
            if time.monotonic() > until:
                break
            print("begin", name, number, file=report)
            _clean()
            faulthandler.dump_traceback_later(LONGEST_S, exit=True)
            begun = time.monotonic()
            try:
                SUBJECTS[name](random.Random(f"{name} {number}"), corpus)
            except Exception:  # noqa: BLE001  # every one is a finding
                print("wrong", one_line(traceback.format_exc()[-3000:]), file=report)
            faulthandler.cancel_dump_traceback_later()
            grown = _peak_mib() - start
            print("end", f"{time.monotonic() - begun:.2f}", grown, file=report)
            if grown > MOST_MIB:
                break  # the peak stays, so the next ones cannot be measured here


def one_line(text: str) -> str:
    """Return a text in one line."""
    return " | ".join(text.splitlines())


def _clean() -> None:
    """Remove what the input before has left, so that each one depends on its number alone."""
    for path in Path().iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name not in OWN:
            path.unlink()


def _traceback_of(error: BaseException) -> str:
    """Return the traceback of an error that nobody expected."""
    return "" if isinstance(error, MessctlError) else "".join(traceback.format_exception(error))


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _virtual_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
