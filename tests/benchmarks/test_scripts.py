"""Scripts of benchmarks/ run from beginning to end, on little."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from making import write_trace

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

from messctl.zoo.models import BOX

pytestmark = pytest.mark.slow


def printed(root: Path, script: str, *arguments: str | Path) -> str:
    """Run a script and return what it prints."""
    command = [sys.executable, root / "benchmarks" / script, *arguments]
    ran = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=500)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="file locks are those of Unix")
@pytest.mark.parametrize("mode", [(), ("--asks",)])
def test_ways_to_share_a_processor_are_measured(root: Path, mode: tuple[str, ...]) -> None:
    table = printed(root, "processes.py", BOX / "mini-1m.gguf", "--rounds", "1", "--tokens", "2", *mode)
    assert "messctl's" in table
    assert "nan" not in table


def test_encoders_are_compared(root: Path, tmp_path: Path) -> None:
    coin = np.random.default_rng(0)
    rows = [
        {model: (float(coin.random() < level), cost) for model, level, cost in (("a", 0.6, 1.0), ("b", 0.9, 9.0))}
        for _ in range(80)
    ]
    trace = write_trace(tmp_path / "mine.parquet", rows)
    table = printed(root, "encoders.py", trace, "--gguf", BOX / "pico-34k.gguf", "--seeds", "2")
    lines = [line for line in table.splitlines() if "mine" in line]
    assert [("bandit" in line, "pico-34k" in line) for line in lines] == [
        (True, False),
        (False, False),
        (True, True),
        (False, True),
    ]
