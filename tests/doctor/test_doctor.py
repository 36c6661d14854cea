"""`messctl doctor` with a llama.cpp that crashes the process: real child processes load a real module."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from messctl.cli import run
from messctl.zoo import PACKAGED_FILE

ALL = ["llama.cpp", "zoo", "energy", "state"]
"""The subjects of the findings if no model can be loaded."""
SIGABRT, SIGILL = signal.strsignal(signal.SIGABRT), signal.strsignal(signal.SIGILL)


def doctor(tmp_path, **environment):
    """Run the command in a process of its own, and return how it ended, its lines, and what went to stderr."""
    command = [sys.executable, "-m", "messctl", "doctor", "--zoo", str(PACKAGED_FILE)]
    command += ["--state", str(tmp_path / "state.sqlite")]
    plain = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=plain | environment)
    return done.returncode, done.stdout.splitlines(), done.stderr


def subjects(lines):
    return [line[2:].split(":")[0] for line in lines]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there processes do not end by signals")
@pytest.mark.parametrize(
    ("code", "line"),
    [
        (
            "import os; os.abort()",
            f"✗ llama.cpp: a process that loads it dies ({SIGABRT}); build it on this machine: "
            "pip install --force-reinstall --no-cache-dir --no-binary llama-cpp-python llama-cpp-python",
        ),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGILL)",
            f"✗ llama.cpp: a process that loads it dies ({SIGILL}); build it on this machine: ",
        ),
        (
            "import os\nif 'libstdc++' not in os.environ.get('LD_PRELOAD', ''): os.abort()",
            f"✗ llama.cpp: a process that loads it dies ({SIGABRT}); export LD_PRELOAD=libstdc++.so.6, see docs/gpu.md",
        ),
    ],
)
def test_a_llama_cpp_that_crashes_is_reported_with_a_remedy(tmp_path, code, line):
    (tmp_path / "llama_cpp.py").write_text(code, encoding="utf-8")
    code, lines, err = doctor(tmp_path, PYTHONPATH=str(tmp_path))
    assert (code, err) == (2, "")
    assert lines[0].startswith(line)
    assert subjects(lines) == ALL


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there processes do not end by signals")
@pytest.mark.parametrize(
    ("code", "cure"),
    [
        ("import os, sys\nif 'llama_cpp' in sys.modules: os.abort()", "see docs/gpu.md"),
        (
            "import os, sys\nwith_library = 'libstdc++' in os.environ.get('LD_PRELOAD', '')\n"
            "if 'llama_cpp' in sys.modules and not with_library: os.abort()",
            "export LD_PRELOAD=libstdc++.so.6, see docs/gpu.md",
        ),
    ],
)
def test_a_llama_cpp_that_crashes_with_pyarrow_is_a_warning(tmp_path, code, cure):
    """Questions are answered all the same, since what answers them does not load pyarrow."""
    pytest.importorskip("llama_cpp")
    (tmp_path / "pyarrow.py").write_text(code, encoding="utf-8")
    code, lines, err = doctor(tmp_path, PYTHONPATH=str(tmp_path))
    assert (code, err) == (0, "")
    assert subjects(lines) == [ALL[0], ALL[0], ALL[1], "offload", *ALL[2:]]
    assert lines[1].startswith("! llama.cpp: a process that loads pyarrow too, as `record`")
    assert lines[1].endswith(f"dies ({SIGABRT}); {cure}")


def test_a_working_llama_cpp_prints_nothing_on_stderr(tmp_path):
    pytest.importorskip("llama_cpp")
    code, lines, err = doctor(tmp_path)
    assert (code, err) == (0, "")
    assert subjects(lines) == [ALL[0], ALL[1], "offload", *ALL[2:]]


def test_an_empty_file_is_no_sound_state_and_stays_empty(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    empty = tmp_path / "empty.sqlite"
    empty.touch(0o600)
    run(["doctor", "--state", str(empty)])
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"✓ state: {empty}: is an empty file; the first request makes a state of it"
    )
    assert empty.stat().st_size == 0


def test_a_server_that_is_away_is_named_once_with_its_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo.yaml").write_text(
        "models:\n- {name: small, url: 'http://127.0.0.1:9/v1', cost: {unit: USD, prompt: 1, generated: 1}}\n"
        "- {name: large, url: 'http://127.0.0.1:9/v1', model: org/large, cost: {unit: USD, prompt: 1, generated: 1}}\n"
    )
    assert run(["doctor", "--state", str(tmp_path / "state")]) == 2
    small, large = (line for line in capsys.readouterr().out.splitlines() if line.startswith("✗ zoo: "))
    assert small.startswith("✗ zoo: zoo.yaml: model 'small' (http://127.0.0.1:9/v1): cannot be reached")
    assert large.startswith("✗ zoo: zoo.yaml: model 'large' (http://127.0.0.1:9/v1, org/large): cannot be reached")
