"""Bad input: each gets the right status in OpenAI's shape, and the server goes on."""

from __future__ import annotations

import json
import socket
import time
from contextlib import closing
from urllib.parse import urlsplit

import pytest
from serving import TWO, Serving

pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]
MOST = 100_000


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    with Serving(tmp_path_factory.mktemp("bad"), TWO, "--max-body", str(MOST), scripted=0) as running:
        yield running
        assert running.process.poll() is None
        assert running.chat()[0] == 200
        said = running.stop()
        assert "Traceback" not in said
        assert "hello" not in said
        assert len(said.splitlines()) <= 1, said  # nothing was said of any request


def assert_shape(document, status=400):
    assert set(document) == {"error"}
    assert set(document["error"]) == {"message", "type", "param", "code"}
    assert document["error"]["message"]
    assert document["error"]["type"] == ("server_error" if status >= 500 else "invalid_request_error")


BODIES = {
    "no body": b"",
    "white space": b" \n",
    "broken": b'{"messages": [',
    "no json": b"\xff\xfe\x00",
    "a list": b"[]",
    "a text": b'"hello"',
    "null": b"null",
    "not a number": b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
    "infinite": b'{"messages": [{"role": "user", "content": "x"}], "temperature": 1e999}',
    "many digits": b'{"messages": [{"role": "user", "content": "x"}], "seed": ' + b"9" * 5000 + b"}",
    "infinite below": b'{"messages": [{"role": "user", "content": "x"}], "logit_bias": {"5": [-1e400]}}',
    "half a surrogate in bytes": b'{"messages": [{"role": "user", "content": "x"}], "user": "\xed\xa0\x80"}',
    "a name of half a surrogate": b'{"\xed\xa0\x80": 1, "messages": [{"role": "user", "content": "x"}]}',
    "deep enough to be read": b'{"messages": [{"role": "user", "content": [{"x": ' + b"[" * 600 + b"]" * 600 + b"}]}]}",
    "deep objects": b'{"messages": [], "x": ' + b'{"a": ' * 150 + b"1" + b"}" * 150 + b"}",
    "deep": b'{"messages": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/feedback"])
def test_a_body_that_is_no_request_is_400(serving, path, body):
    status, _, document = serving.ask(path, body, {"content-type": "application/json"}, method="POST")
    assert status == 400
    assert_shape(document)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_half_of_a_surrogate_pair_is_replaced_in_every_encoding(serving, encoding):
    text = '{"model": "cheap", "messages": [{"role": "user", "content": "a \\ud800"}], "user": "\\udfff"}'
    status, _, document = serving.ask(CHAT, text.encode(encoding))
    assert (status, document["choices"][0]["message"]["content"]) == (200, "cheap: a \ufffd")


FIELDS = {
    "messages": [
        None, [], {}, "x", [1], [None], [{}], [{"role": "user"}], [{"content": "x"}],
        [{"role": "king", "content": "x"}], [{"role": "user", "content": 7}],
        [{"role": "user", "content": [7]}],
        [{"role": "user", "content": [{"type": "text", "text": 7}]}],
        [{"role": "user", "content": [{"type": 7}]}], [{"role": ["user"], "content": "x"}],
        [{"role": "assistant", "content": None, "tool_calls": "x"}],
    ],
    "model": [None, "", 7, [], "m" * 600],
    "stream": ["yes", 1],
    "stream_options": [True, [], {"include_usage": "yes"}],
    "max_tokens": [0, -1, 1.5, "7", True, 2**31, 10**30],
    "max_completion_tokens": [0, []],
    "temperature": [-0.1, "hot", True, 1e9, []],
    "top_p": [-1, 2, "x"],
    "frequency_penalty": [-3, 3],
    "presence_penalty": [-3, "x"],
    "n": [0, 1000, 1.5, "2"],
    "seed": [1.5, "x", 2**64],
    "stop": ["", [""], 7, [7], ["x"] * 100],
    "tools": ["x", [7], {}],
    "response_format": ["json", {}, {"type": 7}, {"type": "json_schema", "json_schema": []}],
    "logprobs": [3],
    "top_logprobs": [-1, 100],
    "logit_bias": [[]],
    "modalities": ["text", [7]],
}  # fmt: skip


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in FIELDS.items() for value in values])
def test_a_wrong_value_is_400_and_names_its_field(serving, field, value):
    asked = {"messages": HELLO, field: value}
    status, _, document = serving.ask(CHAT, asked)
    assert status == 400, document
    assert_shape(document)
    assert document["error"]["param"].split("[")[0].split(".")[0] == field


