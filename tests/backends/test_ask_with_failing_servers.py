"""`messctl ask` and `chat` with a zoo of servers, one of which misbehaves."""

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from live_making import assert_one_line, assert_sound, typed
from servers import USAGE, chunk, events, misbehaving, streamed

from messctl.cli import run
from messctl.state.store import Store

pytestmark = pytest.mark.usefixtures("state")


def sound(handler):
    handler.answer(streamed("4", "2"))


def sends(content):
    return lambda handler: handler.answer(content)


@pytest.fixture
def zoo(tmp_path):
    """Writes a zoo.yaml of servers, the cheapest first, without retries."""

    def written(*servers, retries=0, timeout_s=20):
        models = "".join(
            f"- {{name: {name}, url: {server.url}, cost: {{unit: USD, prompt: {price}, generated: {price}}}}}\n"
            for name, price, server in zip("abc", (1, 10, 100), servers, strict=False)
        )
        (tmp_path / "zoo.yaml").write_text(
            f"router: {{policy: bandit}}\ndefaults: {{retries: {retries}, timeout_s: {timeout_s}}}\nmodels:\n{models}"
        )

    return written


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [10**30, 10**400, -1], ids=["large", "larger", "negative"])
def test_absurd_token_counts_count_as_a_failure(tokens, zoo, state, capsys):
    counts = {"prompt_tokens": tokens, "completion_tokens": 3}
    with misbehaving(sends(streamed("6", "6", usage=counts))) as broken, misbehaving(sound) as other:
        zoo(broken, other)
        assert run(["ask", "hi", "--json"]) == 0
        asked = json.loads(capsys.readouterr().out)
        assert (asked["model"], asked["answer"], asked["attempts"]) == ("b", "42", ["a", "b"])
        assert run(["ask", "hi", "--model", "a", "--json"]) == 2
        assert "so its cost is unknown" in assert_one_line(2, *capsys.readouterr())
    assert_sound(state, requests=2)


