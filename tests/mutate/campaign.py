"""Mutants: the code of a room is changed in one place at a time, and its tests must notice.

    python tests/mutate/campaign.py graders state --sample 100

cosmic-ray makes the mutants, in a copy of the checkout, so that nothing here changes. Each is tested by the tests of
its room, without the slow ones and without compiling: compiled functions run as plain Python. `--sample` takes this
number of mutants of each room, chosen by `--seed`. Without it all are tested, which takes days for the larger rooms.
Survivors are printed as a difference. A mutant that does not end within the time is killed, and counts so.

Left out are mutants that cannot be noticed: `|` in annotations, which nobody evaluates, and decorators of dataclasses.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TESTS = {
    "learning": "tests/learning tests/replay/test_play.py",
    "policies": "tests/policies tests/live/test_router.py tests/replay/test_play.py",
    "state": "tests/state tests/live/test_router.py",
    "off_policy": "tests/off_policy",
    "graders": "tests/graders",
}
"""The tests of each room."""
UNNOTICED = ("core/ReplaceBinaryOperator_BitOr_", "core/RemoveDecorator")
"""Operators whose mutants nobody can notice, by how their names begin."""
SURVIVED, KILLED = "survived", "killed"
CONFIG = """
[cosmic-ray]
module-path = "messctl/{room}"
timeout = {limit_s}
excluded-modules = []
test-command = "{python} -m pytest -x -q -n0 -p no:cacheprovider {tests}"

[cosmic-ray.distributor]
name = "local"
"""


def main() -> int:
    """Test the mutants of the rooms given, print the survivors and the score; return 1 if a score is below 90 %."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rooms", nargs="*", choices=[*TESTS, []], help="the rooms; default: all")
    parser.add_argument("--sample", type=int, help="how many mutants of each room; default: all")
    parser.add_argument("--seed", type=int, default=0, help="the choice of the sample")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for the tests of one mutant")
    options = parser.parse_args()
    program = shutil.which("cosmic-ray")
    if program is None:
        sys.exit("cosmic-ray is not installed: pip install 'messctl[mutate]'")
    scores = []
    for room in options.rooms or TESTS:
        outcomes: Counter[str] = Counter()
        for outcome, where, difference in _mutants(
            program, room, sample=options.sample, seed=options.seed, limit_s=options.limit
        ):
            outcomes[outcome] += 1
            if outcome == SURVIVED:
                print(f"\n{where} survived\n{difference}", flush=True)
        tested = outcomes[KILLED] + outcomes[SURVIVED]
        scores.append(outcomes[KILLED] / tested if tested else 0.0)
        print(f"\n{room}: {outcomes[KILLED]} of {tested} mutants killed, {scores[-1]:.1%}", flush=True)
    return int(min(scores) < 0.9)


def _mutants(
    program: str, room: str, *, sample: int | None, seed: int, limit_s: float
) -> Iterator[tuple[str, str, str]]:
    """Yield of every mutant whether it survived, where it is, and its difference."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "messctl"
        files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
        for name in (os.fsdecode(file) for file in files if file):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
        config, session = Path(folder) / "config.toml", Path(folder) / "session.sqlite"
        config.write_text(CONFIG.format(room=room, limit_s=limit_s, python=sys.executable, tests=TESTS[room]))
        environment = os.environ | {"PYTHONPATH": str(copy), "NUMBA_DISABLE_JIT": "1", "PYTHONDONTWRITEBYTECODE": "1"}

        def run(*arguments: str) -> str:
            command = [program, *arguments]
            return subprocess.run(
                command, cwd=copy, env=environment, check=True, stdout=subprocess.PIPE, text=True
            ).stdout

        run("init", str(config), str(session))
        _keep(session, sample, seed)
        run("--verbosity", "ERROR", "baseline", str(config))  # the tests must pass without a mutant
        run("exec", str(config), str(session))
        for line in run("dump", str(session)).splitlines():
            item, result = json.loads(line)
            yield _outcome(item, result)


def _keep(session: Path, sample: int | None, seed: int) -> None:
    """Keep a sample of the mutants that can be noticed, and delete the others."""
    with closing(sqlite3.connect(session)) as database, database:
        rows = database.execute("SELECT job_id, operator_name FROM mutation_specs").fetchall()
        noticed = sorted(job for job, operator in rows if not operator.startswith(UNNOTICED))
        order = sorted(noticed, key=lambda job: _place(database, job))
        kept = set(order if sample is None else random.Random(seed).sample(order, min(sample, len(order))))
        for job in {job for job, _ in rows} - kept:
            database.execute("DELETE FROM mutation_specs WHERE job_id = ?", (job,))
            database.execute("DELETE FROM work_items WHERE job_id = ?", (job,))
        print(f"{len(kept)} of {len(noticed)} mutants", flush=True)


def _place(database: sqlite3.Connection, job: str) -> tuple[Any, ...]:
    """Return what a mutant is, which does not depend on its random id."""
    query = "SELECT module_path, operator_name, occurrence, operator_args FROM mutation_specs WHERE job_id = ?"
    return tuple(str(value) for value in database.execute(query, (job,)).fetchone())


def _outcome(item: dict[str, Any], result: dict[str, Any] | None) -> tuple[str, str, str]:
    (mutation,) = item["mutations"]
    where = f"{mutation['module_path']}, line {mutation['start_pos'][0]}, {mutation['operator_name']}"
    if result is None:
        return "not tested", where, ""
    return str(result["test_outcome"] or result["worker_outcome"]).lower(), where, result.get("diff") or ""


if __name__ == "__main__":
    sys.exit(main())