@pytest.mark.parametrize("value", [None, "good", -0.1, 1.1, [], {}, 10**400], ids=lambda value: repr(value)[:9])
def test_feedback_with_a_wrong_value_is_400(serving, value):
    status, _, document = serving.ask("/v1/feedback", {"id": "chatcmpl-0", "value": value})
    assert (status, document["error"]["param"]) == (400, "value")


@pytest.mark.parametrize("identity", ["chatcmpl-0", "last", "x" * 10_000, "\x00", "'; DROP TABLE requests"])
def test_feedback_on_an_unknown_answer_is_404(serving, identity):
    status, _, document = serving.ask("/v1/feedback", {"id": identity, "value": 1})
    assert (status, document["error"]["code"]) == (404, "answer_not_found")


@pytest.mark.parametrize("path", ["/v1/feedback/", "/v1/chat/completions/", "/healthz/"])
def test_an_address_with_a_slash_too_many_is_404(serving, path):
    status, _, document = serving.ask(path, {"id": "chatcmpl-0", "value": 1})
    assert status == 404
    assert_shape(document)


@pytest.mark.parametrize("text", ["\ud800 half", "nul \x00 nul", "\x1b[31m", "x" * 10_000, "\u05e2\u202e", " "])
def test_odd_text_is_answered(serving, text):
    asked = {"model": "cheap", "messages": [{"role": "user", "content": text}], "user": text[:100]}
    body = json.dumps(asked).encode()
    status, _, document = serving.ask(CHAT, body)
    assert status == 200, document
    assert document["model"] == "cheap"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [MOST + 1, 30 * 10**6])
@pytest.mark.parametrize(
    ("path", "status"),
    [(CHAT, 413), ("/v1/completions", 413), ("/v1/feedback", 413), ("/nothing", 404), ("/v1/models", 405)],
)  # fmt: skip
def test_a_client_that_sends_too_much_reads_why_it_was_refused(serving, path, status, size, chunked):
    with closing(serving.connection()) as connection:
        body = (b"x" * 50_000 for _ in range(0, size, 50_000)) if chunked else b"x" * size
        connection.request("POST", path, body, encode_chunked=chunked)
        response = connection.getresponse()
        document = json.loads(response.read())
    assert response.status == status
    assert_shape(document)
    assert (document["error"]["code"] == "request_too_large") == (status == 413)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404), ("GET", CHAT, 405), ("DELETE", "/v1/models", 405), ("POST", "/healthz", 405),
        ("GET", "/v1/models/nobody", 404), ("GET", "/v1/models/%00", 404), ("GET", "/v1/../etc/passwd", 404),
    ],
)  # fmt: skip
def test_a_wrong_address_is_told(serving, method, path, status):
    found, _, document = serving.ask(path, method=method)
    assert found == status
    assert_shape(document)


def talk(serving, *pieces):
    """Send raw bytes piece by piece, and return all that comes back until the server closes, or is silent."""
    address = urlsplit(serving.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        try:
            for piece in pieces:
                link.sendall(piece)
                if len(pieces) > 1:
                    time.sleep(0.05)
            while piece := link.recv(65536):
                received += piece
        except OSError:  # it closed while we were sending
            pass
        return received


CHUNKS = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
SPOKEN = json.dumps({"model": "cheap", "messages": [{"role": "user", "content": "hello"}]}).encode()
OFFER = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings%b\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQ\r\n%b\r\n\r\n"
)
"""Java's client offers HTTP/2 with every request."""


