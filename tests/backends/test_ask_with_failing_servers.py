"""`messctl ask` and `chat` with a zoo of servers, one of which misbehaves."""

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from live_making import assert_one_line, assert_sound, typed
from servers import chunk, events, misbehaving, streamed

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
            assert ("400 (top_p is not known): check which" in err) == (request < 3)
            assert "shorten" not in err
        assert (len(broken.requests), len(other.requests)) == (3, 6)
        assert run(["status", "--json"]) == 0
        status = json.loads(capsys.readouterr().out)
        assert (status["lost"]["a"]["attempts"], status["refused"]) == (3, {})
    assert_sound(state, requests=6)


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
