"""Plots as files."""

import sys

import pytest

from messctl.display.plotting import check_format
from messctl.errors import MissingExtraError, UsageError


def test_other_formats_and_a_missing_matplotlib_are_refused(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        check_format(tmp_path / "a.pdf")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"messctl\[plot\]"):
        check_format(tmp_path / "a.png")
