"""Lines that break at spaces, at any width."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from messctl.display.text import wrapped

WORDS = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("text", "width", "indent", "lines"),
    [
        ("one two three", 80, "  ", ["one two three"]),
        ("one two three", 7, "  ", ["one two", "  three"]),
        ("one two three", 13, "", ["one two three"]),
        ("one two three", 12, "", ["one two", "three"]),
        ("see /a/very/long/path now", 10, "  ", ["see", "  /a/very/long/path", "  now"]),
        ("name      what it is", 12, " " * 10, ["name", "  what it is"]),
        ("name      what it is", 15, " " * 5, ["name      what", "     it is"]),
        ("日本語 日本語", 8, "", ["日本語", "日本語"]),
        ("", 10, "", [""]),
    ],
)
def test_a_long_line_breaks_at_spaces(text, width, indent, lines):
    assert wrapped(text, width, indent).split("\n") == lines


@given(st.lists(WORDS, min_size=1), st.integers(8, 60))
def test_no_word_is_broken_and_only_a_long_word_is_wider_than_the_terminal(words, width):
    lines = wrapped(" ".join(words), width, "  ").split("\n")
    assert " ".join(lines).split() == " ".join(words).split()
    assert all(cell_len(line) <= width or len(line.split()) == 1 for line in lines)


def test_many_spaces_take_linear_time():
    """In quadratic time this takes an hour."""
    assert wrapped("a" + " " * 10**6, 80) == "a"
    assert wrapped("a" + " " * 10**6 + "b", 80) == "a\nb"
