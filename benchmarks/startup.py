"""How long a command takes from the shell, beside `python -c "import numpy, typer, rich"` in the same run.

    python benchmarks/startup.py [--runs 15] [--install]

Each command runs in a process of its own, in turn with the import, so that all see the same machine. Real models (the
zoo in the box) answer through real llama.cpp; the state is a real file. `--install` also installs messctl into a fresh
virtual environment, and measures the very first `ask` there.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

IMPORT = ["-c", "import numpy, typer, rich"]
COMMANDS = {
    "ask": (["ask", "What is 17 + 25?"], 3.5),
    "feedback": (["feedback", "last", "good"], 2.5),
    "status": (["status"], 2.5),
    "log": (["log"], 2.5),
}
"""What is measured, and how many times the import it may take."""


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """Run a command, which must succeed, and return how long it took."""
    started = time.perf_counter()
    subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return time.perf_counter() - started


def first_ask_s(environment: dict[str, str], runs: int) -> tuple[float, float]:
    """Install messctl into a fresh virtual environment; return the first `ask`, and the median import after it."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python, root = f"{folder}/bin/python", Path(__file__).parent.parent
        subprocess.run([python, "-m", "pip", "install", "--quiet", f"{root}[llama]"], check=True)
        fresh = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
        fresh["MESSCTL_STATE"] = f"{folder}/state.db"
        first = seconds([f"{folder}/bin/messctl", *COMMANDS["ask"][0]], fresh)
        return first, statistics.median(seconds([python, *IMPORT], fresh) for _ in range(runs))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--install", action="store_true", help="measure the first ask after installing, too")
    arguments = parser.parse_args()
    # As installed: Python keeps the bytecode of what it imports.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    took: dict[str, list[float]] = {name: [] for name in ("import", *COMMANDS)}
    with tempfile.TemporaryDirectory() as folder:
        environment["MESSCTL_STATE"] = f"{folder}/state.db"
        seconds([sys.executable, "-m", "messctl", *COMMANDS["ask"][0]], environment)  # makes the state, fills the cache
        for _ in range(arguments.runs):
            took["import"].append(seconds([sys.executable, *IMPORT], environment))
            for name, (command, _) in COMMANDS.items():
                took[name].append(seconds([sys.executable, "-m", "messctl", *command], environment))
    table = Table("command", "median, s", "fastest to slowest, s", "÷ import", "target", box=None)
    unit = statistics.median(took["import"])
    for name, values in took.items():
        spread = f"{min(values):.3f} to {max(values):.3f}"
        target = f"≤ {COMMANDS[name][1]}" if name in COMMANDS else ""
        median = statistics.median(values)
        table.add_row(name, f"{median:.3f}", spread, f"{median / unit:.2f}", target)
    if arguments.install:
        first, unit = first_ask_s(environment, arguments.runs)
        table.add_row("the first ask", f"{first:.3f}", "", f"{first / unit:.2f}", f"≤ {COMMANDS['ask'][1]}")
    Console().print(table)


if __name__ == "__main__":
    main()
