"""Servers that never come to an end, or send far more than was asked for: time, memory and text are limited."""

from __future__ import annotations

import gzip
import itertools
import json
import threading
import time
import zlib

import pytest
from servers import USAGE, chunk, events, misbehaving, streamed

from messctl.backends import OpenAICompatible, openai
from messctl.backends.content import LARGEST_DOCUMENT, LARGEST_STREAM
from messctl.errors import BackendError
from messctl.records import Question
from messctl.zoo import ModelSpec

WHOLE = json.dumps({"choices": [{"message": {"content": "42"}, "finish_reason": "stop"}], "usage": USAGE}).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


def without_end(*parts, first=b"", pause_s=0.01):
    """Return a behaviour that sends `first` and then the parts again and again, each after a pause."""

    def behave(handler):
        handler.close_connection = True
        handler.wfile.write(first)
        for part in itertools.cycle(parts):
            if handler.server.released.wait(pause_s):
                return
            handler.wfile.write(part)
            handler.wfile.flush()

    return behave


def reads_nothing(handler):
    handler.server.released.wait(30)


def event(**choice):
    return events(chunk(**choice), done=False)


ENDLESS = {
    "a byte of a header now and then": without_end(b"a", first=b"HTTP/1.1 200 OK\r\nX: "),
    "a header line now and then": without_end(b"X: y\r\n", first=b"HTTP/1.1 200 OK\r\n"),
    "100 Continue": without_end(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "103 Early Hints": without_end(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "events without text": without_end(event(delta={"content": ""}), first=HEAD),
    "events with a role": without_end(event(delta={"role": "assistant"}), first=HEAD),
    "pieces": without_end(event(delta={"content": "a "}), first=HEAD),
    "thinking": without_end(event(delta={"reasoning_content": "hm "}), first=HEAD),
    "spaces": without_end(b" ", first=b"HTTP/1.1 200 OK\r\n\r\n"),
    "a document": without_end(b"[", first=b"HTTP/1.1 200 OK\r\n\r\n" + WHOLE[:20]),
    "chunks of a byte": without_end(b"1\r\n \r\n", first=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "an error without end": without_end(b"no ", first=b"HTTP/1.1 500 Broken\r\n\r\n"),
    "compressed nothing": without_end(
        b"\0\0\0\xff\xff",  # an empty block
        first=b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n\r\n\x78\x9c",
    ),
}


def spec(url, **more):
    return ModelSpec("big", url=url, **{"timeout_s": 30.0, "retries": 2, **more})


def asked(*behaviours, on_text=None, max_tokens=None, **more):
    with misbehaving(*behaviours) as server, OpenAICompatible(pause=lambda _: None) as backend:
        try:
            return backend.complete(spec(server.url, **more), Question("hi", max_tokens=max_tokens), on_text), server
        except BackendError as error:
            return str(error), server


@pytest.mark.parametrize("name", ENDLESS)
def test_a_server_that_is_never_silent_is_given_up_at_the_deadline(name):
    message, server = asked(ENDLESS[name], deadline_s=0.4)
    assert "does not end its answer within 0.4 s: see the server's log, or raise deadline_s in zoo.yaml" in message
    assert server.served == 1  # and it is not asked again


def test_a_silent_server_is_given_up_at_an_earlier_deadline_too():
    assert "within 0.3 s" in asked(reads_nothing, deadline_s=0.3)[0]


def test_all_attempts_share_one_deadline():
    def busy(handler):
        handler.answer(b"busy", 503)

    with misbehaving(busy) as server, OpenAICompatible(pause=lambda _: time.sleep(0.3)) as backend:
        with pytest.raises(BackendError):
            backend.complete(spec(server.url, deadline_s=1.0, retries=100), Question("hi"))
        assert server.served <= 5


def test_an_answer_that_is_whole_at_the_deadline_counts():
    answer = streamed("4", "2", done=False)
    completion, _ = asked(without_end(b": alive\n\n", first=HEAD + answer), deadline_s=0.5)
    assert (completion.answer, completion.tokens_out) == ("42", 3)


def test_the_deadline_is_ten_times_the_longest_silence_by_default():
    assert ModelSpec("a", url="http://h/v1", timeout_s=7.0).longest_s == 70.0
    assert ModelSpec("a", url="http://h/v1", timeout_s=7.0, deadline_s=3.0).longest_s == 3.0


def test_a_list_of_models_without_end_is_given_up(monkeypatch):
    monkeypatch.setattr(openai, "CONNECT_S", 0.1)
    late = pytest.raises(BackendError, match=r"does not end its answer within 0\.4 s")
    with misbehaving(ENDLESS["a document"]) as server, OpenAICompatible() as backend, late:
        backend.list_models(ModelSpec("big", url=server.url, timeout_s=0.3))


def test_questions_at_the_same_time_have_connections_of_their_own():
    together = threading.Barrier(4)

    def answer(handler):
        together.wait(30)
        handler.answer(streamed("42"))

    with misbehaving(answer) as server, OpenAICompatible() as backend:
        answers = []

        def ask():
            answers.append(backend.complete(spec(server.url), Question("hi")).answer)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert answers == ["42"] * 4


# --- compression --------------------------------------------------------------------


def compressed(content, encoding, kind="application/json"):
    return lambda handler: handler.answer(content, 200, kind, Content_Encoding=encoding)


def raw_deflate(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize("document", [WHOLE, streamed("4", "2")])
@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("GZip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("identity", bytes),
        ("", bytes),
        ("identity, gzip", gzip.compress),
    ],
)
def test_a_compressed_answer_is_read(document, encoding, pack):
    kind = "application/json" if document is WHOLE else "text/event-stream"
    completion, server = asked(compressed(pack(document), encoding, kind))
    assert completion.answer == "42"
    assert server.requests[0][1]["Accept-Encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", raw_deflate)]
)
def test_a_compressed_answer_may_come_in_single_bytes(encoding, pack):
    def behave(handler):
        handler.send_response(200)
        handler.send_header("Content-Encoding", encoding)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"".join(b"1\r\n%c\r\n" % byte for byte in pack(WHOLE)) + b"0\r\n\r\n")

    assert asked(behave)[0].answer == "42"


