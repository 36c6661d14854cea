"""Models at servers: the request, every kind of answer and fault, and how often a request is sent again."""

from __future__ import annotations

import json
import logging
import re
import socket
import subprocess
import sys
import threading
import time
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from servers import USAGE, chunk, events, free_port, misbehaving, streamed

from messctl.backends import Dispatch, OpenAICompatible, Scripted
from messctl.backends.event_stream import LONGEST_EVENT
from messctl.backends.patience import patience_s
from messctl.cli import run
from messctl.errors import BackendError, PromptError, PromptTooLongError, RefusedError
from messctl.records import Question
from messctl.zoo import ModelSpec
from messctl.zoo.server_keys import PARAMETERS

KEY = "sk-topsecret-0123456789"
QUESTION = Question("What is 17 + 25?")


def sound(handler):
    handler.answer(streamed("4", "2"))


def status(code, body=b"", kind="application/json", **headers):
    return lambda handler: handler.answer(body, code, kind, **headers)


def error_of(code, message, **headers):
    return status(code, json.dumps({"error": {"message": message}}).encode(), **headers)


def sends(content, kind="text/event-stream", length=None):
    return lambda handler: handler.answer(content, 200, kind, length)


def hangs(handler):
    handler.server.released.wait(30)


def hangs_up(handler):
    handler.connection.shutdown(socket.SHUT_RDWR)


def pings_forever(handler):
    """Keep the connection open with comments, and send no answer."""
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.end_headers()
    while not handler.server.released.wait(0.05):
        handler.wfile.write(b": ping\n\n")
        handler.wfile.flush()


def spec(url, **more):
    return ModelSpec("big[red]", url=url, **{"timeout_s": 5.0, **more})


@pytest.fixture
def backend():
    made = OpenAICompatible(pause=lambda _: None)
    yield made
    made.close()


def asked(server, question=QUESTION, on_text=None, pauses=None, **more):
    pauses = [] if pauses is None else pauses
    backend = OpenAICompatible(pause=pauses.append)
    try:
        return backend.complete(spec(server.url, **more), question, on_text)
    finally:
        backend.close()


# --- requests and answers -----------------------------------------------------------


def test_the_request_holds_the_question_in_openai_format():
    question = Question("and now?", "Be brief.", (("hi", "hello"),), max_tokens=9, temperature=0.5, seed=7)
    with misbehaving(sound) as server:
        got = asked(server, question, model="org/big", temperature=0.0, top_p=0.9)
        ((path, headers, body),) = server.requests
    assert path == "/v1/chat/completions"
    assert "Authorization" not in headers
    assert body == {
        "model": "org/big",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "hello"},
            {"role": "user", "content": "and now?"},
        ],
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert (got.model, got.answer, got.tokens_in, got.tokens_out, got.finish) == ("big[red]", "42", 7, 3, "stop")
    assert (got.load_s, 0 < got.latency_s < 60) == (0.0, True)


def test_a_models_own_settings_apply_if_the_question_has_none():
    with misbehaving(sound) as server:
        asked(server, system="Be kind.", max_tokens=5, temperature=0.25)
        body = server.requests[0][2]
    assert body["model"] == "big[red]"
    assert body["messages"][0] == {"role": "system", "content": "Be kind."}
    assert (body["max_tokens"], body["temperature"], "seed" in body) == (5, 0.25, False)


EVERYTHING = Question("hi", max_tokens=9, seed=7)


def test_every_parameter_of_a_request_can_be_left_out_and_no_other():
    with misbehaving(sound) as server:
        asked(server, EVERYTHING)
        body = server.requests[0][2]
    assert set(body) == {"model", "messages", *PARAMETERS}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_that_zoo_yaml_omits_is_not_sent(name):
    whole = sends(
        json.dumps({"choices": [{"message": {"content": "42"}}], "usage": USAGE}).encode(), "application/json"
    )
    with misbehaving(whole if name == "stream" else sound) as server:
        assert asked(server, EVERYTHING, omit=(name,)).answer == "42"
        body = server.requests[0][2]
    missing = {"stream", "stream_options"} if name == "stream" else {name}
    assert set(body) == {"model", "messages", *PARAMETERS} - missing


