"""Equality: which answers to one request are equal, by each form, and that it is found in linear time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from messctl.graders.equality import FORMS, groups, none, text
from messctl.graders.expect import LONGEST
from messctl.zoo import Settings

EQUAL = {
    "text": [
        ("Paris", "paris"),
        ("Paris", " Paris.\n"),
        ("Paris", "**Paris**"),
        ("Paris", '"Paris!"'),
        ("New  York", "new\nyork"),
        ("Größe", "GRÖSSE"),
        ("Ｐａｒｉｓ", "Paris"),
        ("42", "(42)."),
        ("«oui»", "Oui"),
    ],
    "numeric": [("1,234", "It is 1234."), ("0.5", r"\frac{1}{2}"), ("7", "3 + 4 = 7"), ("−5", "-5")],
    "choice": [("(B)", "The answer is B."), ("b", "B")],
}
DIFFERENT = {
    "text": [
        ("5", "-5"),
        ("5", "−5"),
        ("C", "C++"),
        ("C", "C#"),
        ("$5", "5"),
        ("5 %", "5"),
        ("yes", "no"),
        ("well known", "wellknown"),
        ("!", "?"),
    ],
    "numeric": [("5", "-5"), ("1", "2"), ("no number", "none either")],
    "choice": [("A", "B"), ("no letter here", "nor here")],
    "none": [("Paris", "Paris")],
}


def cases(table):
    return [pytest.param(form, *pair, id=f"{form}: {pair}") for form, pairs in table.items() for pair in pairs]


@pytest.mark.parametrize(("form", "one", "other"), cases(EQUAL))
def test_answers_that_say_the_same_are_equal(form, one, other):
    assert groups([one, other], FORMS[form]) == [0, 0]


@pytest.mark.parametrize(("form", "one", "other"), cases(DIFFERENT))
def test_answers_that_say_something_else_are_not(form, one, other):
    assert groups([one, other], FORMS[form]) == [0, 1]


GROUPS = [
    ([], []),
    (["a"], [0]),
    (["a", "b", "A.", "b"], [0, 1, 0, 1]),
    ([None, None], [0, 1]),
    (["a", None, "a"], [0, 1, 0]),
    (["", "  ", "a"], [0, 1, 2]),
]


@pytest.mark.parametrize(("answers", "expected"), GROUPS)
def test_equal_answers_share_a_number_and_a_missing_or_empty_one_is_equal_to_no_other(answers, expected):
    assert groups(answers, text) == expected


def test_an_answer_that_is_too_long_to_grade_is_equal_to_no_other():
    assert groups(["a" * LONGEST, "a" * LONGEST], text) == [0, 0]
    assert groups(["a" * (LONGEST + 1)] * 2, text) == [0, 1]


def test_by_no_form_is_any_answer_equal_to_another():
    assert groups(["a"] * 4, none) == [0, 1, 2, 3]


def test_zoo_yaml_takes_exactly_these_forms():
    for form in FORMS:
        assert Settings(equal=form).equal == form
    assert list(FORMS) == ["text", "numeric", "choice", "none"]


LENGTH, LIMIT_S = 1_000_000, 20
HOSTILE = {
    "stops": "'x' + '.' * length + 'x'",
    "stops at the start": "'.' * length + 'x'",
    "stops at the end": "'x' + '.' * length",
    "nothing but stops": "'.' * length",
    "underscores in a word": "'x' + '_' * length + 'x'",
    "spaces": "'x' + ' ' * length + 'x'",
    "both in turn": "'x' + ' .' * (length // 2) + 'x'",
    "signs": "'x' + '-' * length + 'x'",
    "marks": "'x' + '\\u0301' * length + 'x'",
    "dots above": "'\\u0344' * (length // 10)",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_answer_is_compared_in_linear_time(case):
    resource = pytest.importorskip("resource")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S))

    code = (
        f"from messctl.graders.equality import groups, text\nlength = {LENGTH}\n"
        f"assert groups([{HOSTILE[case]}] * 3, text) == [0, 0, 0]"
    )
    done = subprocess.run([sys.executable, "-c", code], preexec_fn=limit, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
