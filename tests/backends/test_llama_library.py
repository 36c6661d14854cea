"""How llama.cpp's library is loaded: its threads' waits, and processors on which it would crash."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from messctl.backends.llama_library import load_library

LOAD = """
import os
from messctl.backends.llama_library import load_library
load_library()
print(os.environ.get("GOMP_SPINCOUNT"), os.environ.get("OMP_WAIT_POLICY"))
"""


@pytest.mark.parametrize(
    ("settings", "spins"),
    [
        ({}, 1000),
        ({"GOMP_SPINCOUNT": "7000"}, 7000),
        ({"OMP_WAIT_POLICY": "passive"}, 0),
    ],
)
def test_threads_wait_shortly_unless_the_user_says_otherwise(settings: dict[str, str], spins: int) -> None:
    if sys.platform != "linux" or b"OPENMP = 1" not in load_library().api.llama_print_system_info():
        pytest.skip("this llama.cpp is built without GNU's OpenMP")
    kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    environment = kept | settings | {"OMP_DISPLAY_ENV": "verbose"}
    ran = subprocess.run([sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True, check=True)
    assert re.findall(r"GOMP_SPINCOUNT = '(\d+)'", ran.stderr) == [str(spins)]
    assert ran.stdout.split() == [settings.get("GOMP_SPINCOUNT", "None"), settings.get("OMP_WAIT_POLICY", "None")]


@pytest.mark.parametrize(("processor", "repacked"), [(b"AVX2 = 1 | AMX_INT8 = 1 | ", False), (b"AVX2 = 1 | ", True)])
def test_weights_stay_as_they_are_where_llama_cpp_crashes_with_amx(
    monkeypatch: pytest.MonkeyPatch, processor: bytes, repacked: bool
) -> None:
    library = load_library()
    monkeypatch.setattr(library.api, "llama_print_system_info", lambda: processor)
    assert library.model_params().use_extra_bufts is repacked