BOMB = gzip.compress(b" " * (LARGEST_STREAM + 1))


@pytest.mark.parametrize(
    ("content", "encoding", "part"),
    [
        (gzip.compress(gzip.compress(WHOLE)), "gzip, gzip", "an encoding that was not asked for (gzip, gzip)"),
        (WHOLE, "br", "an encoding that was not asked for (br)"),
        (WHOLE, "zstd", "an encoding that was not asked for (zstd)"),
        (WHOLE, ", ".join(["gzip"] * 1000), "an encoding that was not asked for"),
        (WHOLE, "gzip", "a compressed answer that is damaged"),
        (gzip.compress(WHOLE)[:-12], "gzip", "sends invalid JSON"),
        (BOMB, "gzip", "more than 64 MiB for one answer"),
        (gzip.compress(b"{" + b" " * LARGEST_DOCUMENT), "gzip", "a document of more than 16 MiB"),
    ],
)
def test_an_encoding_that_takes_too_much_or_is_wrong_is_an_error(content, encoding, part):
    assert part in asked(compressed(content, encoding), retries=0)[0]


def test_an_error_that_takes_too_much_is_an_error():
    bomb = gzip.compress(b"[" * (LARGEST_DOCUMENT + 1))
    message, _ = asked(lambda handler: handler.answer(bomb, 400, "application/json", Content_Encoding="gzip"))
    assert "more than 16 MiB" in message


# --- text ---------------------------------------------------------------------------


def many(count, **choice):
    piece = event(**choice)

    def behave(handler):
        handler.close_connection = True
        handler.wfile.write(HEAD)
        for _ in range(count):
            handler.wfile.write(piece)
        handler.wfile.write(streamed("."))

    return behave


@pytest.mark.parametrize("key", ["content", "reasoning_content"])
def test_a_server_that_ignores_the_limit_of_tokens_is_stopped(key):
    message, server = asked(many(1000, delta={key: "word " * 100}), max_tokens=10)
    assert "sends more than 262,784 characters for one answer: check its limit of tokens" in message
    assert server.served == 1


def test_long_thinking_before_a_short_answer_is_read():
    completion, _ = asked(many(400, delta={"reasoning_content": "word " * 100}), max_tokens=10)
    assert completion.answer == "."
    assert len(completion.thinking) > 190_000


def test_a_limit_that_is_not_sent_limits_nothing_but_the_memory():
    completion, _ = asked(many(1000, delta={"content": "word " * 100}), max_tokens=10, omit=("max_tokens",))
    assert len(completion.answer) > 400_000
