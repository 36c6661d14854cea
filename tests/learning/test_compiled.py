import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from messctl.learning.compiled import PLAIN_CALLS, at_once, compiled, compiled_loop, compiling_told, plainly


@pytest.fixture(autouse=True)
def compiling(monkeypatch):
    """Compile, also if the environment says that nothing is to be compiled."""
    monkeypatch.setattr("numba.core.config.DISABLE_JIT", 0)


def spy(value):
    return value + 1


def test_a_function_runs_plain_at_first_and_compiled_once_it_is_called_often():
    step = compiled(spy)
    for _ in range(PLAIN_CALLS):
        assert step(1.5) == 2.5
        assert "dispatcher" not in vars(step)
    assert step(1.5) == 2.5
    assert step.dispatcher.signatures


def test_a_loop_is_compiled_at_its_first_call():
    loop = compiled_loop(spy)
    assert loop(1.5) == 2.5
    assert loop.dispatcher.signatures


def test_what_is_called_within_a_block_that_says_so_is_compiled_from_then_on():
    step, other = compiled(spy), compiled(spy)
    with at_once():
        assert step(1.5) == 2.5
    assert len(step.dispatcher.signatures) == 1
    assert step(2) == 3
    assert len(step.dispatcher.signatures) == 2
    other(1.5)
    assert "dispatcher" not in vars(other)


def test_within_a_plain_function_all_others_run_plain_and_are_not_counted():
    inner = compiled_loop(spy)

    def outer(value):
        return inner(value) + inner(value)

    assert compiled(outer)(1.0) == 4.0
    with plainly():
        assert inner(1.0) == 2.0
    assert "dispatcher" not in vars(inner)


def test_an_error_in_a_plain_function_leaves_later_calls_counted():
    def fails(_value):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        compiled(fails)(1.0)
    loop = compiled_loop(spy)
    assert loop(1.0) == 2.0
    assert "dispatcher" in vars(loop)


def test_dividing_by_zero_is_silent_in_plain_python_too():
    assert compiled(lambda value: value / 0.0)(np.float64(1.0)) == np.inf


def test_who_compiles_says_so_and_who_loads_does_not(monkeypatch):
    loop, told = compiled_loop(lambda value: value + 1), []
    monkeypatch.setattr("messctl.learning.compiled.keep", lambda _dispatcher: None)
    with compiling_told(told.append):
        loop(1.5)
        loop(2.5)
    assert told == ["compiling, once after installing"]


def test_importing_compiled_functions_does_not_import_numba():
    code = (
        "import sys, messctl.policies.bandit, messctl.policies.messplus, messctl.learning.features\n"
        "sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_setting_that_numba_refuses_is_named(tmp_path):
    code = "from messctl.learning.compiled import compiled_loop\ncompiled_loop(abs)(1)"
    without = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}

    def said(**given):
        given = without | {"PYTHONPATH": str(Path(__file__).parents[2])} | given
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=given, capture_output=True, text=True, check=False
        )
        return done.stderr.splitlines()[-1]

    refused = "messctl.errors.UsageError: numba refuses a setting (Number of threads specified must be > 0.); correct "
    assert said(NUMBA_NUM_THREADS="0") == f"{refused}NUMBA_NUM_THREADS"
    (tmp_path / ".numba_config.yaml").write_text("num_threads: 0\n")
    assert said() == f"{refused}.numba_config.yaml in this folder"


def test_too_little_memory_for_numba_is_not_told_as_a_wrong_setting(monkeypatch):
    def fail(_name):
        raise OSError("libllvmlite.so: failed to map segment from shared object")

    monkeypatch.setattr("messctl.learning.compiled.importlib.import_module", fail)
    with pytest.raises(OSError, match="failed to map"):
        compiled_loop(spy)(1.5)
