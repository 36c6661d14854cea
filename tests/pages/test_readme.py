"""Every command in the README is run, and prints what the README says it prints."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def console_blocks(text: str) -> list[list[tuple[str, str]]]:
    """The (command, output) pairs of each console block."""
    blocks = []
    for body in re.findall(r"^```console\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        pairs = re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]
        blocks.append([tuple(pair.split("\n", 1)) for pair in pairs])
    return blocks


BLOCKS = console_blocks(README)


def test_it_opens_with_a_picture_and_two_commands_which_ci_runs_to_the_letter():
    picture = re.search(r"!\[.+?\]\((.+?)\)", README)
    assert picture is not None
    assert (ROOT / picture[1]).is_file()
    (install_and_replay, _), (run_tests, _) = BLOCKS[0]
    assert "messctl replay traces/" in install_and_replay
    assert run_tests == ".venv/bin/pytest"
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("block", BLOCKS[1:], ids=lambda block: block[0][0][:40])
def test_the_commands_print_what_the_readme_says(block, tmp_path):
    shutil.copytree(ROOT / "traces", tmp_path / "traces")
    shutil.copy(ROOT / "zoo.yaml", tmp_path)
    environment = os.environ | {
        "MESSCTL_STATE": str(tmp_path / "state"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    for command, expected in block:
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), command
        assert trimmed(done.stdout) == trimmed(expected), command


def trimmed(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]


def test_every_module_and_file_it_names_exists():
    for name in re.findall(r"`([\w/]+\.(?:py|yaml|toml|parquet)|messctl/\w+/)`", README):
        places = [ROOT / name, ROOT / "messctl" / name]
        assert any(place.exists() for place in places) or name in ("answers.parquet",), name
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
