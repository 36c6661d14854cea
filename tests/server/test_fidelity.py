"""What a server sends beside plain text reaches the client: other answers, log-probabilities, thinking, counts."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
from servers import chunk, events, misbehaving
from serving import TWO, Serving

openai = pytest.importorskip("openai")
pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow

SERVER = """
models:
- {{name: away, url: "{}", cost: {{unit: USD, prompt: 1, generated: 1}}}}
"""
ASKED = [{"role": "user", "content": "What is 7 + 8?"}]
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 5}}
LOGPROBS = [{"content": [{"token": text, "logprob": -0.5, "bytes": None, "top_logprobs": []}]} for text in ("1", "5")]
TWO_ANSWERS = events(
    {**chunk(), "choices": [{"index": 1, "delta": {"role": "assistant", "content": "six"}, "finish_reason": None}]},
    chunk(delta={"role": "assistant", "reasoning_content": "seven and eight"}),
    chunk(delta={"content": "1"}, logprobs=LOGPROBS[0]),
    {**chunk(), "choices": [{"index": 1, "delta": {"content": "teen"}, "finish_reason": "stop"}]},
    chunk(delta={"content": "5"}, logprobs=LOGPROBS[1]),
    chunk(delta={}, finish_reason="stop"),
    {"choices": [], "usage": USAGE},
)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with (
        misbehaving(lambda handler: handler.answer(TWO_ANSWERS)) as server,
        Serving(tmp_path_factory.mktemp("fidelity"), SERVER.format(server.url)) as serving,
        openai.OpenAI(base_url=f"{serving.url}/v1", api_key="none") as made,
    ):
        yield made


def test_a_whole_answer_has_all_of_it(client):
    answer = client.chat.completions.create(model="auto", messages=ASKED, n=2, logprobs=True)
    first, second = answer.choices
    assert (first.index, first.message.content, first.finish_reason) == (0, "15", "stop")
    assert (second.index, second.message.content, second.finish_reason) == (1, "sixteen", "stop")
    assert first.message.reasoning_content == "seven and eight"
    assert [each.token for each in first.logprobs.content] == ["1", "5"]
    assert answer.usage.prompt_tokens_details.cached_tokens == 5


def test_a_stream_has_all_of_it(client):
    chunks = list(client.chat.completions.create(model="auto", messages=ASKED, n=2, logprobs=True, stream=True))
    texts, roles, finishes, tokens, thought = {0: "", 1: ""}, {}, {}, [], ""
    for each in chunks:
        for choice in each.choices:
            texts[choice.index] += choice.delta.content or ""
            thought += getattr(choice.delta, "reasoning_content", None) or ""
            tokens += [token.token for token in choice.logprobs.content] if choice.logprobs else []
            if choice.delta.role:
                assert choice.index not in roles
                assert not texts[choice.index]
                roles[choice.index] = choice.delta.role
            if choice.finish_reason:
                finishes[choice.index] = choice.finish_reason
    assert texts == {0: "15", 1: "sixteen"}
    assert finishes == {0: "stop", 1: "stop"}
    assert set(roles.values()) == {"assistant"}
    assert (tokens, thought) == (["1", "5"], "seven and eight")
    assert chunks[-1].messctl["model"] == "away"


def test_the_graders_of_the_zoo_grade_answers(tmp_path):
    with Serving(tmp_path, TWO + "grader: {regex: 'cheap.*'}\n", scripted=0) as serving:
        assert [serving.chat(model=name)[2]["messctl"]["satisfied"] for name in ("cheap", "dear")] == [1.0, 0.0]
        status = serving.ask("/v1/status")[2]
        assert (status["standing"]["judged"], status["pending"]) == (2, 0)


def test_an_answer_that_a_grader_cannot_grade_is_given_all_the_same(tmp_path):
    with Serving(tmp_path, TWO + "grader: {regex: '(a*)*b'}\n", scripted=0) as serving:
        status, _, answer = serving.chat("a" * 40, model="cheap")
        assert status == 200
        assert answer["choices"][0]["message"]["content"].endswith("a" * 40)


ODD = {
    "half a surrogate in a call": b'{"delta": {"tool_calls": [{"index": 0, "id": "\\ud800", "function": {}}]}}',
    "half a surrogate in the end": b'{"delta": {"content": "x"}, "finish_reason": "\\udfff"}',
    "a place that is no number": b'{"delta": {"content": "x", "tool_calls": [{"index": NaN, "id": "a"}]}}',
    "an infinite number": b'{"delta": {"content": "x", "refusal_score": [{"a": -1e999}]}}',
    "a log-probability that is no number": b'{"delta": {"content": "x"}, "logprobs": {"content": [{"logprob": NaN}]}}',
}


@pytest.mark.parametrize("choice", ODD.values(), ids=ODD)
@pytest.mark.parametrize("stream", [False, True])
def test_what_json_cannot_hold_does_not_reach_the_client(tmp_path, choice, stream):
    sent = b'data: {"choices": [' + choice + b"]}\n\n" + events(chunk(delta={}, finish_reason="stop"), {"usage": USAGE})
    with (
        misbehaving(lambda handler: handler.answer(sent)) as server,
        Serving(tmp_path, SERVER.format(server.url)) as serving,
        closing(serving.connection()) as connection,
    ):
        asked = {"model": "away", "messages": ASKED, "stream": stream}
        connection.request("POST", "/v1/chat/completions", json.dumps(asked))
        response = connection.getresponse()
        content = response.read().decode()
        documents = [line.removeprefix("data: ") for line in content.splitlines() if line not in ("", "data: [DONE]")]
        assert response.status == 200
        for document in documents:
            assert "error" not in json.loads(document, parse_constant=pytest.fail)
        assert serving.stop().count("\n") <= 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_fails_before_its_first_piece_gives_a_status_of_its_own(tmp_path, stream):
    with (
        misbehaving(lambda handler: handler.answer(b"{}", 500)) as server,
        Serving(tmp_path, SERVER.format(server.url)) as serving,
    ):
        status, headers, document = serving.chat(stream=stream)
    assert (status, document["error"]["code"]) == (502, "models_failed")
    assert headers["x-should-retry"] == "false"
