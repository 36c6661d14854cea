"""The script that measures the bandit's promise, and the worlds that it draws."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from making import write_trace
from promise import NEVER, SETTLED, VARIANTS, lowest, ratio, share_of
from worlds import drawn

from messctl.policies.bandit.tuning import Tuning


@pytest.mark.parametrize("seed", range(4))
def test_a_drawn_world_is_as_it_is_said_to_be(seed: int) -> None:
    world = drawn(seed, 200, 300)
    n, models = world.rounds.cost.shape
    assert 200 <= n <= 300
    assert 2 <= models <= 12
    assert set(np.unique(world.rounds.satisfied)) <= {0.0, 1.0}
    assert world.rounds.cost.min() > 0.0
    assert np.array_equal(world.rounds.satisfied, drawn(seed, 200, 300).rounds.satisfied)


def test_about_one_world_in_seven_drifts() -> None:
    assert 5 <= sum(drawn(seed, 100, 120).drifts for seed in range(100)) <= 30


@pytest.mark.parametrize(
    ("satisfied", "points"),
    [
        ([1.0] * SETTLED + [0.0] * SETTLED, -40.0),  # the end is the lowest
        ([0.0] * 500 + [1.0] * 500 + [1.0] * SETTLED, -40.0),  # the first level that counts is the lowest
        ([1.0] * (SETTLED - 1), math.nan),  # too short to tell
    ],
)
def test_the_lowest_level_counts_from_when_it_has_settled(satisfied: list[float], points: float) -> None:
    assert lowest(np.array(satisfied), 0.9) == pytest.approx(points, nan_ok=True)


def test_ratios_are_averaged_geometrically() -> None:
    assert ratio([2.0, 1.0, 5.0], [1.0, 2.0, math.nan]) == pytest.approx(1.0)
    assert share_of([0.0, 1.0, math.nan, -1.0, 2.0], 0.0) == "0.750"
    assert share_of([math.nan], 0.0) == "–"


def test_every_ablation_changes_constants_that_exist() -> None:
    for name, changes in VARIANTS.items():
        assert (Tuning()._replace(**changes) == Tuning()) == (name == "as it is")
    assert max(Tuning()) < NEVER


@pytest.mark.slow
@pytest.mark.parametrize("table", ["traces", "worlds", "ablation", "speed"])
def test_every_table_is_printed(root: Path, tmp_path: Path, table: str) -> None:
    """Beside itself as the earlier version, the bandit costs exactly as much."""
    coin = np.random.default_rng(0)
    rows = [{"a": (float(coin.random() < 0.6), 1.0), "b": (float(coin.random() < 0.9), 9.0)} for _ in range(80)]
    trace = write_trace(tmp_path / "mine.parquet", rows)
    few = ["--orders", "2", "--count", "1"]
    command = [sys.executable, root / "benchmarks" / "promise.py", table, trace, *few, "--earlier", root]
    ran = subprocess.run(list(map(str, command)), cwd=root, capture_output=True, text=True, check=False, timeout=500)
    assert ran.returncode == 0, ran.stderr
    lines = [line for line in ran.stdout.splitlines() if line.startswith("| ")]
    assert len(lines) == {"traces": 4, "worlds": 7, "ablation": 1 + len(VARIANTS), "speed": 2}[table]
    if table in ("traces", "worlds"):
        assert all(line.split(" | ")[-2] == "1.000" for line in lines[1:])
