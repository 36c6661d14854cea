"""Models in llama.cpp that think: in this process and in one of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from messctl.backends import LlamaCpp
from messctl.records import Completion, Question
from messctl.zoo import ModelSpec

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
making = pytest.importorskip("backends_files", reason="gguf is not installed")

OPENS, CLOSES = 1, 2
"""Tokens of the test vocabulary that stand for the tags."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that think the letter a, and then answer 42, or never stop thinking, or say nothing."""
    folder = tmp_path_factory.mktemp("models")
    tokens = list(making.TOKENS)
    tokens[OPENS], tokens[CLOSES] = "<think>", "</think>"

    def write(name: str, follows: dict[Any, Any], **more: Any) -> None:
        making.write_gguf(folder / f"{name}.gguf", follows, tokens=tuple(tokens), **more)

    answer = {CLOSES: 10, 10: "4", "4": "2", "2": making.END}
    opened = making.TEMPLATE.replace("<|answer|>{% endif %}", "<|answer|><think>\n{% endif %}")
    assert opened != making.TEMPLATE
    write("thinks", {making.ANSWER: OPENS, OPENS: "a", "a": CLOSES, **answer})
    special = (*making.SPECIAL, "<think>", "</think>")
    write("special", {making.ANSWER: OPENS, OPENS: "a", "a": CLOSES, **answer}, special=special)
    write("goes-on", {making.ANSWER: OPENS, OPENS: "a", "a": "a"})
    write("opened", {10: "a", "a": CLOSES, CLOSES: "4", "4": "2", "2": making.END}, template=opened)
    write("silent", {making.ANSWER: making.END})
    return folder


@pytest.fixture(params=[False, True], ids=["here", "isolated"])
def complete(request: pytest.FixtureRequest, folder: Path) -> Callable[..., tuple[Completion, str, str]]:
    """Returns a model's completion, and all that its two listeners received."""

    def ask(name: str, max_tokens: int = 20) -> tuple[Completion, str, str]:
        path = folder / f"{name}.gguf"
        model = ModelSpec(name, path, n_ctx=64, n_threads=1, temperature=0.0, isolate=request.param)
        said: list[str] = []
        thought: list[str] = []
        with LlamaCpp() as llama:
            question = Question("yo", max_tokens=max_tokens)
            done = llama.complete(model, question, said.append, thought.append)
            unheard = llama.complete(model, question)
        assert (unheard.answer, unheard.thinking) == (done.answer, done.thinking)
        return done, "".join(said), "".join(thought).strip()

    return ask


MODELS = [
    ("thinks", 20, "42", "a", "stop"),
    ("special", 20, "42", "a", "stop"),
    ("goes-on", 5, "", "aaaa", "length"),
    ("opened", 20, "42", "a", "stop"),
    ("silent", 20, "", "", "stop"),
]


@pytest.mark.parametrize(("name", "limit", "answer", "thinking", "finish"), MODELS)
def test_a_model_that_thinks_answers_without_its_thinking(name, limit, answer, thinking, finish, complete) -> None:
    done, said, thought = complete(name, limit)
    assert (done.answer, done.thinking, done.finish) == (answer, thinking, finish)
    assert (said, thought) == (answer, thinking)
