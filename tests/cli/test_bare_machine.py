"""A service user: no home folder, a read-only installation, and nothing to write but the folder of the state."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
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
SUM = "What is 17 + 25?"
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


def service(place, *arguments: str, home: Sequence[str] = ("HOME=/nonexistent",)) -> subprocess.CompletedProcess[str]:
    """Run messctl as the service user."""
    without = ("-u", "HOME", "-u", "XDG_CACHE_HOME", "-u", "XDG_STATE_HOME", "-u", "NUMBA_CACHE_DIR")
    environment = ("env", *without, *home, f"MESSCTL_STATE={place}/state")
    return subprocess.run(
        [*AS_NOBODY, *environment, *MESSCTL, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.slow
def test_the_readmes_commands_work_for_a_service_user(place):
    (place / "prompts.txt").write_text("What is 2 + 2?\n")
    for arguments in (
        ["ask", SUM],
        ["ask", "What is 9 + 9?", "--expect", "18", "--json"],
        ["feedback", "good"],
        ["status"],
        ["log"],
        ["zoo", "check"],
        ["replay", TRACE, "--policy", "static-mix", "--policy", "messplus", "--plot", f"{place}/replay.png"],
        ["tune", TRACE, "--policy", "bandit", "--v", "auto", "--margin", "0,0.005", "-o", "zoo.yaml", "--dry-run"],
        ["record", f"{place}/prompts.txt", "-o", f"{place}/recorded.parquet", "--grader", "none"],
        ["trace", "head", f"{place}/recorded.parquet"],
        ["export", "-o", f"{place}/log.parquet"],
        ["evaluate", f"{place}/log.parquet"],
        ["chat", "--no-log"],
        ["reset", "--yes"],
        ["warm", TRACE],
    ):
        done = service(place, *arguments)
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
