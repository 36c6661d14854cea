"""The names at the top of the package: there are some, they are loaded late, and loading none costs next to nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import messctl

CODE = """
import sys
before = set(sys.modules)
import messctl
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
heavy = loaded & {"numpy", "numba", "scipy", "sklearn", "pyarrow", "rich", "typer", "urllib3", "yaml", "dataclasses"}
print(sorted(heavy), sum(name.startswith("messctl") for name in set(sys.modules) - before))
"""


def test_import_loads_nothing_but_the_package_itself():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "1"]


@pytest.mark.parametrize("name", messctl.__all__)
def test_every_name_is_there_and_documented(name, root):
    assert getattr(messctl, name) is not None
    assert name in dir(messctl)
    assert f"messctl.{name}" in (root / "docs" / "python.md").read_text(encoding="utf-8")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'reply'"):
        messctl.reply  # noqa: B018


@pytest.mark.parametrize("first", ["import messctl.replay.report", "from messctl.replay import report", "pass"])
@pytest.mark.parametrize("name", ["replay", "tune"])
def test_a_package_named_like_a_function_is_both(first, name):
    code = f"{first}\nimport messctl, types\nfrom messctl import {name}\n"
    code += f"assert callable({name}) and callable(messctl.{name}) and isinstance({name}, types.ModuleType)\n"
    code += f"import messctl.{name}.report as deeper\nassert deeper.table\n"
    code += f"try:\n    messctl.{name}('nowhere')\nexcept messctl.MessctlError as error:\n    print(error)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "nowhere: no such file" in done.stdout, done.stderr
