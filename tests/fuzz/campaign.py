"""A campaign of odd inputs against messctl: `python tests/fuzz/campaign.py --seconds 600`.

Two children at a time take a batch of inputs each. An input is made from a number. So every finding can be repeated, as
in `python tests/fuzz/campaign.py --only trace --numbers 4711`. It is a finding if a child ends in an error that nobody
expected, dies by a signal, takes more than 10 s for one input, or grows by more than 1 GB.
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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LONGEST_S = 10
"""The longest time that an input may take, in seconds of the clock."""
MOST_MIB = 1024
WORKERS = 2
NAMES = ("zoo", "gguf", "trace", "log", "source", "prompts", "reply", "regex", "template", "state")
WEIGHTS = dict(zip(NAMES, (3, 3, 6, 1, 5, 4, 6, 4, 3, 2), strict=True))
"""How often each subject gets its turn."""
MEMORY = Path("/dev/shm")
"""A folder in memory, where Linux has one: thousands of files are written and removed."""


@dataclass
class Report:
    """What a campaign found: the number of inputs by subject, and the findings, each with how to repeat it."""

    inputs: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    grown_mib: int = 0
    processor_s: float = 0.0
    _begun: str = ""

    def read(self, line: str) -> None:
        """Add a line that a child or its parent printed: one before and one after each input, one after each child."""
        word, _, rest = line.rstrip("\n").partition(" ")
        if word == "begin":
            self._begun = rest
            self.inputs[rest.split()[0]] += 1
        elif word == "wrong":
            self.findings.append(f"{self._begun}: {rest}")
        elif word == "end":
            self._end(*rest.split())
        elif word == "ended":
            self._ended(*rest.split(" ", 1))
        elif word == "spent":
            self.processor_s = float(rest)

    def _end(self, seconds: str, grown: str) -> None:
        self.slowest = max(self.slowest, (float(seconds), self._begun))
        self.grown_mib = max(self.grown_mib, int(grown))
        if float(seconds) > LONGEST_S:
            self.findings.append(f"{self._begun}: takes {seconds} s")
        if int(grown) > MOST_MIB:
            self.findings.append(f"{self._begun}: grows by {grown} MiB")
        self._begun = ""

    def _ended(self, code: str, said: str) -> None:
        if self._begun:
            signal = f"dies by signal {code[1:]}" if code.startswith("-") else ""
            how = signal or f"takes more than {LONGEST_S} s, or ends with code {code}"
            self.findings.append(f"{self._begun}: {how}: {said}")
        elif code != "0":
            self.findings.append(f"a child ends with code {code}: {said}")
        self._begun = ""

    def lines(self) -> Iterator[str]:
        """Yield the report as text."""
        yield from self.findings
        yield "  ".join(f"{name} {count:,}" for name, count in sorted(self.inputs.items()))
        total = sum(self.inputs.values())
        yield (
            f"{total:,} inputs, {len(self.findings)} findings; "
            f"slowest {self.slowest[0]:.1f} s ({self.slowest[1]}), most memory {self.grown_mib:,} MiB beyond the start"
        )
        if self.processor_s:
            yield f"{self.processor_s:.0f} s of processor time, {total / self.processor_s:.0f} inputs a second of it"


def campaign(seconds: float, seed: int, subjects: Sequence[str], numbers: Iterable[int] = ()) -> Report:
    """Take inputs for a time, or exactly the inputs with these numbers."""
    report, until = Report(), time.monotonic() + seconds
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 * MOST_MIB * 2**20
    with tempfile.TemporaryDirectory(prefix="messctl-fuzz-", dir=MEMORY if roomy else None) as folder:
        environment = environment_in(Path(folder))
        corpus = [sys.executable, HERE / "corpus.py", Path(folder, "corpus")]
        subprocess.run(corpus, stdout=subprocess.DEVNULL, check=True, env=environment)
        left_s, given = until - time.monotonic(), " ".join(map(str, numbers))
        nursery = [sys.executable, HERE / "nursery.py", folder, str(left_s), str(seed), " ".join(subjects), given]
        with subprocess.Popen(
            nursery, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace", env=environment
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                report.read(line)
        if process.returncode:
            report.findings.append(f"the parent of all children ends with code {process.returncode}")
    return report


def environment_in(folder: Path) -> dict[str, str]:
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