def test_the_limit_is_sent_under_the_name_in_zoo_yaml():
    with misbehaving(sound) as server:
        asked(server, EVERYTHING, max_tokens_key="max_completion_tokens")
        asked(server, EVERYTHING, max_tokens_key="max_completion_tokens", omit=("max_tokens",))
        first, second = (body for _, _, body in server.requests)
    assert (first["max_completion_tokens"], "max_tokens" in first) == (9, False)
    assert not {"max_completion_tokens", "max_tokens"} & set(second)


def refusing(*names):
    """Refuse a request with one of these parameters; answer any other."""

    def behaves(handler):
        body = handler.server.requests[-1][2]
        bad = [name for name in names if name in body]
        if bad:
            error_of(400, f"Unsupported parameter: '{bad[0]}' is not supported with this model.")(handler)
        else:
            sound(handler)

    return behaves


@pytest.mark.parametrize("names", [("top_p",), ("stream_options", "seed"), ("temperature", "top_p", "stream_options")])
def test_the_errors_of_a_server_that_refuses_parameters_lead_to_an_answer(names):
    """Whoever does what each error says, one after the other, gets an answer; each line holds the earlier ones too."""
    omit = ()
    for _ in names:
        with misbehaving(refusing(*names)) as server, pytest.raises(RefusedError) as raised:
            asked(server, EVERYTHING, omit=omit)
        (line,) = re.findall(r"add `omit: \[(.*?)\]` to model 'big\[red\]' in zoo.yaml", str(raised.value))
        omit = tuple(line.split(", "))
    assert set(omit) == set(names)
    with misbehaving(refusing(*names)) as server:
        assert asked(server, EVERYTHING, omit=omit).answer == "42"


def test_a_server_that_refuses_the_other_name_of_the_limit_gets_the_usual_one():
    message = "Extra inputs are not permitted, field: 'max_completion_tokens'. Did you mean 'max_tokens'?"
    with misbehaving(error_of(400, message)) as server, pytest.raises(RefusedError) as raised:
        asked(server, max_tokens_key="max_completion_tokens")
    assert "add `max_tokens_key: max_tokens` to model" in str(raised.value)


def test_counts_are_asked_for_with_the_models_own_parameters():
    whole = {"choices": [{"message": {"content": "4"}, "finish_reason": "length"}], "usage": USAGE}
    counts = sends(json.dumps(whole).encode(), "application/json")
    with misbehaving(sends(streamed("4", "2", usage=None)), counts) as server:
        got = asked(server, omit=("stream_options", "top_p"), max_tokens_key="max_completion_tokens")
        first, second = (body for _, _, body in server.requests)
    assert (got.tokens_in, got.tokens_out) == (7, 2)
    assert second == {**{name: first[name] for name in first if name != "stream"}, "max_completion_tokens": 1}


def test_thinking_counts_as_tokens_if_the_server_counts_none():
    pieces = [chunk(delta={"reasoning_content": "hm"}), chunk(delta={"content": "42"}, finish_reason="stop")]
    whole = {"choices": [{"message": {"content": "4"}}], "usage": USAGE}
    counts = sends(json.dumps(whole).encode(), "application/json")
    with misbehaving(sends(events(*pieces)), counts) as server:
        assert asked(server).tokens_out == 2


def test_after_a_stream_in_an_unknown_shape_the_retry_does_not_stream():
    odd = events(chunk(delta={"words": "42"}, finish_reason="stop"))
    whole = json.dumps({"choices": [{"message": {"content": "42"}}], "usage": USAGE}).encode()
    with misbehaving(sends(odd), sends(whole, "application/json")) as server:
        assert asked(server).answer == "42"
        assert ["stream" in body for _, _, body in server.requests] == [True, False]


