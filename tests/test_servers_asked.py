"""`messctl ask` and `chat` with a zoo of servers of which one misbehaves: what comes of it where it is typed."""

import json
import time
from types import SimpleNamespace

import pytest
from live_making import assert_one_line, assert_sound, typed
from servers import chunk, events, misbehaving, streamed

from messctl.cli import run

pytestmark = pytest.mark.usefixtures("state")


def sound(handler):
    handler.answer(streamed("4", "2"))


def sends(content):
    return lambda handler: handler.answer(content)


@pytest.fixture
def zoo(tmp_path):
    """Writes a zoo.yaml of servers, the first the cheapest, each asked once per request."""

    def written(*servers, retries=0, timeout_s=20):
        models = "".join(
            f"- {{name: {name}, url: {server.url}, cost: {{unit: USD, prompt: {price}, generated: {price}}}}}\n"
            for name, price, server in zip("abc", (1, 10, 100), servers, strict=False)
        )
        (tmp_path / "zoo.yaml").write_text(
            f"router: {{policy: bandit}}\ndefaults: {{retries: {retries}, timeout_s: {timeout_s}}}\nmodels:\n{models}"
        )

    return written


@pytest.fixture
def clock(monkeypatch):
    """The store's clock, which stands still until it is moved."""
    made = SimpleNamespace(now=1.7e9)
    stopped = SimpleNamespace(time=lambda: made.now, monotonic=time.monotonic, sleep=time.sleep)
    monkeypatch.setattr("messctl.store.time", stopped)
    return made


@pytest.mark.parametrize("tokens", [10**30, 10**400, -1], ids=["large", "larger", "negative"])
def test_a_server_that_miscounts_is_a_broken_one(tokens, zoo, state, capsys):
    counts = {"prompt_tokens": tokens, "completion_tokens": 3}
    with misbehaving(sends(streamed("6", "6", usage=counts))) as broken, misbehaving(sound) as other:
        zoo(broken, other)
        assert run(["ask", "hi", "--json"]) == 0
        asked = json.loads(capsys.readouterr().out)
        assert (asked["model"], asked["answer"], asked["attempts"]) == ("b", "42", ["a", "b"])
        assert run(["ask", "hi", "--model", "a", "--json"]) == 2
        assert "its cost cannot be known" in assert_one_line(2, *capsys.readouterr())
    assert_sound(state, requests=2)


def test_a_chat_of_documents_goes_on_where_a_server_breaks_off(zoo, monkeypatch, capsys):
    """Nobody has seen a part of an answer that is shown when it is whole; of one that streams, somebody has."""
    half = events(chunk(delta={"content": "4"}), done=False)
    for options, code in (["--json"], 0), ([], 2):
        with misbehaving(sends(half)) as broken, misbehaving(sound) as other:
            zoo(broken, other)
            typed(monkeypatch, b"hi\n")
            assert run(["chat", "--no-log", *options]) == code
            out, err = capsys.readouterr()
            assert (len(broken.requests), len(other.requests)) == (1, 1 - code // 2)
        if code:
            assert (out, "part of its answer was told, so no other model was asked" in err) == ("4\n", True)
        else:
            turn = json.loads(out)
            assert (turn["answer"], turn["attempts"], err) == ("42", ["a", "b"], "")


def refuses(message, code=400):
    return lambda handler: handler.answer(json.dumps({"error": {"message": message}}).encode(), code)


def test_a_server_that_refuses_everything_is_not_asked_first_for_ever(zoo, state, capsys, clock):
    with misbehaving(refuses("top_p is not known")) as broken, misbehaving(sound) as other:
        zoo(broken, other)
        for request in range(6):
            assert run(["ask", "hi"]) == 0
            out, err = capsys.readouterr()
            assert out == "42\n"
            assert ("400 (top_p is not known): see which" in err) == (request < 3)
            assert "shorten" not in err
        assert (len(broken.requests), len(other.requests)) == (3, 6)
        assert run(["status", "--json"]) == 0
        status = json.loads(capsys.readouterr().out)
        assert (status["lost"]["a"]["attempts"], status["refused"]) == (3, {})
    assert_sound(state, requests=6)


def test_a_server_that_refuses_long_prompts_is_asked_on(zoo, state, capsys):
    with misbehaving(refuses("maximum context length is 512")) as small, misbehaving(sound) as other:
        zoo(small, other)
        for _ in range(5):
            assert run(["ask", "hi"]) == 0
            assert "shorten it" in capsys.readouterr().err
        assert (len(small.requests), len(other.requests)) == (5, 5)
    assert_sound(state, requests=5)
