"""Bytes that come in: which encoding they have."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messctl.errors import UsageError
from messctl.inputs import decoded

MARKED = ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")


@pytest.mark.parametrize("encoding", MARKED)
@given(text=st.text().filter(lambda text: not text.startswith(("\0", "\ufeff"))))
def test_a_text_is_decoded_by_its_byte_order_mark(encoding, text):
    assert decoded(f"\ufeff{text}".encode(encoding), "it") == text


@given(text=st.text(st.characters(exclude_characters="\0\ufeff", exclude_categories=["Cs"])))
def test_a_text_without_a_mark_is_utf_8(text):
    assert decoded(text.encode(), "it") == text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b"a\0b", "a\0b"),
        (b"\0", "\0"),
        (b"\xff", "\ufffd"),
        (codecs.BOM_UTF16_LE + b"a\0b", "a\ufffd"),
        (codecs.BOM_UTF8 + b"\xff", "\ufffd"),
    ],
)
def test_what_is_not_valid_becomes_the_replacement_character(data, text):
    assert decoded(data, "it") == text


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["What is 17 + 25?", "hi\n", "Größe: 3 €\r\n" * 200])
def test_utf_16_without_a_mark_is_refused(encoding, text):
    with pytest.raises(UsageError, match="the prompt is UTF-16 without a byte order mark; convert it to UTF-8"):
        decoded(text.encode(encoding), "the prompt")