def chunked(body, size):
    """Return a body in chunks, with the last one, which is empty."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""])


def offered(close, length=None):
    return OFFER % (b", close" if close else b"", length or b"Content-Length: %d" % len(SPOKEN))


@pytest.mark.parametrize(
    ("pieces", "answers"),
    [
        ([offered(True) + SPOKEN], 1),
        ([offered(True), SPOKEN], 1),
        ([offered(True)[:100], offered(True)[100:] + SPOKEN[:10], SPOKEN[10:30], SPOKEN[30:]], 1),
        ([offered(True, b"Transfer-Encoding: chunked"), chunked(SPOKEN, 7)], 1),
        ([offered(False) + SPOKEN, offered(True) + SPOKEN], 2),
        ([offered(False) + SPOKEN + offered(True) + SPOKEN], 2),
    ],
    ids=["at once", "head and body", "in pieces", "chunked", "twice", "twice at once"],
)
def test_an_offer_of_another_protocol_is_not_taken_and_loses_nothing(serving, pieces, answers):
    received = talk(serving, *pieces)
    assert received.count(b"HTTP/1.1 200 OK") == answers, received
    assert received.count(b'"object":"chat.completion"') == answers


def test_a_large_body_may_come_in_small_pieces(serving):
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    received = talk(serving, head + chunked(SPOKEN + b" " * 80_000, 1))
    assert received.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"hello\r\n\r\n",
        b"GET /\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n" * 2**16,
        CHUNKS + b"1;" + b"x" * 2**20,
        CHUNKS + b"0\r\nX-Long: " + b"x" * 2**20,
        b"GET /" + b"x" * 2**20 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 2**20 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: x\r\n" % n for n in range(60_000)) + b"\r\n",
    ],
    ids=["tls", "words", "no version", "no length", "two lengths", "for a proxy", "HTTP/2", "empty lines",
         "a long chunk", "a long end", "a long address", "a header too long", "a header of a megabyte", "many headers"],
)  # fmt: skip
def test_what_is_no_request_is_closed_with_an_error(serving, data):
    received = talk(serving, data)
    if received:  # a reset may have overtaken it
        head, _, body = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400")
        assert_shape(json.loads(body))


@pytest.mark.parametrize("requests", [1, 50])
def test_a_client_that_closes_its_side_at_once_leaves_no_trace(serving, requests):
    """Their answers have nowhere to go; what is said of it is looked at when the server stops."""
    address = urlsplit(serving.url)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(SPOKEN)
    for _ in range(20):
        with socket.create_connection((address.hostname, address.port), timeout=10) as link:
            link.sendall((head + SPOKEN) * requests)
            link.shutdown(socket.SHUT_WR)
            while link.recv(65536):
                pass
    assert serving.chat()[0] == 200


def test_clients_that_never_finish_keep_nobody_from_an_answer(serving):
    address = urlsplit(serving.url)
    begun = [
        b"", b"POST", b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
        b"GET /healthz HTTP/1.1\r\nHost:",
    ]  # fmt: skip
    links = [socket.create_connection((address.hostname, address.port), timeout=10) for _ in range(400)]
    try:
        for at, link in enumerate(links):
            link.sendall(begun[at % len(begun)])
        started = time.monotonic()
        assert serving.chat()[0] == 200
        assert time.monotonic() - started < 30
    finally:
        for link in links:
            link.close()


def test_a_request_that_is_sent_again_with_its_key_has_one_effect(serving):
    answer = serving.chat()[2]
    judged, key = {"id": answer["id"], "value": 1}, {"Idempotency-Key": "k1"}
    first = serving.ask("/v1/feedback", judged, key)[2]
    assert serving.ask("/v1/feedback", judged, key)[2] == first
    assert first["corrected"] is None
    status, _, document = serving.ask("/v1/feedback", {**judged, "value": 0}, key)
    assert (status, document["error"]["code"]) == (409, "idempotency_key_reused")
