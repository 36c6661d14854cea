"""Graders in linear time: on long answers of the shapes that took quadratic time, each within its limit."""

import subprocess
import sys

import pytest

LENGTH = 200_000
"""Characters. In quadratic time, the fastest of these answers took more than four minutes."""
LIMIT_S = 60
"""Processor time, of which a linear grader takes two seconds."""
SHAPES = (
    *("=", "= ", "=1 ", "=x\n", "answer ", "answer is ", "#### ", "equals ", "equals="),
    *("1 ", "1,", "1,000", "1.000", "-1", "1/", "1e", "2^", "½", "²", "(1", "1 1/", "99999999999999999999^99 "),
    *("\\boxed{", "\\boxed{{}", "{}", "\\frac{", "\\frac{1}", "\\text{", "\\", "}"),
    *(" ", "\n", "\t \n", "answer" + " " * 500, "option *", "(", "(B", "B ", "A ", "A is ", "B, ", "a.b.", "'", "_"),
    *("e\u0301\u0316", "\u0301\u0316", "\u0344", "\ufdfa", "word ", "New York", "42"),
)
CODE = f"""
import resource, sys
from contextlib import suppress
from messctl.errors import UsageError
from messctl.graders import reference_grader
resource.setrlimit(resource.RLIMIT_CPU, ({LIMIT_S}, {LIMIT_S}))
shape, ending = sys.argv[1:]
for text in (shape * ({LENGTH} // len(shape)) + ending, "x" + shape * ({LENGTH} // len(shape)) + ending):
    for name, reference in (("exact", "x"), ("contains", "New York x"), ("contains", "42"), ("numeric", "42"),
                            ("contains", text[:{LENGTH // 4}]), ("choice", "B")):
        with suppress(UsageError):  # a reference is blank
            reference_grader(name)(text, reference)
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["", "x"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_long_answer_is_graded_in_linear_time(shape, ending):
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, "-c", CODE, shape, ending], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
