"""Names for models, and sizes by names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messctl.zoo.finding.names import readable, unique
from messctl.zoo.finding.servers import answers, base_urls, named_parameters, stated_parameters


@pytest.mark.parametrize(
    ("title", "stated", "name"),
    [
        ("llama3.2:1b", "", "llama3.2-1b"),
        ("llama3.2:latest", "", "llama3.2"),
        ("me/assistant:v2", "", "assistant-v2"),
        ("hf.co/bartowski/Qwen2.5-7B-Instruct-GGUF:Q4_K_M", "", "qwen2.5-7b-instruct-q4_k_m"),
        ("repo/Qwen2.5 7B (Q4).gguf", "", "qwen2.5-7b-q4"),
        ("repo/ggml-org_gemma-3-1b-it-GGUF_gemma-3-1b-it-Q4_K_M", "", "gemma-3-1b-it-q4_k_m"),
        ("SmolLM2-135M/ggml-model-q4_0", "", "smollm2-135m"),
        ("models/model", "SmolLM2 135M", "smollm2-135m"),
        ("gguf/model", "", "model"),
        ("x/模型-7b", "", "模型-7b"),
        ("x/---", "", "x"),
        ("-/---", "", "model"),
        ("x/" + "long" * 40, "", "long" * 15),
    ],
)
def test_readable_name(title, stated, name):
    assert readable(title, stated) == name


@given(st.lists(st.tuples(st.sampled_from(["a", "a-2", "b", "a-q4"]), st.sampled_from(["Q4", "Q8"]), st.just("p"))))
def test_names_are_unique(wishes):
    names = unique(wishes)
    assert len(set(names)) == len(names) == len(wishes)
    assert all(name.startswith(wish[0]) for name, wish in zip(names, wishes, strict=True))


@given(st.text(), st.text())
def test_any_title_gives_a_name_that_can_be_typed(title, stated):
    name = readable(title, stated)
    assert 0 < len(name) <= 60
    assert name.isprintable()
    assert not set(name) & set(" /\\:#'\"{}[],&*!|>%@`")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("qwen2.5:7b", 7e9),
        ("qwen2.5:0.5b-instruct-q4_K_M", 0.5e9),
        ("Qwen/Qwen2.5-72B-Instruct", 72e9),
        ("smollm2:135m", 135e6),
        ("Qwen3-30B-A3B", 3e9),
        ("mixtral-8x7b-instruct", 14e9),
        ("google/gemma-3n-E4B-it", 4e9),
        ("deepseek-r1:1.5b", 1.5e9),
        ("gpt-4o", None),
        ("phi-4-mini", None),
        ("o3", None),
        ("b7", None),
    ],
)
def test_size_by_name(name, parameters):
    assert named_parameters(name) == (None if parameters is None else pytest.approx(parameters))


@pytest.mark.parametrize(
    ("entry", "parameters"),
    [
        ({"meta": {"n_params": 1235814432}}, 1235814432.0),
        ({"meta": None}, None),
        ({"meta": {"n_params": "many"}}, None),
        ({"meta": {"n_params": 0}}, None),
        ({}, None),
    ],
)
def test_size_that_a_server_states(entry, parameters):
    assert stated_parameters(entry) == parameters


@pytest.mark.parametrize("name", ["gpt-4o", "llama3.2:1b", "clipper-7b", "fluxion", "e5a-chat"])
def test_chat_models_at_a_server_count(name):
    assert answers(name)


@pytest.mark.parametrize(
    "name",
    [
        *("text-embedding-3-small", "nomic-embed-text", "whisper-1", "tts-1", "dall-e-3", "bge-m3", "gpt-image-1"),
        *("omni-moderation-latest", "gpt-4o-transcribe", "gpt-4o-realtime-preview", "all-minilm:latest"),
    ],
)
def test_other_models_at_a_server_do_not_count(name):
    assert not answers(name)


@pytest.mark.parametrize(
    ("url", "bases"),
    [
        ("http://h:1", ("http://h:1/v1", "http://h:1")),
        ("http://h:1/", ("http://h:1/v1", "http://h:1")),
        ("h:1", ("http://h:1/v1", "http://h:1")),
        ("http://h:1/v1", ("http://h:1/v1",)),
        ("http://h:1/v1/", ("http://h:1/v1",)),
        ("http://h:1/v1/models", ("http://h:1/v1",)),
        ("http://h:1/v1/chat/completions", ("http://h:1/v1",)),
        ("https://openrouter.ai/api", ("https://openrouter.ai/api/v1", "https://openrouter.ai/api")),
        ("https://g.example/v1beta/openai/", ("https://g.example/v1beta/openai",)),
    ],
)
def test_base_urls_of_what_a_user_types(url, bases):
    assert base_urls(url) == bases
