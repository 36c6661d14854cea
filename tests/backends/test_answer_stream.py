"""The stream of an answer: what it passes on, and what it keeps."""

import pytest

from messctl.backends.answer_stream import AnswerStream


def test_a_stream_passes_text_on_and_keeps_it():
    shown = []
    stream = AnswerStream(shown.append)
    assert (stream.started, stream.text) == (False, "")
    for piece in ("for", "ty-two"):
        stream.listener(piece)
    assert (stream.started, stream.text, shown) == (True, "forty-two", ["for", "ty-two"])


def test_without_a_listener_nothing_is_shown():
    stream = AnswerStream(None)
    assert (stream.listener, stream.started, stream.text) == (None, False, "")


def test_a_piece_that_stops_its_listener_counts_as_shown():
    def stop(text):
        raise BrokenPipeError

    stream = AnswerStream(stop)
    with pytest.raises(BrokenPipeError):
        stream.listener("four")
    assert (stream.started, stream.text) == (True, "four")


def test_streams_can_follow_one_another():
    shown = []
    second = AnswerStream(shown.append)
    first = AnswerStream(second.listener)
    first.listener("four")
    assert first.text == second.text == "".join(shown) == "four"
