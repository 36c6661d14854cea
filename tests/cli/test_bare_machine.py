"""A service user: no home folder, a read-only installation, and nothing to write but the folder of the state."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pages
import pytest
from command_lines import in_shell
from live_making import MESSCTL, assert_one_line

from messctl.cli import run
from messctl.state.store import default_path

pytestmark = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or not shutil.which("setpriv"),
    reason="only root can become a service user",
)
NOBODY = "65534"
AS_NOBODY = (
    *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
    # The checkout may be in a folder that only root may read; nobody may read all, and write nothing.
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)
TRACE = "traces/box.parquet"


@pytest.fixture
def place(root, monkeypatch):
    """The only folder in which the service user may write; the current folder is the checkout."""
    if subprocess.run([*AS_NOBODY, "true"], capture_output=True, check=False).returncode:
        pytest.skip("setpriv cannot make a service user here")
    monkeypatch.chdir(root)
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        os.chown(folder, int(NOBODY), int(NOBODY))
        yield Path(folder)


def service(
    place, *arguments: str, home: Sequence[str] = ("HOME=/nonexistent",), cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run messctl as the service user."""
    without = ("-u", "HOME", "-u", "XDG_CACHE_HOME", "-u", "XDG_STATE_HOME", "-u", "NUMBA_CACHE_DIR")
    environment = ("env", *without, *home, f"MESSCTL_STATE={place}/state")
    return subprocess.run(
        [*AS_NOBODY, *environment, *MESSCTL, *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
IN_TABLE = {
    name for row in re.findall(r"^\| (`.*?) \|", README, re.MULTILINE) for name in re.findall("`([a-z]+)`", row)
}
"""The commands in the README's table."""


def shown() -> list[list[str]]:
    """Return the messctl commands of the README's blocks, without `messctl`; the installation before it is no part."""
    commands = [command.line for block in pages.blocks(README) for command in block.commands()]
    return [words for line in commands for words in in_shell(line)]


NAMED = [
    ["feedback", "good"],
    ["status"],
    ["log"],
    ["serve", "--port", "0", "--check"],
    ["zoo", "init", "--folder", "models", "-o", "own.yaml", "--yes"],
    ["zoo", "check"],
    ["record", "prompts.txt", "-o", "recorded.parquet", "--grader", "none"],
    ["trace", "head", "recorded.parquet"],
    [
        "import",
        "table",
        "own.csv",
        "--wide",
        "score_{model}",
        "--cost",
        "cost_{model}",
        "--unit",
        "USD",
        "-o",
        "own.parquet",
    ],
    ["export", "-o", "log.parquet"],
    ["evaluate", "log.parquet"],
    ["chat", "--no-log"],
    ["state", "backup", "copy"],
    ["doctor"],
    ["reset", "--yes"],
    ["warm", TRACE],
]
"""A command for each that the README only names."""


def test_every_command_in_the_readmes_table_is_run_as_a_service_user():
    assert {"ask", "doctor", "zoo"} < IN_TABLE
    assert {words[0] for words in (*shown(), *NAMED)} >= IN_TABLE


@pytest.mark.slow
def test_the_readmes_commands_work_for_a_service_user(place, root):
    """In a folder of their own, with the installation, the traces and the models read-only."""
    for name, there in {"traces": root / "traces", "models": root / "messctl" / "box"}.items():
        (place / name).symlink_to(there)
    (place / "prompts.txt").write_text("What is 2 + 2?\n")
    (place / "own.csv").write_text(
        "prompt,score_tiny,cost_tiny,score_huge,cost_huge\n2+2?,1,0.01,1,0.2\nProve it.,0,0.01,1,0.9\n"
    )
    for arguments in (*shown(), *NAMED):
        done = service(place, *arguments, cwd=place)
        assert (done.returncode, done.stderr) == (0, ""), (arguments, done.stderr)
    assert list((place / "messctl-cache").rglob("*.nbi"))


def test_without_a_home_folder_the_state_must_be_named(place, monkeypatch, capsys):
    def homeless(*_arguments, **_named):
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("MESSCTL_STATE", raising=False)
    for stand_in in (homeless, lambda *_, **__: "~/.local/state/messctl"):
        monkeypatch.setattr("platformdirs.user_state_path", stand_in)
        for command in (["status"], ["log"], ["feedback", "good"], ["reset", "--yes"]):
            assert "--state or MESSCTL_STATE" in assert_one_line(run(command), *capsys.readouterr())
    monkeypatch.undo()
    assert default_path().is_absolute()


@pytest.mark.slow
def test_a_user_without_home_folder_and_name_can_replay(place):
    done = service(place, "replay", TRACE, "--policy", "always:mini-1m", home=())
    assert (done.returncode, done.stderr) == (0, "")
