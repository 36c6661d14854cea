"""Mutants: the code of a room is changed in one place at a time, and its tests must notice.

    python tests/mutate/campaign.py graders state --sample 100

cosmic-ray makes the mutants. They are tested in copies of the checkout, two at a time, so nothing here changes. Each is
tested by those tests of its room that run its lines, the fastest first, without the slow ones and without compiling:
compiled functions run as plain Python. Tests that take longer than `--test` like that are left out. `--sample` takes
this number of mutants of each room, chosen by `--seed`. Survivors are printed as a difference. A mutant whose tests do
not end within a time of the processor counts as killed, and these are counted: a busy machine makes no more of them.
`--skip` leaves out files of tests that take too long to be of use.

Left out are mutants that cannot be noticed: `|` in annotations, which nobody evaluates, and decorators of dataclasses.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

ROOT = Path(__file__).parents[2]
TESTS = {
    "learning": "tests/learning tests/replay/test_play.py tests/policies/test_messplus.py "
    "tests/off_policy/test_off_policy.py",
    "policies": "tests/policies tests/replay/test_play.py",
    "state": "tests/state tests/cli/test_damaged_state.py tests/server/test_history.py",
    "off_policy": "tests/off_policy tests/cli/test_evaluate.py",
    "graders": "tests/graders",
}
"""The tests of each room."""
UNNOTICED = ("core/ReplaceBinaryOperator_BitOr_", "core/RemoveDecorator")
"""Operators whose mutants nobody can notice, by how their names begin."""
SURVIVED, KILLED = "survived", "killed"
TIMED = ("out of time", "waits for ever")
"""How a mutant ends that counts as killed without a test that fails."""
ENVIRONMENT = {"NUMBA_DISABLE_JIT": "1", "PYTHONDONTWRITEBYTECODE": "1"}
PYTEST = ("-q", "-n0", "--dist=no", "-p", "no:cacheprovider", "-m", "not slow")  # with --dist, no test is a context


@dataclass(frozen=True)
class Mutant:
    """A change to one place of a module: how it came about, the lines, and the code with it."""

    path: str
    operator: str
    lines: range
    code: str

    def __str__(self) -> str:
        return f"{self.path}, line {self.lines[0]}, {self.operator}"

    def difference(self) -> str:
        """Return what it changes."""
        original = (ROOT / self.path).read_text().splitlines()
        changed = difflib.unified_diff(original, self.code.splitlines(), lineterm="", n=1)
        return "\n".join(list(changed)[2:])


@dataclass(frozen=True)
class Coverage:
    """The tests of a room by file and line, "" for what runs while a module is loaded, and how long each takes."""

    tests: Mapping[str, Mapping[int, Sequence[str]]]
    seconds: Mapping[str, float]

    def of(self, mutant: Mutant, limit_s: float) -> list[str]:
        """Return the tests that run a mutant's lines, the fastest first, with `limit_s` for all together."""
        by_line = self.tests.get(mutant.path, {})
        found = {test for line in mutant.lines for test in by_line.get(line, ())}
        tests = list(self.seconds) if "" in found or not found else [test for test in found if test in self.seconds]
        chosen, left_s = [], limit_s
        for test in sorted(tests, key=lambda each: (self.seconds[each], each)):
            left_s -= self.seconds[test]
            if left_s < 0:
                break
            chosen.append(test)
        return chosen


