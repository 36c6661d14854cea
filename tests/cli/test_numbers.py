"""Numbers on the command line that no option takes: not finite, or too large."""

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


@pytest.mark.parametrize(
    ("command", "most"),
    [
        (["log", "-n"], 2**31),
        (["replay", "t.parquet", "--seed"], 2**62),
        (["tune", "t.parquet", "--seeds"], 2**62),
        (["record", "p.jsonl", "-o", "r.parquet", "--seed"], 2**31 - 1),
    ],
)
def test_an_integer_that_is_too_large_is_refused_with_the_exact_limit(command, most, capsys):
    for number in (str(most + 1), "9" * 400):
        error = assert_one_line(run([*command, number]), *capsys.readouterr())
        assert f"is too large; the most is {most} " in error
