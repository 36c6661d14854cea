"""Server-sent events: the standard's rules, one by one, and the three that go beyond it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import events

from messctl.backends.event_stream import LONGEST_EVENT, Event, EventTooLongError, read_events

MESSAGE = "message"
STREAMS = {
    "a line feed ends a line": (b"data: a\n\ndata: b\n\n", ["a", "b"]),
    "a carriage return ends a line": (b"data: a\r\rdata: b\r\r", ["a", "b"]),
    "both together end one line": (b"data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]),
    "line ends may be mixed": (b"data: a\r\n\ndata: b\n\rdata: c\r\r\n", ["a", "b", "c"]),
    "other line ends of Unicode are text": ("data: a\u2028b\x85c\x0bd\n\n".encode(), ["a\u2028b\x85c\x0bd"]),
    "a byte order mark may stand first": (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
    "a byte order mark is text elsewhere": (b"data: \xef\xbb\xbf\n\n", ["\ufeff"]),
    "one space after the colon is left out": (b"data:  a \n\ndata:b\n\n", [" a ", "b"]),
    "data may have several lines": (b"data: a\ndata:\ndata: b\n\n", ["a\n\nb"]),
    "a field without a colon is empty": (b"data\n\ndata: a\n\n", ["", "a"]),
    "a comment is skipped": (b": hi\n\ndata: a\n:data: x\ndata: b\n\n:\n\n", ["a\nb"]),
    "an unknown field is skipped": (b"foo: x\ndata: a\n data: y\ndatas: z\n\n", ["a"]),
    "id and retry are skipped": (b"id: 7\nretry: 100\ndata: a\n\nid\n\n", ["a"]),
    "an event without data is none": (b"event: ping\n\ndata: a\n\n", ["a"]),
    "the type holds for one event": (b"event: x\ndata: a\n\ndata: b\n\n", [Event("x", "a"), Event(MESSAGE, "b")]),
    "the last type counts": (b"event: x\nevent: y\ndata: a\n\n", [Event("y", "a")]),
    "an empty type is the usual one": (b"event:\ndata: a\n\n", [Event(MESSAGE, "a")]),
    "invalid bytes become replacement characters": (b"data: \xff\n\n", ["\ufffd"]),
    "nothing holds no event": (b"", []),
    "blank lines hold no event": (b"\n\n\r\n\r", []),
    "the last event needs no blank line": (b"data: a\n\ndata: b\n", ["a", "b"]),
    "the last line needs no end": (b"data: a\n\ndata: b", ["a", "b"]),
    "done ends the stream": (b"data: a\n\ndata: [DONE]\n\ndata: b\n\n", ["a", "[DONE]"]),
    "done needs no blank line before or after": (b"data: a\ndata: [DONE]", ["a", "[DONE]"]),
    "done may stand in quotation marks": (b'data: "[DONE]"\n\n', ["[DONE]"]),
    "a whole object needs no blank line": (b'data: {"a": 1}\ndata: {"b": 2}\n', ['{"a": 1}', '{"b": 2}']),
    "an object may have several lines": (b'data: {"a":\ndata: {}\ndata: }\n\n', ['{"a":\n{}\n}']),
    "a field error is an event of that type": (b'error: {"code": 1}\n\n', [Event("error", '{"code": 1}')]),
}


def read(pieces):
    return [event for event in read_events(pieces) if event is not None]


@pytest.mark.parametrize("name", STREAMS)
def test_each_rule_holds_however_the_stream_is_cut(name):
    stream, expected = STREAMS[name]
    expected = [each if isinstance(each, Event) else Event(MESSAGE, each) for each in expected]
    assert read([stream]) == expected
    assert read([stream[place : place + 1] for place in range(len(stream))]) == expected
    for place in range(len(stream)):
        assert read([stream[:place], b"", stream[place:]]) == expected


def test_an_event_comes_before_the_next_piece_of_the_stream():
    def pieces():
        yield b"data: a\r\n\r"
        raise AssertionError

    arriving = read_events(pieces())
    assert next(event for event in arriving if event is not None) == Event(MESSAGE, "a")


def test_done_is_not_waited_for_any_longer():
    def pieces():
        yield b"data: [DONE]\n"
        raise AssertionError

    assert read(pieces()) == [Event(MESSAGE, "[DONE]")]


@given(st.lists(st.dictionaries(st.text(), st.text())), st.sampled_from([b"\n", b"\r\n", b"\r"]), st.data())
def test_events_are_read_whole_from_pieces_cut_anywhere(sent, end, data):
    import json

    whole = events(*sent).replace(b"\n", end)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)))))
    pieces = [whole[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert [json.loads(event.data) for event in read(pieces)[:-1]] == sent


@given(st.lists(st.binary()))
def test_random_bytes_never_crash_the_event_reader(pieces):
    with contextlib.suppress(EventTooLongError):
        assert all(event is None or isinstance(event, Event) for event in read_events(pieces))


@pytest.mark.parametrize(
    "pieces",
    [[b"data: " + b"x" * LONGEST_EVENT], [b"x" * 2**20] * 5, [b"data: " + b"x" * 2**20 + b"\n"] * 5],
    ids=["one line", "a line in pieces", "many lines of data"],
)
def test_an_endless_line_or_event_is_refused(pieces):
    with pytest.raises(EventTooLongError):
        read(pieces)


def test_a_long_line_in_small_pieces_is_read_in_linear_time():
    """Each byte is looked at once; a reader that searches the whole line again for every piece would need minutes."""
    assert len(read([b"data: ", *[b"x" * 16] * 250_000, b"\n\n"])[0].data) == 4_000_000
