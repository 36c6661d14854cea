"""Bytes that come in: which files are opened, how much is read, and which encoding text has."""

import codecs
import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messctl.cli import run
from messctl.errors import UsageError
from messctl.inputs import (
    NotOrdinaryError,
    decoded,
    open_plain,
    read_bytes,
    read_start,
    read_text,
    valid_json,
    valid_unicode,
)

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


def a_folder(path):
    path.mkdir()


def a_pipe(path):
    os.mkfifo(path)


def an_endless_device(path):
    path.symlink_to("/dev/zero")


NOT_ORDINARY = [a_folder, a_pipe, an_endless_device]


@pytest.mark.parametrize("make", NOT_ORDINARY)
def test_only_an_ordinary_file_is_opened(tmp_path, make):
    make(tmp_path / "it")
    with pytest.raises(NotOrdinaryError):
        open_plain(tmp_path / "it")


def test_a_file_is_read_up_to_its_limit(tmp_path):
    (tmp_path / "it").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert read_text(tmp_path / "it") == "one\ntwo\nthree\n"
    assert read_start(tmp_path / "it", 5) == b"\xef\xbb\xbfon"
    assert len(read_bytes(tmp_path / "it", 18)) == 18
    with pytest.raises(OSError, match="larger than 0 MiB"):
        read_bytes(tmp_path / "it", 17)


def test_an_endless_sparse_file_is_not_read_to_its_end(tmp_path):
    with (tmp_path / "it").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(OSError, match="it is larger than 1 MiB"):
        read_text(tmp_path / "it")


@pytest.mark.parametrize("make", [a_pipe, an_endless_device])
@pytest.mark.parametrize(
    "command", [["status"], ["log"], ["export", "-o", "x.parquet"], ["feedback", "good"], ["reset"]]
)
def test_a_state_that_is_not_ordinary_is_named(tmp_path, monkeypatch, capsys, make, command):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "state.db")
    assert run([*command, "--state", "state.db"]) == 2
    assert "state.db: is not an ordinary file" in capsys.readouterr().err


ZOO = "models: [{name: a, path: a.gguf, chat_template: {file: it}}]"


@pytest.mark.parametrize("make", NOT_ORDINARY)
@pytest.mark.parametrize("command", [["status"], ["zoo", "check"], ["zoo", "calibrate"]])
@pytest.mark.parametrize("place", ["it", "zoo.yaml"])
def test_a_command_names_a_file_that_is_not_ordinary_and_ends(tmp_path, monkeypatch, capsys, make, command, place):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESSCTL_STATE", str(tmp_path / "state.db"))
    (tmp_path / "zoo.yaml").write_text(ZOO)
    (tmp_path / place).unlink(missing_ok=True)
    make(tmp_path / place)
    assert run([*command, "--zoo", "zoo.yaml"]) == 2
    assert f"{place} cannot be read (is" in capsys.readouterr().err.replace(":", "")


@given(st.text(st.characters(codec=None)))
def test_valid_unicode_can_be_written_as_utf_8(text):
    assert valid_unicode(text).encode("utf-8").decode("utf-8") == valid_unicode(text)
    assert valid_unicode(valid_unicode(text)) == valid_unicode(text)


def test_valid_json_replaces_half_a_surrogate_pair_at_any_depth():
    assert valid_json({"\ud800": [{"a": "x\udc00"}, 1, None]}) == {"\ufffd": [{"a": "x\ufffd"}, 1, None]}


@pytest.mark.parametrize("read", [read_bytes, lambda path: read_start(path, 4)])
def test_a_file_that_the_system_makes_up_and_that_has_nothing_yet_is_refused(read, tmp_path, monkeypatch):
    class Empty(io.BytesIO):
        def read(self, _size=-1):
            return None

    monkeypatch.setattr("messctl.inputs.open_plain", lambda _: Empty())
    with pytest.raises(NotOrdinaryError, match="is not an ordinary file"):
        read(tmp_path / "kmsg")
