"""OpenAI's own client against a real `messctl serve`: chat, streams, tools, errors and retries."""

import json
import sqlite3
import time
from contextlib import closing

import pytest
from servers import USAGE, chunk, events, misbehaving, streamed
from serving import BOX, TWO, Serving

openai = pytest.importorskip("openai")
pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow

TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
CALL = {"index": 0, "id": "call_7", "type": "function", "function": {"name": "add", "arguments": ""}}
SUM = [{"role": "user", "content": "What is 7 + 8?"}]
CALLED = events(
    chunk(delta={"role": "assistant", "content": None, "tool_calls": [CALL]}),
    *(chunk(delta={"tool_calls": [{"index": 0, "function": {"arguments": part}}]}) for part in ('{"a":', " 7}")),
    chunk(delta={}, finish_reason="tool_calls"),
    {"choices": [], "usage": USAGE},
)
SERVERS = """
defaults: {{retries: 0}}
models:
- {{name: cheap, url: "{}", cost: {{unit: USD, prompt: 1, generated: 1}}}}
- {{name: dear, url: "{}", cost: {{unit: USD, prompt: 5, generated: 5}}}}
"""


_clients = []


def client_of(serving, **options):
    _clients.append(openai.OpenAI(base_url=f"{serving.url}/v1", api_key="none", **options))
    return _clients[-1]


@pytest.fixture(autouse=True)
def _all_clients_are_closed():
    yield
    while _clients:
        _clients.pop().close()


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    """The models in the box, in this process."""
    pytest.importorskip("llama_cpp")
    with Serving(tmp_path_factory.mktemp("box"), BOX) as serving:
        yield serving


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    with Serving(tmp_path_factory.mktemp("scripted"), TWO, scripted=0) as serving:
        yield serving


def test_models_are_listed_with_auto_first(box):
    names = [model.id for model in client_of(box).models.list()]
    assert names == ["auto", "mini", "pico"]
    assert client_of(box).models.retrieve("mini").id == "mini"


def test_a_real_model_answers_and_the_answer_says_which_and_what_it_cost(box):
    raw = client_of(box).chat.completions.with_raw_response.create(model="auto", messages=SUM)
    answer = raw.parse()
    assert answer.choices[0].message.content == "15"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    said = answer.messctl
    assert answer.model == said["model"] == raw.headers["x-messctl-model"]
    assert answer.id == f"chatcmpl-{said['request_id']}"
    assert raw.headers["x-messctl-request-id"] == said["request_id"]
    assert said["attempts"] == [answer.model]
    assert (said["policy"], said["forced"], said["unit"]) == ("bandit", False, "J")
    assert 0 < said["propensity"] <= 1
    assert said["cost"] > 0


def test_a_named_model_answers_and_counts_as_forced(box):
    answer = client_of(box).chat.completions.create(model="mini", messages=SUM)
    assert answer.model == "mini"
    assert (answer.messctl["forced"], answer.messctl["propensity"]) == (True, None)


def test_a_stream_has_one_id_a_role_first_and_its_end_last(box):
    chunks = list(
        client_of(box).chat.completions.create(
            model="mini", messages=SUM, stream=True, stream_options={"include_usage": True}
        )
    )
    *told, last, counts = chunks
    assert {each.id for each in chunks} == {chunks[0].id}
    assert {each.created for each in chunks} == {chunks[0].created}
    assert {each.model for each in chunks} == {"mini"}
    assert told[0].choices[0].delta.role == "assistant"
    assert {each.choices[0].finish_reason for each in told} == {None}
    assert "".join(each.choices[0].delta.content or "" for each in told) == "15"
    assert last.choices[0].finish_reason == "stop"
    assert last.messctl["model"] == "mini"
    assert counts.choices == []
    assert counts.usage.completion_tokens > 0
    assert all(each.usage is None for each in (*told, last))


def test_a_stream_without_the_wish_has_no_counts(scripted):
    chunks = list(client_of(scripted).chat.completions.create(model="auto", messages=SUM, stream=True))
    assert all(each.choices and each.usage is None for each in chunks)


def test_completions_as_they_were_before_are_answered(scripted):
    client = client_of(scripted)
    answer = client.completions.create(model="cheap", prompt="two words")
    assert (answer.object, answer.choices[0].text) == ("text_completion", "cheap: two words")
    told = [each.choices[0].text for each in client.completions.create(model="cheap", prompt="two words", stream=True)]
    assert "".join(told) == "cheap: two words"


