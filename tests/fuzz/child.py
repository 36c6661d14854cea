"""One child of a campaign: takes the inputs in the file `inputs`, and writes to the file `report` how each went."""

from __future__ import annotations

import faulthandler
import gc
import random
import resource
import shutil
import sys
import time
import traceback
from pathlib import Path

from campaign import LONGEST_WAIT_S, MOST_MIB
from subjects import SUBJECTS, command

from messctl import cli
from messctl.errors import MessctlError

WARM_UP = ("replay --policy messplus", "replay --policy static-mix", "evaluate --policy static-mix")
"""What is imported and compiled once, and would count as slow."""
OWN = ("inputs", "report", "said")


def main(corpus: Path, seconds: float) -> None:
    """Take the inputs, each with limits on its time and memory."""
    inputs = Path("inputs").read_text().splitlines()
    cli.traceback_of = _traceback_of
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_virtual_bytes() + 8 * MOST_MIB * 2**20, hard))
    if any(line.startswith(("trace ", "log ")) for line in inputs):
        for words in WARM_UP:
            command(*words.split(), next((corpus / "log").glob("*.parquet")))
    start, until = _peak_mib(), time.monotonic() + seconds
    with Path("report").open("w", buffering=1) as report:
        for line in inputs:
            if time.monotonic() > until:
                break
            name, number = line.split()
            print("begin", line, file=report)
            _clean()
            faulthandler.dump_traceback_later(LONGEST_WAIT_S, exit=True)
            begun = time.process_time()
            try:
                SUBJECTS[name](random.Random(f"{name} {number}"), corpus)
            except Exception:  # noqa: BLE001  # every one is a finding
                print("wrong", traceback.format_exc()[-3000:].replace("\n", " | ").replace("\r", " "), file=report)
            faulthandler.cancel_dump_traceback_later()
            grown = _peak_mib() - start
            print("end", f"{time.process_time() - begun:.2f}", grown, file=report)
            if grown > MOST_MIB:
                break  # the peak stays, so the next ones cannot be measured here
    gc.collect()


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


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
