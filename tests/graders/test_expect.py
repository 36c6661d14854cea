"""Graders of a live answer: the text or the pattern that is expected."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messctl.errors import GradeError, UsageError
from messctl.graders import expect_regex, expect_text
from messctl.graders.expect import LONGEST


@pytest.mark.parametrize(
    ("expected", "answer", "satisfied"),
    [
        ("42", "42", 1),
        ("42", " It is 42.\n", 1),
        ("42", "142", 0),
        ("42", "4.2", 0),
        ("42", "42.5", 0),
        ("42", "42, of course", 1),
        ("42", "1,42", 0),
        ("42", "-42", 0),
        ("42", "it is −42", 0),
        ("3", "1/3", 0),
        ("-3", "-3", 1),
        ("42", "", 0),
        ("Paris", "It's paris!", 1),
        ("Paris", "comparison", 0),
        ("new  york", "New\nYork", 1),
        ("-3", "x = -3", 1),
        ("a.b", "axb", 0),
        ("c++", "I like C++ best", 1),
        ("STRAßE", "straße", 1),
        ("strasse", "straße", 0),
        ("42", "İ42", 0),
        ("kelvin", "\u212aelvin", 1),
        ("a a b", "a a a b", 1),
        ("a\n a b", "aa a b a\ta  b.", 1),
        ("aa", "aaa aaa", 0),
    ],
)
def test_an_expected_text_is_found_as_whole_words_and_numbers(expected, answer, satisfied):
    assert expect_text(expected)(answer) == satisfied


@pytest.mark.parametrize(
    ("expression", "answer", "satisfied"), [(r"^\d+$", "42", 1), (r"^\d+$", "42 ", 0), ("(?i)YES|no", "yes", 1)]
)
def test_an_expected_pattern_is_searched(expression, answer, satisfied):
    assert expect_regex(expression)(answer) == satisfied


def test_an_empty_text_and_a_broken_pattern_are_refused():
    with pytest.raises(UsageError, match="--expect is empty"):
        expect_text("  ")
    with pytest.raises(UsageError, match="not a regular expression"):
        expect_regex("(")


OVERLAPPING = st.text("a ", min_size=1, max_size=6).map(lambda part: part * 2).filter(str.strip)


@given(expected=OVERLAPPING, rest=st.text("ab ", max_size=40), at=st.integers(0, 40))
def test_a_text_that_overlaps_itself_is_found_wherever_it_is(expected, rest, at):
    answer = rest[:at] + expected + rest[at:]
    wanted, text = (" ".join(each.split()) for each in (expected, answer))
    assert expect_text(expected)(answer) == bool(re.search(rf"(?<!\w){wanted}(?!\w)", text))


def test_a_text_that_is_too_long_is_not_graded():
    assert expect_text("b")("a" * (LONGEST - 2) + " b") == 1
    with pytest.raises(GradeError, match=r"the answer has 1,048,577 characters; only up to 1,048,576 are graded"):
        expect_text("b")("a" * (LONGEST + 1))
    with pytest.raises(UsageError, match="the expected text has 1,048,577 characters"):
        expect_text("a" * (LONGEST + 1))
