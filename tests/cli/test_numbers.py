"""Numbers that are none, as they are typed: no option of any command takes them."""

import re

import pytest
from live_making import STATED, assert_one_line
from making import write_trace

from messctl.cli import run

pytestmark = pytest.mark.usefixtures("state")

COMMANDS = [
    (["ask", "hi"], ["--temperature", "--alpha"]),
    (["chat"], ["--temperature", "--alpha"]),
    (
        ["replay", "t.parquet"],
        ["--alpha", "--v", "--margin", "--trial-budget", "--c", "--exponent", "--feedback-rate", "--cost-scale",
         "--holdout"],
    ),
    (
        ["tune", "t.parquet"],
        ["--alpha", "--v", "--margin", "--c", "--exponent", "--holdout", "--feedback-rate", "--cost-scale"],
    ),
    (["zoo", "calibrate"], ["--seconds"]),
]  # fmt: skip


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999"])
@pytest.mark.parametrize(
    ("command", "option"), [(command, option) for command, options in COMMANDS for option in options]
)
def test_an_infinite_number_is_refused(command, option, number, tmp_path, capsys):
    (tmp_path / "zoo.yaml").write_text(STATED)
    write_trace(tmp_path / "t.parquet", [{"a": (0, 1), "b": (1, 2)}] * 3)
    error = assert_one_line(run([*command, option, number]), *capsys.readouterr())
    assert re.search(rf"\b{option.strip('-').replace('-', '[-_]')} is |'{option}': ", error)
