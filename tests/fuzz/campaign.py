"""A campaign of odd inputs against messctl: `python tests/fuzz/campaign.py --seconds 600`.

Two children at a time take a batch of inputs each. An input is made from a number. So every finding can be repeated, as
in `python tests/fuzz/campaign.py --only trace --numbers 4711`. It is a finding if a child ends in an error that nobody
expected, dies by a signal, takes more than 10 s of the processor or 30 s of the clock, or grows by more than 1 GB.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LONGEST_S, LONGEST_WAIT_S = 10, 30
"""The longest time of the processor, and of the clock, in seconds. Other programs may need the processor, too."""
MOST_MIB = 1024
BATCH = 1500
WORKERS = 2
NAMES = ("zoo", "gguf", "trace", "log", "source", "prompts", "reply", "regex", "template", "state")
WEIGHTS = dict(zip(NAMES, (3, 3, 6, 1, 5, 4, 6, 4, 3, 2), strict=True))
"""How often each subject gets its turn."""


@dataclass
class Report:
    """What a campaign found: the number of inputs by subject, and the findings, each with how to repeat it."""

    inputs: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    grown_mib: int = 0

    def lines(self) -> Iterator[str]:
        """Yield the report as text."""
        yield from self.findings
        yield "  ".join(f"{name} {count:,}" for name, count in sorted(self.inputs.items()))
        yield (
            f"{sum(self.inputs.values()):,} inputs, {len(self.findings)} findings; "
            f"slowest {self.slowest[0]:.1f} s ({self.slowest[1]}), most memory {self.grown_mib:,} MiB beyond the start"
        )


def campaign(seconds: float, seed: int, subjects: Sequence[str], numbers: Sequence[int] = ()) -> Report:
    """Run batches for a time, or exactly the inputs with these numbers."""
    report, until = Report(), time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="messctl-fuzz-") as folder:
        corpus = Path(folder, "corpus")
        subprocess.run([sys.executable, HERE / "corpus.py", corpus], check=True, env=_environment(Path(folder)))
        if numbers:
            report_of(Batch(Path(folder), 0, [(name, number) for name in subjects for number in numbers]), report)
            return report
        running: list[Batch] = []
        chance = random.Random(seed)
        weights = [WEIGHTS[name] for name in subjects]
        started = 0
        while running or time.monotonic() < until:
            while len(running) < WORKERS and time.monotonic() < until:
                names = chance.choices(subjects, weights, k=BATCH)
                first, started = started * BATCH + seed * 10**7, started + 1
                inputs = [(name, first + at) for at, name in enumerate(names)]
                running.append(Batch(Path(folder), started, inputs, until))
            done = [batch for batch in running if batch.process.poll() is not None]
            running = [batch for batch in running if batch not in done]
            for batch in done:
                report_of(batch, report)
            time.sleep(0.05)
    return report


class Batch:
    """A child that takes inputs one after the other, until they or the time are used up."""

    def __init__(self, folder: Path, number: int, inputs: Sequence[tuple[str, int]], until: float = 1e18) -> None:
        self.folder = folder / f"batch{number}"
        self.folder.mkdir()
        (self.folder / "inputs").write_text("\n".join(f"{name} {each}" for name, each in inputs))
        left_s = min(until - time.monotonic(), 1e6)
        child = [sys.executable, HERE / "child.py", folder / "corpus", str(left_s)]
        with (self.folder / "said").open("wb") as said:
            self.process = subprocess.Popen(
                child, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=_environment(folder)
            )


def report_of(batch: Batch, report: Report) -> None:
    """Wait for a child, and add what it says to the report: one line before and one after each input."""
    code = batch.process.wait()
    begun = ""
    said = (batch.folder / "said").read_text(errors="replace")[-2000:]
    written = batch.folder / "report"
    for line in written.read_text().split("\n") if written.exists() else ():
        word, _, rest = line.partition(" ")
        if word == "begin":
            begun = rest
            report.inputs[rest.split()[0]] += 1
        elif word == "wrong":
            report.findings.append(f"{begun}: {rest}")
        elif word == "end":
            seconds, grown = rest.split()
            report.slowest = max(report.slowest, (float(seconds), begun))
            report.grown_mib = max(report.grown_mib, int(grown))
            if float(seconds) > LONGEST_S:
                report.findings.append(f"{begun}: takes {seconds} s of the processor")
            if int(grown) > MOST_MIB:
                report.findings.append(f"{begun}: grows to {grown} MiB")
            begun = ""
    if begun:
        how = f"dies by signal {-code}" if code < 0 else f"takes more than {LONGEST_WAIT_S} s, or ends with code {code}"
        report.findings.append(f"{begun}: {how}: {said}")
    elif code:
        report.findings.append(f"a child ends with code {code}: {said}")
    shutil.rmtree(batch.folder)


def _environment(folder: Path) -> dict[str, str]:
    paths = [ROOT, ROOT / "tests" / "makers", HERE]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "MESSCTL_STATE": str(folder / "default.db"),
        "NO_COLOR": "1",
    }


def main() -> None:
    """Run a campaign, and exit with 1 if it finds anything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--only", nargs="+", choices=WEIGHTS, default=list(WEIGHTS))
    parser.add_argument("--numbers", nargs="+", type=int, default=())
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    report = campaign(chosen.seconds, chosen.seed, chosen.only, chosen.numbers)
    print("\n".join(report.lines()))
    sys.exit(bool(report.findings))


if __name__ == "__main__":
    main()