def main() -> int:
    """Test the mutants of the rooms given, print the survivors and the score; return 1 if a score is below 90 %."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rooms", nargs="*", choices=[*TESTS, []], help="the rooms; default: all")
    parser.add_argument("--sample", type=int, help="how many mutants of each room; default: all")
    parser.add_argument("--seed", type=int, default=0, help="the choice of the sample")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds that the tests of one mutant take together")
    parser.add_argument("--workers", type=int, default=2, help="how many mutants are tested at a time")
    parser.add_argument("--skip", action="append", default=[], metavar="PATH", help="a file of tests to leave out")
    parser.add_argument("--test", type=float, default=10.0, help="seconds that one test takes, while lines are counted")
    options = parser.parse_args()
    scores = []
    for room in options.rooms or TESTS:
        outcomes: Counter[str] = Counter()
        with tempfile.TemporaryDirectory() as folder:
            mutants = _sampled(room, options.sample, options.seed)
            copies = [_copied(Path(folder) / str(number)) for number in range(options.workers)]
            coverage = _coverage(copies[0], room, options.test, options.skip)
            unchanged = [
                replace(mutant, code=(ROOT / mutant.path).read_text()) for mutant in mutants[: options.workers]
            ]
            for mutant, outcome in _tested(copies, unchanged, coverage, options.limit):
                if outcome != SURVIVED:
                    sys.exit(f"{room}: the tests of {mutant} fail without it")
            for mutant, outcome in _tested(copies, mutants, coverage, options.limit):
                outcomes[outcome] += 1
                print(f"{outcomes.total()}: {mutant}: {outcome}", file=sys.stderr, flush=True)
                if outcome == SURVIVED:
                    print(f"\n{mutant} survived\n{mutant.difference()}", flush=True)
        timed = {how: outcomes[how] for how in TIMED}
        killed = outcomes[KILLED] + sum(timed.values())
        scores.append(killed / max(1, outcomes.total()))
        of_these = ", ".join(f"{number} {how}" for how, number in timed.items())
        print(f"\n{room}: {killed} of {outcomes.total()} mutants killed, {scores[-1]:.1%}; {of_these}", flush=True)
    return int(min(scores) < 0.9)


def _sampled(room: str, sample: int | None, seed: int) -> list[Mutant]:
    """Return a sample of the mutants that can be noticed."""
    try:
        from cosmic_ray.commands import init
        from cosmic_ray.mutating import mutate_code
        from cosmic_ray.plugins import get_operator
        from cosmic_ray.work_db import use_db
    except ModuleNotFoundError:
        sys.exit("cosmic-ray is not installed: pip install 'messctl[mutate]'")
    files = sorted((ROOT / "messctl" / room).rglob("*.py"))
    with tempfile.TemporaryDirectory() as folder, use_db(f"{folder}/session.sqlite") as session:
        init(files, session, {})
        specs = [item.mutations[0] for item in session.work_items]
    noticed = [spec for spec in specs if not spec.operator_name.startswith(UNNOTICED)]
    noticed.sort(key=lambda spec: (str(spec.module_path), spec.operator_name, str(spec.operator_args), spec.occurrence))
    kept = noticed if sample is None else random.Random(seed).sample(noticed, min(sample, len(noticed)))
    print(f"{room}: {len(kept)} of {len(noticed)} mutants", flush=True)
    mutants = []
    for spec in kept:
        operator = get_operator(spec.operator_name)(**spec.operator_args)
        code = mutate_code(spec.module_path.read_text(), operator, spec.occurrence)
        lines = range(spec.start_pos[0], spec.end_pos[0] + 1)
        mutants.append(Mutant(str(spec.module_path.relative_to(ROOT)), spec.operator_name, lines, code))
    return mutants


def _copied(copy: Path) -> Path:
    """Copy the checkout, without what git ignores."""
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    for name in (os.fsdecode(file) for file in files if file):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    return copy


def _coverage(copy: Path, room: str, test_s: float, skipped: Sequence[str]) -> Coverage:
    """Run the tests of a room, which must not fail without a mutant, and return which lines each one runs."""
    from coverage import CoverageData

    measured = ["-p", "passing", f"--cov=messctl/{room}", "--cov-context=test", "--cov-report="]
    passed = copy / "passed.json"
    environment = _environment(copy) | {"TESTS_PASSED": str(passed), "TEST_SECONDS": str(test_s)}
    environment["PYTHONPATH"] += os.pathsep + str(ROOT / "tests" / "mutate")
    tests = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            *PYTEST,
            *measured,
            *(f"--ignore={each}" for each in skipped),
            *TESTS[room].split(),
        ],
        cwd=copy,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if tests.returncode:
        sys.exit(f"{room}: the tests fail without a mutant\n{tests.stdout[-3000:]}")
    seconds = json.loads(passed.read_text(encoding="utf-8"))
    data = CoverageData(str(copy / ".coverage"))
    data.read()
    by_file = {}
    for file in data.measured_files():
        contexts = data.contexts_by_lineno(file)
        named = {line: [each.rpartition("|")[0] for each in tests] for line, tests in contexts.items()}
        by_file[str(Path(file).relative_to(copy))] = named
    print(f"{len(seconds)} tests, {sum(seconds.values()):.0f} s", flush=True)
    return Coverage(by_file, seconds)


def _tested(
    copies: Iterable[Path], mutants: Sequence[Mutant], coverage: Coverage, limit_s: float
) -> Iterator[tuple[Mutant, str]]:
    """Yield of every mutant whether it survived."""
    idle: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
    workers = []
    for copy in copies:
        command = [sys.executable, ROOT / "tests" / "mutate" / "worker.py", *PYTEST]
        worker = subprocess.Popen(
            command, cwd=copy, env=_environment(copy), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        workers.append(worker)
        idle.put(worker)

    def outcome(mutant: Mutant) -> str:
        tests = coverage.of(mutant, limit_s)
        if not tests:
            return SURVIVED
        worker = idle.get()
        took_s = sum(coverage.seconds[test] for test in tests)
        job: dict[str, Any] = {
            "path": mutant.path,
            "code": mutant.code,
            "tests": tests,
            "limit_s": 10 + int(2 * took_s),
        }
        assert worker.stdin is not None
        assert worker.stdout is not None
        print(json.dumps(job), file=worker.stdin, flush=True)
        said = worker.stdout.readline().strip()
        idle.put(worker)
        return said

    with ThreadPoolExecutor(len(workers)) as pool:
        yield from zip(mutants, pool.map(outcome, mutants), strict=True)
    for worker in workers:
        worker.communicate()


def _environment(copy: Path) -> dict[str, str]:
    return os.environ | ENVIRONMENT | {"PYTHONPATH": os.pathsep.join([str(copy), *sys.path[1:]])}


if __name__ == "__main__":
    sys.exit(main())