def test_a_json_chat_uses_another_model_after_a_broken_answer_and_a_streamed_one_fails(zoo, monkeypatch, capsys):
    """With --json no part of the broken answer was shown; without it, a part was."""
    half = events(chunk(delta={"content": "4"}), done=False)
    for options, code in (["--json"], 0), ([], 2):
        with misbehaving(sends(half)) as broken, misbehaving(sound) as other:
            zoo(broken, other)
            typed(monkeypatch, b"hi\n")
            assert run(["chat", "--no-log", *options]) == code
            out, err = capsys.readouterr()
            assert (len(broken.requests), len(other.requests)) == (1, 1 - code // 2)
        if code:
            assert (out, "part of its answer was shown, so no other model was asked" in err) == ("4\n", True)
        else:
            turn = json.loads(out)
            assert (turn["answer"], turn["attempts"], err) == ("42", ["a", "b"], "")


def refuses(message, code=400):
    return lambda handler: handler.answer(json.dumps({"error": {"message": message}}).encode(), code)


def test_a_server_that_refuses_everything_is_left_alone_after_three_requests(zoo, state, capsys, clock):
    with misbehaving(refuses("top_p is not known")) as broken, misbehaving(sound) as other:
        zoo(broken, other)
        for request in range(6):
            assert run(["ask", "hi"]) == 0
            out, err = capsys.readouterr()
            assert out == "42\n"
            assert ("400 (top_p is not known): add `omit: [top_p]`" in err) == (request < 3)
            assert "shorten" not in err
        assert (len(broken.requests), len(other.requests)) == (3, 6)
        assert run(["status", "--json"]) == 0
        status = json.loads(capsys.readouterr().out)
        assert (status["lost"]["a"]["attempts"], status["refused"]) == (3, {})
    assert_sound(state, requests=6)


NULL_AT_THE_END = events(chunk(delta={"content": "42"}, finish_reason="stop"), {"choices": None, "usage": USAGE})
ALIVE = b"data:\n\ndata: : working\n\nevent: ping\ndata: {}\n\n" + streamed("4", "2")
LISTED = streamed().replace(b'"delta": {}', b'"delta": {"content": [{"type": "text", "text": "42"}]}')


@pytest.mark.parametrize(
    "behaviour",
    [sends(NULL_AT_THE_END), sends(ALIVE), sends(LISTED), lambda handler: handler.answer(streamed("42"), kind=None)],
    ids=["choices that are null", "keep-alives", "a list of parts", "no Content-Type"],
)
def test_an_answer_in_an_unusual_shape_is_shown_stored_and_graded(behaviour, zoo, state, capsys):
    with misbehaving(behaviour) as server:
        zoo(server)
        assert run(["ask", "hi", "--expect", "42", "--json"]) == 0
        asked = json.loads(capsys.readouterr().out)
        assert (asked["answer"], asked["satisfied"], asked["finish"]) == ("42", 1.0, "stop")
        assert run(["status", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["lost"] == {}
    assert_sound(state, requests=1)


def test_an_answer_in_an_unknown_shape_is_no_empty_answer(zoo, state, capsys):
    odd = json.dumps({"choices": [{"message": {"content": {"words": "42"}}, "finish_reason": "stop"}], "usage": USAGE})
    with misbehaving(lambda handler: handler.answer(odd.encode())) as server:
        zoo(server)
        assert run(["ask", "hi", "--expect", "42"]) == 2
        assert "in a shape that is not known" in assert_one_line(2, *capsys.readouterr())
    assert_sound(state, requests=1)


@pytest.mark.parametrize("code", [200, 500])
def test_a_prompt_that_is_too_long_is_refused_and_the_model_stays_in_use(code, zoo, state, capsys):
    error = {
        "code": 400,
        "message": "the request exceeds the available context size",
        "type": "exceed_context_size_error",
    }
    with misbehaving(lambda handler: handler.answer(json.dumps({"error": error}).encode(), code)) as server:
        zoo(server)
        for number in (1, 2):
            assert run(["ask", "hi"]) == 2
            assert "shorten it" in assert_one_line(2, *capsys.readouterr())
            assert len(server.requests) == number
        assert run(["status", "--json"]) == 0
        status = json.loads(capsys.readouterr().out)
        assert (status["lost"], status["refused"]["a"]["prompts"]) == ({}, 2)
    assert_sound(state, requests=2)


@pytest.mark.parametrize(
    ("name", "message", "line"),
    [
        ("top_p", "`temperature` and `top_p` cannot both be specified for this model. Use only one.", "omit: [top_p]"),
        ("stream_options", "Extra inputs are not permitted, field: 'stream_options'", "omit: [stream_options]"),
        (
            "max_tokens",
            "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.",
            "max_tokens_key: max_completion_tokens",
        ),
    ],
)
def test_with_the_line_that_the_error_names_the_server_answers(name, message, line, zoo, state, tmp_path, capsys):
    def behaves(handler):
        (refuses(message) if name in handler.server.requests[-1][2] else sound)(handler)

    with misbehaving(behaves) as server:
        zoo(server)
        assert run(["ask", "hi"]) == 2
        assert f"refuses `{name}` with 400" in (error := assert_one_line(2, *capsys.readouterr()))
        assert f"add `{line}` to model 'a' in zoo.yaml" in error
        path = tmp_path / "zoo.yaml"
        path.write_text(path.read_text().replace("name: a,", f"name: a, {line},"))
        assert run(["ask", "hi"]) == 0
        assert capsys.readouterr().out == "42\n"


def test_a_server_that_refuses_long_prompts_still_gets_requests(zoo, state, capsys):
    with misbehaving(refuses("maximum context length is 512")) as small, misbehaving(sound) as other:
        zoo(small, other)
        for _ in range(5):
            assert run(["ask", "hi"]) == 0
            assert "shorten it" in capsys.readouterr().err
        assert (len(small.requests), len(other.requests)) == (5, 5)
    assert_sound(state, requests=5)


def fails(handler):
    handler.answer(b"", 500)


def test_a_hanging_server_gets_one_request_at_a_time(zoo, state, capsys, clock):
    """Other requests go to the next model as long as it hangs, and the log counts one failure."""
    hangs = threading.Event()

    def hangs_then_hangs_up(handler):
        hangs.set()
        handler.server.released.wait(60)
        handler.connection.shutdown(socket.SHUT_RDWR)

    with misbehaving(fails, hangs_then_hangs_up) as hung, misbehaving(sound) as other:
        zoo(hung, other, timeout_s=600)
        assert run(["ask", "hi"]) == 0
        clock.now += 6
        with ThreadPoolExecutor(1) as pool:
            tries = pool.submit(run, ["ask", "hi"])
            assert hangs.wait(60)
            for _ in range(3):
                clock.now += 100
                assert run(["ask", "hi"]) == 0
            assert len(hung.requests) == 2
            hung.released.set()
            assert tries.result() == 0
        assert capsys.readouterr().out == "42\n" * 5
    with Store(state) as store:
        assert [set(each.lost) for each in store.requests] == [{"a"}, {"a"}, set(), set(), set()]
        lost = store.outages.lost()["a"]
    assert (lost.attempts, lost.again_at - lost.at) == (2, 10)
    assert_sound(state, requests=5)