def test_a_whole_answer_in_an_unknown_shape_is_not_asked_for_again():
    odd = json.dumps({"choices": [{"message": {"content": 42}}], "usage": USAGE}).encode()
    with misbehaving(sends(odd, "application/json")) as server, pytest.raises(BackendError, match="is not known"):
        asked(server)
    assert len(server.requests) == 1


def test_a_prompt_that_is_too_long_says_by_how_much():
    """The shares are what `chat` uses to drop old turns."""
    error = {"message": "no", "type": "exceed_context_size_error", "n_prompt_tokens": 8192, "n_ctx": 2048}
    refuses = status(400, json.dumps({"error": error}).encode())
    with misbehaving(refuses) as server, pytest.raises(PromptTooLongError) as raised:
        asked(server)
    assert raised.value.excess == 0.75


def test_a_server_that_hangs_after_the_whole_answer_has_answered():
    def answers_and_hangs(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        handler.wfile.write(streamed("4", "2", done=False))
        handler.wfile.flush()
        handler.server.released.wait(30)

    with misbehaving(answers_and_hangs) as server:
        got = asked(server, timeout_s=0.5)
        assert (got.answer, got.tokens_out, len(server.requests)) == ("42", 3, 1)


def test_a_stream_that_stays_open_after_done_is_not_waited_for():
    def stays_open(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        handler.wfile.write(streamed("4", "2").removesuffix(b"\n"))
        handler.wfile.flush()
        assert handler.server.released.wait(30)

    with misbehaving(stays_open) as server:
        assert asked(server, timeout_s=600).answer == "42"


def test_a_server_that_sends_only_blanks_is_silent():
    def blanks(handler):
        handler.send_response(200)
        handler.end_headers()
        while not handler.server.released.wait(0.05):
            handler.wfile.write(b"\n")
            handler.wfile.flush()

    with misbehaving(blanks) as server, pytest.raises(BackendError, match="sends nothing for 0.3 s"):
        asked(server, timeout_s=0.3)


def test_keep_alives_in_data_do_not_count_as_an_answer():
    def only_alive(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        while not handler.server.released.wait(0.05):
            handler.wfile.write(b'data: : processing\n\nevent: ping\ndata: {}\n\ndata: {"type": "ping"}\n\n')
            handler.wfile.flush()

    with misbehaving(only_alive) as server, pytest.raises(BackendError, match="sends nothing for 0.3 s"):
        asked(server, timeout_s=0.3)


SPLIT = streamed("Grö", "ße\u2028 🙂", "\x1b[31m")
ANSWERS = [
    (sends(streamed("4", "2")), "42", "stop"),
    (sends(streamed("4", "2", done=False)), "42", "stop"),
    (sends(streamed("4", "2", finish="length")), "42", "length"),
    (sends(streamed()), "", "stop"),
    (sends(SPLIT), "Größe\u2028 🙂\x1b[31m", "stop"),
    (sends(streamed("4", "2").replace(b"\n", b"\r\n")), "42", "stop"),
    (sends(b": hi\n\nevent: x\n" + streamed("4", "2")), "42", "stop"),
    (sends(json.dumps({"choices": [{"message": {"content": "42"}, "finish_reason": "stop"}], "usage": USAGE}).encode(),
           "application/json"), "42", "stop"),
]  # fmt: skip


@pytest.mark.parametrize(("behaviour", "answer", "finish"), ANSWERS)
def test_every_valid_form_of_answer_is_understood(behaviour, answer, finish):
    pieces = []
    with misbehaving(behaviour) as server:
        got = asked(server, on_text=pieces.append)
    assert (got.answer, got.finish, got.tokens_in, got.tokens_out) == (answer, finish, 7, 3)
    assert "".join(pieces) == answer


def test_half_a_surrogate_pair_becomes_a_replacement_character():
    lone = b'data: {"choices": [{"delta": {"content": "a\\ud83d"}, "finish_reason": "stop"}], "usage": '
    with misbehaving(sends(lone + json.dumps(USAGE).encode() + b"}\n\n")) as server:
        assert asked(server).answer == "a\ufffd"
        assert asked(server, Question("x\udcff")).answer == "a\ufffd"


def test_a_piece_arrives_before_the_next_is_sent():
    shown = threading.Event()

    def waits(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(events(chunk(delta={"content": "first"}), done=False))
        handler.wfile.flush()
        assert shown.wait(20)
        handler.wfile.write(streamed(" second"))
        handler.close_connection = True

    with misbehaving(waits) as server:
        assert asked(server, on_text=lambda text: shown.set(), timeout_s=30).answer == "first second"


def test_a_stream_without_token_counts_is_followed_by_a_request_for_them():
    whole = {
        "choices": [{"message": {"content": "4"}, "finish_reason": "length"}],
        "usage": {**USAGE, "completion_tokens": 1},
    }
    with misbehaving(
        sends(streamed("4", "2", usage=None)), sends(json.dumps(whole).encode(), "application/json")
    ) as server:
        got = asked(server)
        first, second = (body for _, _, body in server.requests)
    assert (got.answer, got.tokens_in, got.tokens_out) == ("42", 7, 2)
    assert (second["messages"], second["max_tokens"], "stream" in second) == (first["messages"], 1, False)


def counting(prompt, completion):
    return {"prompt_tokens": prompt, "completion_tokens": completion}


ABSURD = [counting(10**30, 3), counting(7, 10**400), counting(-1, 3), counting(2**31, 3), counting(1e30, 3)]


@pytest.mark.parametrize("usage", [None, {}, counting(0, 0), {"prompt_tokens": "7"}, counting(True, 3), *ABSURD])
def test_missing_or_absurd_token_counts_are_an_error(usage):
    with misbehaving(sends(streamed("4", "2", usage=usage))) as server, pytest.raises(BackendError) as raised:
        asked(server)
    assert "gives no token counts (`usage`), so its cost is unknown: use a server that counts tokens" in str(
        raised.value
    )


# --- faults: (behaviour, message, number of attempts with two retries) ------

BROKEN = events(chunk(delta={"content": "4"}), done=False)
FAULTS = [
    (error_of(401, "bad key"), "refuses the key with 401 (bad key): set THE_KEY to a key that it accepts", 1),
    (status(403, b"<html>no</html>", "text/html"), "refuses the key with 403 (<html>no</html>)", 1),
    (status(404, b'{"detail": "Not Found"}'), "is not found, 404 (Not Found): check `model` and the url", 1),
    (status(301, Location="http://elsewhere/"), "has moved, 301: use the url that it redirects to", 1),
    (error_of(400, "context is 512"), "refuses the request with 400 (context is 512): shorten it", 1),
    (error_of(422, "Input is longer than 9"), "refuses the request with 422 (Input is longer than 9): shorten it", 1),
    (status(413), "refuses the request with 413: shorten it", 1),
    (error_of(400, "top_p: unknown"), "refuses `top_p` with 400 (top_p: unknown): add `omit: [top_p]` to model", 1),
    (error_of(400, "no"), "refuses the request with 400 (no): check which prompts and", 1),
    (status(422, b'{"detail": [{"msg": "x"}]}'), "refuses the request with 422 (x): check which", 1),
    (error_of(429, "slow down"), "gets too many requests, 429 (slow down): wait", 3),
    (error_of(429, "slow down", Retry_After="3600"), "gets too many requests, 429", 1),
    (status(500), "fails with 500: see the server's log (tried 3 times)", 3),
    (status(503, b"\xff\x1b[31m"), "fails with 503 (\ufffd\\x1b[31m)", 3),
    (status(501), "fails with 501", 1),
    (sends(b"", "application/json"), "sends an empty answer", 3),
    (sends(b"", "text/event-stream"), "stops in the middle of its answer", 3),
    (sends(b"{", "application/json"), "sends invalid JSON", 3),
    (sends(b"[1]", "application/json"), "sends invalid JSON", 3),
    (sends(b"[" * 100_000, "application/json"), "sends invalid JSON", 3),
    (sends(b"data: {\n\n"), "sends invalid JSON", 3),
    (sends(b"data: 1\n\n"), "sends invalid JSON (1)", 3),
    (sends(b"data: {}\n\n"), "sends JSON that is not an answer", 3),
    (sends(b"{}", "application/json"), "sends JSON that is not an answer", 3),
    (sends(b"data: " + b"x" * (LONGEST_EVENT + 1)), "sends more than 4 MiB in one event", 3),
    (sends(events({"error": {"message": "out of memory"}})), "fails during its answer (out of memory)", 3),
    (sends(BROKEN), "stops in the middle of its answer", 3),
    (sends(BROKEN, length=9999), "closes the connection too early", 3),
    (hangs_up, "closes the connection too early", 3),
]  # fmt: skip


@pytest.mark.parametrize(("behaviour", "message", "times"), FAULTS)
def test_each_fault_has_its_message_and_its_number_of_attempts(behaviour, message, times, monkeypatch):
    monkeypatch.setenv("THE_KEY", KEY)
    with misbehaving(behaviour) as server, pytest.raises(BackendError) as raised:
        asked(server, key_env="THE_KEY")
    text = str(raised.value)
    assert text.startswith(f"model 'big[red]' ({server.url}): {message}")
    assert text.isprintable()
    assert len(server.requests) == times
    assert isinstance(raised.value, PromptError) == ("shorten it" in text)
    assert isinstance(raised.value, RefusedError) == ("which prompts" in text or "omit:" in text)


@pytest.mark.parametrize(
    ("behaviour", "message"), [(hangs, "sends nothing for 0.3 s"), (pings_forever, "sends nothing for 0.3 s")]
)
def test_a_silent_server_gets_no_second_request(behaviour, message):
    started = time.monotonic()
    with misbehaving(behaviour) as server, pytest.raises(BackendError, match=message):
        asked(server, timeout_s=0.3)
    assert len(server.requests) == 1
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(("timeout_s", "retries", "patience"), [(60, 0, 65), (60, 2, 3 * 65 + 2 * 8), (0.5, 1, 5)])
def test_the_longest_time_in_which_a_server_can_fail(timeout_s, retries, patience):
    assert patience_s(spec("http://h/v1", timeout_s=timeout_s, retries=retries)) == patience


def test_an_unreachable_server_is_tried_three_times(backend):
    with pytest.raises(BackendError, match=r"cannot be reached \(.*refused\): start the server.*\(tried 3 times\)"):
        backend.complete(spec(f"http://127.0.0.1:{free_port()}/v1"), QUESTION)


def test_an_unknown_host_is_reported(backend, monkeypatch):
    def unknown(*_arguments, **_options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(BackendError, match="has an unknown host: check the url"):
        backend.complete(spec("http://nowhere.invalid/v1"), QUESTION)


@pytest.mark.parametrize("fault", [status(500), status(429), hangs_up, sends(BROKEN), sends(b"{", "application/json")])
def test_a_failed_request_is_sent_again(fault):
    pieces, pauses = [], []
    with misbehaving(fault, fault, sound) as server:
        got = asked(server, pauses=pauses)
        assert (got.answer, len(server.requests)) == ("42", 3)
    assert 0.125 <= pauses[0] <= 0.25 <= pauses[1] <= 0.5
    with misbehaving(fault) as server, pytest.raises(BackendError) as raised:
        asked(server, on_text=pieces.append, retries=0)
    assert len(server.requests) == 1
    assert "tried" not in str(raised.value)


def test_no_retry_after_a_part_of_the_answer_was_shown():
    pieces = []
    with (
        misbehaving(sends(BROKEN, length=9999), sound) as server,
        pytest.raises(BackendError, match="connection too early"),
    ):
        asked(server, on_text=pieces.append)
    assert (pieces, len(server.requests)) == (["4"], 1)


def test_after_an_empty_stream_the_retry_does_not_stream():
    """llama-cpp-python's server gives no reason in a stream if the prompt is too long, but does so otherwise."""
    with misbehaving(sends(b"", "text/event-stream"), error_of(400, "maximum context length is 512")) as server:
        with pytest.raises(PromptError, match="refuses the request with 400 .maximum context length is 512.*2 times"):
            asked(server)
        assert ["stream" in body for _, _, body in server.requests] == [True, False]


def test_pauses_grow_to_a_bound():
    pauses = []
    with misbehaving(status(500)) as server, pytest.raises(BackendError, match="tried 11 times"):
        asked(server, retries=10, pauses=pauses)
    assert all(0.5 * min(8, 0.25 * 2**k) <= pause <= min(8, 0.25 * 2**k) for k, pause in enumerate(pauses))


@pytest.mark.parametrize(
    ("header", "pauses", "again_after_s"),
    [("2", 2, 2.0), ("8", 2, 8.0), ("9", 0, 9.0), ("in an hour", 0, 3600), ("soon", 2, 0.0), ("-1", 2, 0.0),
     ("nan", 2, 0.0), ("1e999", 0, 86400), (format_datetime(datetime(2001, 1, 1, tzinfo=UTC)), 2, 0.0)],
)  # fmt: skip
def test_the_retry_after_header_sets_the_pause(header, pauses, again_after_s):
    """A short pause is waited for; a long one ends the request, and the error holds it."""
    waited = []
    if header == "in an hour":
        header = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    with misbehaving(status(429, Retry_After=header)) as server, pytest.raises(BackendError) as raised:
        asked(server, pauses=waited)
    assert len(waited) == pauses
    assert all(pause >= again_after_s for pause in waited)
    assert raised.value.again_after_s == pytest.approx(again_after_s, abs=1800)


# --- keys ---------------------------------------------------------------------------------------------


def test_the_key_goes_into_the_header(monkeypatch):
    monkeypatch.setenv("THE_KEY", f" {KEY}\n")
    with misbehaving(sound) as server:
        asked(server, key_env="THE_KEY")
        assert server.requests[0][1]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("value", "message"),
    [(None, "THE_KEY is not set"), (" ", "THE_KEY is not set"), ("sk-\u00e9", "characters"), ("a\nb", "characters")],
)
def test_an_unset_or_invalid_key_is_refused(value, message, monkeypatch):
    if value is None:
        monkeypatch.delenv("THE_KEY", raising=False)
    else:
        monkeypatch.setenv("THE_KEY", value)
    with misbehaving(sound) as server, pytest.raises(BackendError, match=message) as raised:
        asked(server, key_env="THE_KEY")
    assert server.requests == []
    assert value is None or value not in str(raised.value).replace("THE_KEY", "") or not value.strip()


@pytest.mark.parametrize(
    "behaviour",
    [*(behaviour for behaviour, _, _ in FAULTS), error_of(401, f"wrong key {KEY} given"), error_of(500, KEY),
     error_of(400, "x" * 190 + KEY), status(500, KEY.encode()), sends(events({"error": KEY})),
     sends(f"data: {KEY}\n\n".encode()), sends(f"event: {KEY}\ndata: 1\n\n".encode()),
     sends(f"event: error\ndata: {KEY}\n\n".encode()), error_of(400, f"top_p is not {KEY}"),
     sends(events(chunk(delta={KEY: "x"}, finish_reason="stop"))), sends(events(chunk(finish_reason=KEY))),
     sends(events(chunk(delta={"content": [{"type": KEY}]}))), sound],
)  # fmt: skip
def test_the_key_appears_nowhere_but_in_the_header(behaviour, backend, monkeypatch, caplog, capfd):
    """Not in messages, logs, tracebacks with all their variables, nor in the repr of objects."""
    monkeypatch.setenv("THE_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    with misbehaving(behaviour) as server:
        model = spec(server.url, key_env="THE_KEY")
        shown = [repr(model), repr(backend), repr(vars(backend))]
        try:
            backend.complete(model, QUESTION)
        except BackendError as error:
            shown += [str(error), repr(error)]
            whole = traceback.TracebackException.from_exception(error, capture_locals=True)
            shown += list(whole.format())
        assert server.requests[0][1]["Authorization"].endswith(KEY)
    shown += [caplog.text, *capfd.readouterr()]
    assert not any(KEY[:12] in text for text in shown)


# --- where it goes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_addresses_bypass_the_proxy(host, backend, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with misbehaving(sound) as server:
        url = server.url.replace("127.0.0.1", host)
        assert backend.complete(spec(url), QUESTION).answer == "42"


def test_other_hosts_use_the_proxy(backend, monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with misbehaving(sound) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        assert backend.complete(spec("http://models.invalid/v1"), QUESTION).answer == "42"
        assert proxy.requests[0][0] == "http://models.invalid/v1/chat/completions"


def test_an_invalid_proxy_is_reported(backend, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "gopher://x")
    monkeypatch.setenv("http_proxy", "gopher://x")
    with pytest.raises(BackendError, match="cannot use the proxy in the environment: check HTTPS_PROXY and NO_PROXY"):
        backend.complete(spec("http://models.invalid/v1"), QUESTION)


def test_dispatch_sends_each_model_to_its_backend():
    with misbehaving(sound) as server:
        backend = Dispatch(lambda: Scripted({"here": "local"}), OpenAICompatible)
        here = ModelSpec("here", Path("here.gguf"))
        assert [backend.complete(model, QUESTION).answer for model in (here, spec(server.url))] == ["local", "42"]
        backend.close()


def test_a_zoo_of_servers_needs_no_llama_cpp(tmp_path):
    with misbehaving(sound) as server:
        (tmp_path / "zoo.yaml").write_text(f"models:\n- {{name: big, url: {server.url}, parameters: 1e9}}\n")
        code = (
            "import sys; sys.modules['llama_cpp'] = None; from messctl.cli import run\n"
            f"run(['ask', 'hi', '--state', {str(tmp_path / 'state')!r}])"
        )
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")


def test_a_check_finds_the_model_that_ollama_lists_with_its_tag(tmp_path, capsys):
    listing = json.dumps({"object": "list", "data": [{"id": "smollm2:latest"}]}).encode()
    with misbehaving(sends(listing, "application/json")) as server:
        path = tmp_path / "zoo.yaml"
        path.write_text(f"models:\n- {{name: s, url: {server.url}, model: smollm2, parameters: 1}}\n")
        assert run(["zoo", "check", "--zoo", str(path), "--json"]) == 0
    checked = json.loads(capsys.readouterr().out)
    assert (checked["problems"], checked["models"][0]["listed"]) == ([], ["smollm2:latest"])


def test_a_server_lists_its_models(backend):
    listing = json.dumps({"object": "list", "data": [{"id": "a"}, {"id": "b\x1b"}, {}, 3]}).encode()
    with misbehaving(sends(listing, "application/json")) as server:
        assert backend.list_models(spec(server.url)) == ("a", "b\x1b")
        assert server.requests[0][0] == "/v1/models"
    with misbehaving(status(404)) as server, pytest.raises(BackendError, match="is not found, 404"):
        backend.list_models(spec(server.url))
