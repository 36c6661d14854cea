"""Clients that leave, queues, and the stop: what is running ends in the right order, and nothing runs for nobody."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import urlsplit

import pytest
from servers import misbehaving, streamed
from serving import BOX, TWO, Serving, until

pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow

CHAT = "/v1/chat/completions"
SERVER = """
defaults: {{retries: 2}}
models:
- {{name: away, url: "{}", cost: {{unit: USD, prompt: 1, generated: 1}}}}
"""


def send(serving, **fields):
    """Send a chat request on a bare socket, and return the socket."""
    address = urlsplit(serving.url)
    body = json.dumps({"messages": [{"role": "user", "content": "count"}], **fields}).encode()
    link = socket.create_connection((address.hostname, address.port), timeout=60)
    link.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (CHAT.encode(), len(body)) + body)
    return link


def running(serving):
    return serving.ask("/v1/status")[2]["running"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_is_left_at_once_when_the_client_leaves_before_the_first_token(tmp_path, stream):
    asked, left = threading.Event(), threading.Event()

    def silent(handler):
        asked.set()
        if not handler.connection.recv(1):  # the other end has closed
            left.set()

    with misbehaving(silent) as server, Serving(tmp_path, SERVER.format(server.url)) as serving:
        with send(serving, stream=stream):
            assert asked.wait(20)
        assert left.wait(5)
        until(lambda: running(serving) == 0)
        time.sleep(0.5)
        assert len(server.requests) == 1  # a cut connection is not tried again
        assert serving.ask("/v1/status")[2]["lost"] == {}  # and is no failure of the model


def test_a_model_in_this_process_stops_when_the_client_leaves(tmp_path):
    pytest.importorskip("llama_cpp")
    with Serving(tmp_path, BOX) as serving:
        with send(serving, model="mini", max_tokens=2000, temperature=2.0, stream=True) as link:
            while b"content" not in link.recv(4096):
                pass
        assert until(lambda: running(serving) == 0) < 5
        assert serving.ask("/v1/status")[2]["answered"] == 0


def test_requests_wait_in_line_and_those_beyond_are_told_to_come_again(tmp_path):
    with Serving(tmp_path, TWO, "--queue", "1", scripted=0) as serving, ThreadPoolExecutor(4) as pool:
        with serving.held("cheap"):
            asked = [pool.submit(serving.chat, model="cheap") for _ in range(4)]
            until(lambda: sum(each.done() for each in asked) == 2)
        replies = [each.result() for each in asked]
        statuses = sorted(status for status, _, _ in replies)
        assert statuses == [200, 200, 429, 429]
        refused = next(reply for reply in replies if reply[0] == 429)
        assert int(refused[1]["retry-after"]) >= 1
        assert "x-should-retry" not in refused[1]
        assert refused[2]["error"]["code"] == "rate_limit_exceeded"
        assert serving.ask("/v1/status")[2]["lost"] == {}  # a full queue is no failure of the model


def test_a_full_queue_sends_a_request_to_another_model(tmp_path):
    with Serving(tmp_path, TWO, "--queue", "0", scripted=0) as serving, ThreadPoolExecutor(1) as pool:
        with serving.held("cheap"):
            first = pool.submit(serving.chat, model="cheap")
            until(lambda: running(serving) == 1)
            status, _, answer = serving.chat()
        assert (status, answer["model"], answer["messctl"]["attempts"]) == (200, "dear", ["dear"])
        assert first.result()[0] == 200


def test_a_place_in_the_line_is_free_when_its_client_leaves(tmp_path):
    with Serving(tmp_path, TWO, "--queue", "1", scripted=0) as serving, ThreadPoolExecutor(2) as pool:
        with serving.held("cheap"):
            first = pool.submit(serving.chat, model="cheap")
            until(lambda: running(serving) == 1)
            with send(serving, model="cheap"):
                until(lambda: running(serving) == 2)
                assert serving.chat(model="cheap")[0] == 429
            until(lambda: running(serving) == 1)
            second = pool.submit(serving.chat, model="cheap")
            until(lambda: running(serving) == 2)
        assert (first.result()[0], second.result()[0]) == (200, 200)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_answers_finish(tmp_path, stop):
    def refused():
        with closing(serving.connection()) as link:
            try:
                link.connect()
            except ConnectionRefusedError:
                return True
        return False

    with Serving(tmp_path, TWO, scripted=0) as serving, ThreadPoolExecutor(1) as pool:
        with serving.held("cheap", "dear"):
            asked = pool.submit(serving.chat)
            until(lambda: running(serving) == 1)
            serving.process.send_signal(stop)
            until(refused)
        assert asked.result()[0] == 200
        assert serving.process.wait(20) == 0


def test_a_stop_ends_what_takes_longer_than_it_may(tmp_path):
    def slow(handler):
        handler.server.released.wait(30)

    with (
        misbehaving(slow) as server,
        Serving(tmp_path, SERVER.format(server.url), "--grace", "0.5") as serving,
        ThreadPoolExecutor(2) as pool,
    ):
        asked = pool.submit(serving.chat)
        until(lambda: running(serving) == 1)
        started = time.monotonic()
        serving.stop(20)
        assert time.monotonic() - started < 10
        status, _, document = asked.result()
        assert (status, document["error"]["code"]) == (503, "stopping")
    assert serving.process.returncode == 0


def test_a_slow_model_keeps_the_line_alive_with_comments(tmp_path):
    def slow(handler):
        time.sleep(3)
        handler.answer(streamed("at last"))

    with (
        misbehaving(slow) as server,
        Serving(tmp_path, SERVER.format(server.url)) as serving,
        send(serving, stream=True) as link,
    ):
        received = b""
        while b"[DONE]" not in received:
            received += link.recv(4096)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert body.index(b": waiting for the model") < body.index(b"at last")


def test_a_session_stays_with_the_model_that_remembers_it(tmp_path):
    text = streamed("yes", usage={"prompt_tokens": 300, "completion_tokens": 1})
    models = """
router: {{seed: 1}}
models:
- {{name: one, url: "{}", cost: {{unit: USD, prompt: 1, generated: 1}}}}
- {{name: two, url: "{}", cost: {{unit: USD, prompt: 1.2, generated: 1}}}}
"""
    long = "word " * 200
    with (
        misbehaving(lambda handler: handler.answer(text)) as server,
        Serving(tmp_path, models.format(server.url, server.url)) as serving,
    ):
        body = {"messages": [{"role": "user", "content": long}]}
        for model in ("one", "two"):
            for _ in range(3):
                assert serving.ask(CHAT, {**body, "model": model})[0] == 200
        without = [serving.ask(CHAT, body)[2]["model"] for _ in range(4)]
        for header, field in (({"x-session-id": "s"}, {}), ({}, {"prompt_cache_key": "p"}), ({}, {"user": "u"})):
            assert serving.ask(CHAT, {**body, **field, "model": "two"}, header)[0] == 200
            within = [serving.ask(CHAT, {**body, **field}, header)[2]["model"] for _ in range(4)]
            assert within.count("two") > without.count("two")
