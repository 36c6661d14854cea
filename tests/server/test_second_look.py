"""`messctl serve` with `asks: 3`: plain texts get a second look, whole or streamed; other requests ask one model."""

import json

import pytest
from live_making import assert_sound
from serving import Serving

from messctl.state.store import Store

pytestmark = pytest.mark.slow

ZOO = """
sla: {alpha: 0.85}
router: {asks: 3}
models:
- {name: small, path: small.gguf, cost: {unit: USD, prompt: 0, generated: 1}}
- {name: middle, path: middle.gguf, cost: {unit: USD, prompt: 0, generated: 4}}
- {name: large, path: large.gguf, cost: {unit: USD, prompt: 0, generated: 20}}
"""


def asked(state):
    with Store(state) as store:
        return [each.asked for each in store.requests]


@pytest.mark.parametrize("stream", [False, True])
def test_a_plain_text_gets_a_second_look_and_its_client_sees_the_shown_answer_alone(tmp_path, stream):
    with Serving(tmp_path, ZOO, scripted=0.0) as server:
        if stream:
            connection = server.connection()
            body = {"model": "auto", "messages": [{"role": "user", "content": "hello there"}], "stream": True}
            connection.request("POST", "/v1/chat/completions", json.dumps(body))
            lines = connection.getresponse().read().decode().splitlines()
            connection.close()
            parts = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
            deltas = [choice["delta"].get("content") or "" for part in parts for choice in part["choices"]]
            assert not any(choice["logprobs"] for part in parts for choice in part["choices"])
            answer, model = "".join(deltas), parts[-1]["model"]
        else:
            status, _, document = server.chat("hello there")
            assert status == 200, document
            (choice,) = document["choices"]
            answer, model = choice["message"]["content"], document["model"]
            assert choice["logprobs"] is None
    assert answer == f"{model}: hello there"
    (models,) = asked(tmp_path / "state")
    assert len(models) > 1
    assert model in models
    assert_sound(tmp_path / "state", 1)


def test_a_request_for_a_format_asks_one_model(tmp_path):
    with Serving(tmp_path, ZOO, scripted=0.0) as server:
        status, _, document = server.chat("hello", response_format={"type": "json_object"})
        assert status == 200, document
    assert [len(models) for models in asked(tmp_path / "state")] == [1]
