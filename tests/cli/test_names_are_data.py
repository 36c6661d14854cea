"""Names are data: of models, files and costs, in tables, spinners, progress bars and status lines, at a terminal."""

import os
import re

import pytest
from live_making import at_terminal, typed

from messctl.cli import run
from messctl.trace import Outcome, Row, TraceMetadata, TraceWriter

if not hasattr(os, "openpty"):
    pytest.skip("no pseudo-terminals here", allow_module_level=True)

HARMLESS = re.compile(rb"\x1b\[\??[0-9;]*[mhlKAJGH]")
"""Colours, and what a spinner and a bar need: hide the cursor, go up, delete a line."""
NAMES = ("a[/b]", "x\x1b]52;c;eA==\x07\x9b2J", "[link=https://x.example]:smile:[/]\u202e")
PROMPTS = 30


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder with a trace, a live log and benchmark results, all of whose names are hostile."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESSCTL_STATE", str(tmp_path / "state[red]\x1b]52;c;eA==\x07"))
    monkeypatch.setenv("HOME", str(tmp_path))
    typed(monkeypatch)
    metadata = TraceMetadata(models=NAMES, cost_unit="[/J]\x1b]0;x\x07", meter="[/m]\x1b[2J", source="[/s]\x9b")
    request = ("served", "propensity", "explored", "judged")
    with TraceWriter(tmp_path / "t[red]\x1b]52;c;eA==\x07.parquet", metadata, request=request) as writer:
        for row in range(PROMPTS):
            outcomes = {name: Outcome(float((row + at) % 3 > 0), at + 1.0) for at, name in enumerate(NAMES)}
            writer.append(
                Row(
                    f"r{row}[/b]\x1b]52;c;eA==\x07",
                    f"[/b] \x1b]52;c;eA==\x07 {row}",
                    outcomes,
                    served=NAMES[row % 3],
                    propensity=1 / 3,
                    explored=False,
                    judged=1,
                )
            )
    (tmp_path / "p.jsonl").write_text('{"prompt": "hi [/b] \\u001b]52;c;eA==\\u0007"}\n')
    return tmp_path


TRACE = "t[red]\x1b]52;c;eA==\x07.parquet"
COMMANDS = [
    ["replay", TRACE, "--policy", "static-mix", "--policy", f"always:{NAMES[0]}", "--policy", f"always:{NAMES[1]}"],
    ["replay", TRACE, "--policy", f"always:{NAMES[1]}", "--csv"],
    ["replay", TRACE, "--policy", f"always:{NAMES[1]}", "--stream"],
    ["replay", TRACE, "--policy", "[/b]\x1b]52;c;eA==\x07"],
    ["replay", f"no[/b]{NAMES[1]}"],
    ["tune", TRACE, "--policy", "always", "--alpha", "0.5"],
    ["tune", TRACE, "--policy", "always", "--alpha", "0.5", "--csv"],
    ["evaluate", TRACE, "--policy", f"always:{NAMES[0]}"],
    ["trace", "info", TRACE],
    ["trace", "head", TRACE],
    ["trace", "validate", TRACE],
    ["warm", TRACE],
    ["status"],
    ["log"],
    ["status", "--zoo", "[/b]\x1b]52;c;eA==\x07"],
    ["record", "p.jsonl", "-o", f"[/b]{NAMES[1]}", "--model", NAMES[0], "--grader", "none"],
    ["import", NAMES[0], TRACE, "-o", "x.parquet"],
    ["zoo", "init", "--folder", f"[/b]{NAMES[1]}"],
    ["[/b]\x1b]52;c;eA==\x07"],
    ["status", "--[/b]\x1b]52;c;eA==\x07"],
]


def assert_harmless(code, out, err):
    assert code in (0, 1, 2), err
    assert b"Traceback" not in err
    for shown in (out, err):
        rest = HARMLESS.sub(b"", shown).decode()
        assert all(line.isprintable() for line in re.split(r"[\r\n]+", rest)), rest


@pytest.mark.slow
@pytest.mark.parametrize("arguments", COMMANDS)
def test_no_name_is_obeyed_at_a_terminal(arguments):
    assert_harmless(*at_terminal(arguments))


def test_spinners_and_bars_show_names_as_they_are(monkeypatch, capsys):
    from rich.progress import Progress

    from messctl.cli.output import progress_console
    from messctl.cli.progress import description, percentage, spinner

    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    for name in NAMES:
        with spinner(f"playing {name}") as tell:
            tell(f"playing {name} again")
        with Progress(description(), percentage(), console=progress_console()) as bar:
            bar.add_task(name, total=2, completed=1)
        err = capsys.readouterr().err
        assert_harmless(0, b"", err.encode())
        assert name.split("\x1b")[0].split("\u202e")[0] in HARMLESS.sub(b"", err.encode()).decode()


def test_no_command_gives_text_to_rich_that_it_reads_as_markup(root):
    """Rich's own spinner, and the columns that read a description as markup, are used in one module."""
    found = {
        path.name
        for path in (root / "messctl").rglob("*.py")
        if re.search(r"\.status\(|TextColumn|from_markup|markup=True|Console\((?!.*markup=False)", path.read_text())
    }
    assert found == {"progress.py"}


def test_a_pipe_gets_names_as_they_are(capsys):
    assert run(["replay", TRACE, "--policy", f"always:{NAMES[1]}", "--csv"]) == 0
    assert NAMES[1] in capsys.readouterr().out
