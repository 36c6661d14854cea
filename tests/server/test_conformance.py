"""The table of the protocol on docs/serve.md: each cell, a field at a kind of model, is what happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from servers import misbehaving, streamed
from serving import Serving

pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "serve.md"
ZOO = """
defaults: {{n_ctx: 0, max_tokens: 24, temperature: 0, retries: 0}}
models:
- {{name: here, path: "box:mini-1m.gguf", cost: {{unit: USD, prompt: 1, generated: 1}}}}
- {{name: away, url: "{}", cost: {{unit: USD, prompt: 5, generated: 5}}}}
"""
ASKED = "Reverse the word banana."
USER = {"role": "user", "content": ASKED}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLED = [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}]
SCHEMA = {"type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"], "additionalProperties": False}
HOT = {"temperature": 8.0, "seed": 7, "top_p": 1.0, "top_k": 0, "min_p": 0.0}
"""So hot that the seed decides."""


def parts(*others):
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": ASKED}, *others]}]}


VALUES = {
    "`messages` with the roles system, developer, user, assistant": [
        {"messages": [{"role": role, "content": "Be brief."}, USER]} for role in ("system", "developer")
    ] + [{"messages": [USER, {"role": "assistant", "content": "ananab"}, USER]}],
    "`messages` with the role tool, or `tool_calls`": [
        {"messages": CALLED}, {"messages": [*CALLED, {"role": "tool", "tool_call_id": "x", "content": "1"}]},
    ],
    "`content` as a list of texts": [parts(), parts({"type": "text", "text": "Please."})],
    "`content` with images, sound or files": [
        parts({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}),
        parts({"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}),
        parts({"type": "file", "file": {"file_id": "f"}}),
    ],
    "`tools`": [{"tools": [TOOL]}],
    "`functions`": [{"functions": [TOOL["function"]]}],
    "`tool_choice`": [{"tool_choice": "none"}, {"tool_choice": "none", "tools": [TOOL]}],
    "`parallel_tool_calls`": [{"parallel_tool_calls": False}],
    "`response_format`": [{"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}}],
    "`stop`": [{"stop": ["nab"]}, {"stop": "nab"}],
    "`max_tokens`": [{"max_tokens": 2}],
    "`max_completion_tokens`": [{"max_completion_tokens": 2}],
    "`temperature`": [HOT],
    "`top_p`": [{**HOT, "top_p": 1e-6}],
    "`top_k`": [{**HOT, "top_k": 1}],
    "`min_p`": [{**HOT, "min_p": 1.0}],
    "`seed`": [HOT],
    "`frequency_penalty`": [{**HOT, "frequency_penalty": 2.0}],
    "`presence_penalty`": [{**HOT, "presence_penalty": 2.0}],
    "`n`": [{"n": 2}],
    "`logprobs`": [{"logprobs": True}],
    "`top_logprobs`": [{"top_logprobs": 2}],
    "`logit_bias`": [{"logit_bias": {"1": 5}}],
    "`modalities`": [{"modalities": ["text", "audio"]}],
    "`audio`": [{"audio": {"voice": "alloy"}}],
    "`web_search_options`": [{"web_search_options": {"user_location": {}}}],
    "`user`": [{"user": "u"}],
    "`metadata`": [{"metadata": {"k": "v"}}],
    "`prompt_cache_key`": [{"prompt_cache_key": "p"}],
    "`store`": [{"store": True}],
    "`service_tier`": [{"service_tier": "auto"}],
    "`reasoning_effort`": [{"reasoning_effort": "low"}],
    "`prediction`": [{"prediction": {"type": "content", "content": "x"}}],
    "a field that nobody knows": [{"brand_new": {"deep": [1, None, "x"]}}],
}  # fmt: skip
"""By the name in the table: requests that use the field."""


def rows() -> dict[str, tuple[str, str]]:
    """Return the cells of the table, by field; fields of one row are told apart at their commas."""
    found = {}
    text = PAGE.read_text(encoding="utf-8")
    _, _, table = text.partition("| field | a model in this process | a model at a server |\n")
    for line in table.splitlines()[1:]:
        if not line.startswith("|"):
            break
        names, here, away = (cell.strip() for cell in line.strip("|").split("|"))
        single = re.fullmatch(r"`\w+`(, `\w+`)*", names)
        for name in names.split(", ") if single else [names]:
            found[name] = (here, away)
    return found


CELLS = [
    pytest.param(name, fields, here, away, id=f"{name.strip('`')}-{at}")
    for name, (here, away) in rows().items()
    for at, fields in enumerate(VALUES[name])
]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    pytest.importorskip("llama_cpp")
    with (
        misbehaving(lambda handler: handler.answer(streamed("yes"))) as server,
        Serving(tmp_path_factory.mktemp("table"), ZOO.format(server.url)) as serving,
    ):
        yield serving, server


def ask(serving, model, fields):
    return serving.ask("/v1/chat/completions", {"model": model, "messages": [USER]} | fields)


def test_the_table_has_a_request_for_each_of_its_rows():
    assert set(rows()) == set(VALUES)


@pytest.mark.parametrize(("name", "fields", "here", "away"), CELLS)
def test_a_server_gets_the_field_as_it_came(world, name, fields, here, away):
    assert away == "passed"
    serving, server = world
    status, _, answer = ask(serving, "away", fields)
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "yes")
    sent = server.requests[-1][2]
    assert {key: sent[key] for key in fields} == fields
    assert ("max_tokens" in sent) == ("max_completion_tokens" not in fields)


@pytest.mark.parametrize(("name", "fields", "here", "away"), CELLS)
def test_a_model_in_this_process_does_what_the_table_says(world, name, fields, here, away):
    serving, server = world
    status, _, answer = ask(serving, "here", fields)
    if here == "refused":
        assert (status, answer["error"]["code"]) == (400, "unsupported_value")
        field = "messages" if "messages" in fields else name.strip("`")
        assert answer["error"]["param"] == field
        served = ask(serving, "auto", fields)[2]
        assert (served["model"], served["messctl"]["attempts"]) == ("away", ["away"])  # it was left out beforehand
        return
    assert status == 200, answer
    plain = ask(serving, "here", {})[2]
    said, plainly = (each["choices"][0]["message"]["content"] for each in (answer, plain))
    if here == "left aside":
        assert (said, answer["usage"]) == (plainly, plain["usage"])
    else:
        assert here == "done"
        DONE[name.strip("`")](serving, fields, answer, said, plainly)


def check_read(serving, fields, answer, said, plainly):
    """More is read, or the same text is answered in the same way."""
    tokens = answer["usage"]["prompt_tokens"]
    plain = ask(serving, "here", {})[2]["usage"]["prompt_tokens"]
    assert tokens > plain or (tokens, said) == (plain, plainly)


def check_limit(serving, fields, answer, said, plainly):
    assert answer["usage"]["completion_tokens"] == 2
    assert answer["choices"][0]["finish_reason"] == "length"
    assert plainly.startswith(said)


def check_likeliest(serving, fields, answer, said, plainly):
    assert said == plainly


def check_drawn(serving, fields, answer, said, plainly):
    assert ask(serving, "here", fields)[2]["choices"][0]["message"]["content"] == said
    replies = [ask(serving, "here", {**fields, "seed": seed}) for seed in range(5)]  # some may be empty
    drawn = {reply["choices"][0]["message"]["content"] for status, _, reply in replies if status == 200}
    assert len(drawn) > 1


def check_differs(serving, fields, answer, said, plainly):
    """With the same seed, the penalty alone makes the difference."""
    assert ask(serving, "here", HOT)[2]["choices"][0]["message"]["content"] != said


DONE = {
    "messages` with the roles system, developer, user, assistant": check_read,
    "content` as a list of texts": check_read,
    "response_format": lambda serving, fields, answer, said, plainly: _assert_schema(said),
    "stop": lambda serving, fields, answer, said, plainly: _assert_stopped(said, plainly),
    "max_tokens": check_limit,
    "max_completion_tokens": check_limit,
    "temperature": check_drawn,
    "seed": check_drawn,
    "top_p": check_likeliest,
    "top_k": check_likeliest,
    "min_p": check_likeliest,
    "frequency_penalty": check_differs,
    "presence_penalty": check_differs,
}


def _assert_schema(said):
    assert re.fullmatch(r'\{\s*"a"\s*:\s*1\s*\}\s*', said)


def _assert_stopped(said, plainly):
    assert "nab" in plainly
    assert said == plainly.partition("nab")[0]
