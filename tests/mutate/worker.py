"""Tests one mutant after the other, in a copy of the checkout, which is the current folder.

A line of standard input is a mutant as JSON: its module, its code, the tests, and their time. The answer is a line.
The tests run in a child, forked from this process, which has loaded what takes long and is no part of messctl.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

LOADED = (
    "numba",
    "numpy",
    "scipy.sparse",
    "scipy.stats",
    "sklearn",
    "sklearn.feature_extraction.text",
    "pyarrow.parquet",
)
LOADED += ("pyarrow.compute", "rich.table", "typer", "yaml", "urllib3", "joblib", "matplotlib.pyplot")


TOO_LONG = (-signal.SIGXCPU, -signal.SIGKILL)
"""How a child ends whose time of the processor is over."""


def main(options: Sequence[str]) -> None:
    """Answer until standard input ends."""
    for name in LOADED:
        with suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        job = json.loads(line)
        path = Path(job["path"])
        original = path.read_text()
        path.write_text(job["code"])
        try:
            outcome = _outcome([*options, "-x", *job["tests"]], job["limit_s"])
        finally:
            path.write_text(original)
        print(outcome, flush=True)


def _outcome(arguments: Sequence[str], limit_s: int) -> str:
    """Return whether a mutant survives tests, is killed by one, or runs out of time.

    The time is that of the processor. What only waits takes none of it: it is ended by the clock, after 20 times the
    limit.
    """
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s))
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(quiet, stream)
        os._exit(pytest.main(list(arguments)))
    until = time.monotonic() + 20 * limit_s
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return "out of time" if code in TOO_LONG else "killed" if code else "survived"
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "waits for ever"


if __name__ == "__main__":
    main(sys.argv[1:])
