"""`messctl ask` and `chat` with a zoo of servers of which one misbehaves: what comes of it where it is typed."""

import json

import pytest
from live_making import assert_one_line, assert_sound
from servers import misbehaving, streamed

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