@pytest.mark.parametrize("stream", [False, True])
def test_calls_of_tools_pass_through_and_their_result_goes_to_the_caller(tmp_path, stream):
    final = streamed("It is 15.")
    with (
        misbehaving(lambda handler: handler.answer(streamed("a word"))) as cheap,
        misbehaving(lambda handler: handler.answer(CALLED), lambda handler: handler.answer(final)) as dear,
        Serving(tmp_path, SERVERS.format(cheap.url, dear.url)) as serving,
    ):
        client = client_of(serving)
        asked = {"messages": SUM, "tools": TOOLS, "tool_choice": "auto", "parallel_tool_calls": False}
        if stream:
            chunks = list(client.chat.completions.create(model="dear", stream=True, **asked))
            deltas = [call for each in chunks for call in each.choices[0].delta.tool_calls or ()]
            assert [call.function.arguments for call in deltas] == ["", '{"a":', " 7}"]
            assert (deltas[0].id, deltas[0].function.name) == ("call_7", "add")
            assert chunks[-1].choices[0].finish_reason == "tool_calls"
        else:
            choice = client.chat.completions.create(model="dear", **asked).choices[0]
            assert choice.finish_reason == "tool_calls"
            assert choice.message.content is None
            (call,) = choice.message.tool_calls
            assert (call.id, call.function.name, json.loads(call.function.arguments)) == ("call_7", "add", {"a": 7})
        sent = dear.requests[0][2]
        assert {key: sent[key] for key in ("tools", "tool_choice", "parallel_tool_calls")} == {
            key: asked[key] for key in ("tools", "tool_choice", "parallel_tool_calls")
        }
        called = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{key: CALL[key] for key in CALL if key != "index"}],
        }
        result = {"role": "tool", "tool_call_id": "call_7", "content": "15"}
        answer = client.chat.completions.create(model="auto", messages=[*SUM, called, result], tools=TOOLS)
        assert (answer.model, answer.choices[0].message.content) == ("dear", "It is 15.")
        assert dear.requests[1][2]["messages"] == [*SUM, called, result]
        assert cheap.requests == []


def test_a_zoo_of_which_no_model_answers_is_not_asked_again(tmp_path):
    def broken(handler):
        handler.answer(b'{"error": {"message": "out of order"}}', 500, "application/json")

    with (
        misbehaving(broken) as server,
        Serving(tmp_path, SERVERS.format(server.url, server.url)) as serving,
        pytest.raises(openai.InternalServerError) as raised,
    ):
        client_of(serving, max_retries=3).chat.completions.create(model="auto", messages=SUM)
    assert raised.value.status_code == 502
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert len(server.requests) == 2  # each model once


def test_another_model_answers_for_one_that_fails(tmp_path):
    with (
        misbehaving(lambda handler: handler.answer(b"{}", 500, "application/json")) as broken,
        misbehaving(lambda handler: handler.answer(streamed("yes"))) as works,
        Serving(tmp_path, SERVERS.format(broken.url, works.url)) as serving,
    ):
        answer = client_of(serving).chat.completions.create(model="auto", messages=SUM)
    assert answer.messctl["attempts"] == ["cheap", "dear"]


def test_an_error_within_a_stream_is_told_in_the_stream(tmp_path):
    def breaks_off(handler):
        handler.answer(events(*(chunk(delta={"content": text}) for text in "ab"), done=False), length=10_000)

    with misbehaving(breaks_off) as server, Serving(tmp_path, SERVERS.format(server.url, server.url)) as serving:
        told = []
        with pytest.raises(openai.APIError, match="part of its answer was shown"):
            for each in client_of(serving).chat.completions.create(model="cheap", messages=SUM, stream=True):
                told.append(each.choices[0].delta.content or "")
    assert "".join(told) == "ab"


@pytest.mark.parametrize(
    ("asked", "kind", "code"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "model_not_found"),
        ({"tools": TOOLS}, openai.BadRequestError, "unsupported_value"),
        (
            {"messages": [{"role": "user", "content": "word " * 20_000}]},
            openai.BadRequestError,
            "context_length_exceeded",
        ),
        ({"temperature": -1}, openai.BadRequestError, None),
    ],
)
def test_errors_are_those_that_the_client_knows(box, asked, kind, code):
    with pytest.raises(kind) as raised:
        client_of(box).chat.completions.create(**{"model": "auto", "messages": SUM} | asked)
    assert raised.value.code == code
    assert raised.value.body["message"]


def test_a_model_in_this_process_keeps_to_a_schema(box):
    schema = {"type": "object", "properties": {"sum": {"enum": [1, 2]}}, "required": ["sum"]}
    wanted = {
        "type": "json_schema",
        "json_schema": {"name": "sum", "schema": {**schema, "additionalProperties": False}},
    }
    answer = client_of(box).chat.completions.create(model="mini", messages=SUM, response_format=wanted)
    assert json.loads(answer.choices[0].message.content)["sum"] in (1, 2)


def test_a_stop_text_ends_an_answer_and_is_no_part_of_it(scripted, box):
    answer = client_of(box).chat.completions.create(model="mini", messages=SUM, stop=["5"])
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("1", "stop")


def test_feedback_is_taken_and_corrected(scripted):
    answer = client_of(scripted).chat.completions.create(model="auto", messages=SUM)
    status, _, said = scripted.ask("/v1/feedback", {"id": answer.id, "value": True})
    assert (status, said["value"], said["corrected"], said["model"]) == (200, 1.0, None, answer.model)
    status, _, said = scripted.ask("/v1/feedback", [{"id": answer.id, "value": 0.25, "comment": "no", "source": "me"}])
    assert (status, said["data"][0]["value"], said["data"][0]["corrected"]) == (200, 0.25, 1.0)
    with closing(sqlite3.connect(scripted.state)) as state:
        assert state.execute("SELECT comment, source FROM remarks").fetchall() == [("no", "me")]


def test_a_server_is_alive_ready_and_stops_in_peace(tmp_path):
    with Serving(tmp_path, TWO, scripted=0) as serving:
        assert serving.ask("/healthz")[0] == serving.ask("/readyz")[0] == 200
        assert serving.chat()[0] == 200
        status, _, document = serving.ask("/v1/status")
        assert (status, document["answered"], document["alpha"]) == (200, 1, 0.75)
        began = time.monotonic()
        serving.stop()
    assert serving.process.returncode == 0
    assert time.monotonic() - began < 60
