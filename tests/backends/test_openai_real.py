"""A zoo of two real servers on loopback and one model in this process, while servers die and return."""

from __future__ import annotations

import json
import random
import time

import pytest
from live_making import assert_sound, puzzle, typed
from servers import LlamaServer

from messctl.backends import LlamaCpp, OpenAICompatible
from messctl.cli import run
from messctl.errors import BackendError
from messctl.records import Question
from messctl.state.store import Store
from messctl.zoo import ModelSpec
from messctl.zoo.models import BOX

pytest.importorskip("llama_cpp.server")
pytestmark = pytest.mark.slow
KEY = "sk-of-the-first-server"


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Two servers with models in the box; the first one needs a key."""
    folder = tmp_path_factory.mktemp("servers")
    first = LlamaServer(BOX / "mini-1m.gguf", "mini", folder, api_key=KEY)
    second = LlamaServer(BOX / "micro-400k.gguf", "micro", folder)
    with first, second:
        yield first, second


@pytest.fixture
def zoo(servers, tmp_path, monkeypatch):
    """A zoo: the cheapest model is at the first server, the next at the second, the most expensive in this process."""
    first, second = servers
    common = "unit: USD, prompt"
    (tmp_path / "zoo.yaml").write_text(
        "defaults: {n_ctx: 0, temperature: 0, max_tokens: 24, timeout_s: 20, retries: 1}\n"
        "models:\n"
        f"- {{name: one, url: '{first.url}', model: mini, key_env: FIRST_KEY, cost: {{{common}: 1, generated: 1}}}}\n"
        f"- {{name: two, url: '{second.url}', model: micro, cost: {{{common}: 10, generated: 10}}}}\n"
        f"- {{name: here, path: 'box:pico-34k.gguf', cost: {{{common}: 100, generated: 100}}}}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESSCTL_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("FIRST_KEY", KEY)
    typed(monkeypatch)
    return tmp_path


def document(capsys, *arguments):
    assert run([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def test_a_run_survives_the_death_and_return_of_its_servers(servers, zoo, capsys):
    first, second = servers
    rng, asked = random.Random(3), 0

    def ask():
        nonlocal asked
        asked += 1
        prompt, answer = puzzle(rng)
        return document(capsys, "ask", prompt, "--expect", answer)

    def until(model, most=60):
        """Ask again, twice a second, until this model answers."""
        for _ in range(most):
            if ask()["model"] == model:
                return
            time.sleep(0.5)
        raise AssertionError(f"{model} never answered")

    before = [ask()["model"] for _ in range(25)]
    assert before.count("one") > 15
    first.kill()
    meanwhile = [ask() for _ in range(15)]
    assert all(each["answer"] and each["model"] != "one" for each in meanwhile)
    lost = [each for each in meanwhile if each["failures"]]
    assert {name for each in lost for name in each["failures"]} == {"one"}
    assert 1 <= len(lost) < 10  # not every request tries it again
    second.kill()
    assert {ask()["model"] for _ in range(6)} == {"here"}
    status = document(capsys, "status")
    assert set(status["lost"]) == {"one", "two"}
    for name, server in (("one", first), ("two", second)):
        assert status["lost"][name]["again_at"] > status["lost"][name]["at"]
        assert server.url in status["lost"][name]["reason"]
        assert "cannot be reached" in status["lost"][name]["reason"]
    first.start()
    until("one")
    second.start()
    assert run(["ask", "What is 1 + 1?", "--model", "two"]) == 0
    capsys.readouterr()
    status = document(capsys, "status")
    assert (status["answered"], status["unanswered"]) == (asked + 1, 0)
    assert [status["lost"][name]["again_at"] for name in ("one", "two")] == [None, None]
    assert_sound(zoo / "state", requests=asked + 1)
    with Store(zoo / "state") as store:
        losses = sum(len(logged.lost) for logged in store.requests)
    assert losses == sum(each["attempts"] for each in status["lost"].values())
    assert KEY not in (zoo / "state").read_bytes().decode("latin-1")


def test_a_server_gives_the_same_answer_as_this_process(servers):
    """They use the same chat template. Token counts are equal, except that the server does not count the end mark."""
    first, _ = servers
    there = ModelSpec("there", url=first.url, model="mini", key_env="FIRST_KEY", temperature=0.0, max_tokens=24)
    here = ModelSpec("here", BOX / "mini-1m.gguf", temperature=0.0, max_tokens=24, n_ctx=0)
    rng, same = random.Random(5), 0
    local, remote = LlamaCpp(), OpenAICompatible()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRST_KEY", KEY)
        for _ in range(20):
            question, pieces = Question(puzzle(rng)[0]), []
            ours, theirs = local.complete(here, question), remote.complete(there, question, pieces.append)
            assert "".join(pieces) == theirs.answer
            assert theirs.tokens_in == ours.tokens_in
            assert theirs.finish == ours.finish
            same += theirs.answer == ours.answer and theirs.tokens_out == ours.tokens_out - (ours.finish == "stop")
    local.close()
    remote.close()
    assert same >= 18  # the server samples with a repeat penalty of its own


def test_errors_of_a_real_server(servers, zoo, monkeypatch, capsys):
    first, second = servers
    backend = OpenAICompatible()
    closed = ModelSpec("m", url=first.url, key_env="FIRST_KEY")
    monkeypatch.setenv("FIRST_KEY", "sk-wrong")
    with pytest.raises(BackendError, match=r"refuses the key with 401 \(Invalid API key\): set FIRST_KEY"):
        backend.complete(closed, Question("hi"))
    with pytest.raises(BackendError, match="set key_env in zoo.yaml to the variable that holds the key"):
        backend.complete(ModelSpec("m", url=first.url), Question("hi"))
    with pytest.raises(BackendError, match="is not found, 404"):
        backend.complete(ModelSpec("m", url=second.url.removesuffix("/v1")), Question("hi"))
    with pytest.raises(
        BackendError, match=r"refuses the request with 400 \(This model's maximum context length is 512"
    ):
        backend.complete(ModelSpec("m", url=second.url), Question("long " * 2000))
    backend.close()
    monkeypatch.setenv("FIRST_KEY", KEY)
    checked = document(capsys, "zoo", "check")
    assert [model["listed"] for model in checked["models"]] == [["mini"], ["micro"], None]
    assert checked["problems"] == []
    assert run(["doctor"]) == 0
    assert f"{first.url} answers for one, and lists mini" in capsys.readouterr().out
