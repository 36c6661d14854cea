"""A real chat model, SmolLM2-135M-Instruct: what models with random weights or fixed answers cannot show."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from messctl.backends import LatestTurns, LlamaCpp
from messctl.errors import CrashedError, PromptTooLongError
from messctl.records import Question

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
pytest.importorskip("gguf", reason="gguf is not installed")

from plain_llama import PlainLlama
from real_models import smollm2_file

from messctl.zoo import ModelSpec

pytestmark = pytest.mark.slow

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"  # of the template in the file
REPEATED = (("Repeat: 猫🐱犬🐶", "猫🐱犬🐶"), ("Repeat: 日本語 🚀", "日本語 🚀"))


@pytest.fixture(scope="module")
def model() -> ModelSpec:
    return ModelSpec("smol", smollm2_file(), n_ctx=1024, temperature=0.0, max_tokens=24)


@pytest.fixture(scope="module")
def llama() -> Iterator[LlamaCpp]:
    with LlamaCpp() as backend:
        yield backend


def chat(*turns: tuple[str, str], system: str = SYSTEM) -> str:
    """Return a chat in ChatML, the format that the model was trained on."""
    marked = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in (("system", system), *turns))
    return f"{marked}<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("question", "text"),
    [
        (Question("What is 2+2?"), chat(("user", "What is 2+2?"))),
        (Question("Hi", system="Be a pirate."), chat(("user", "Hi"), system="Be a pirate.")),
        (Question("c", history=(("a", "b"),)), chat(("user", "a"), ("assistant", "b"), ("user", "c"))),
        (Question("<|im_end|> 你好 🎈\n"), chat(("user", "<|im_end|> 你好 🎈\n"))),
    ],
)
def test_the_files_chat_template_makes_the_text_that_the_model_was_trained_on(
    llama: LlamaCpp, model: ModelSpec, question: Question, text: str
) -> None:
    by_hand = replace(model, chat_template="{{ messages[0].content }}")
    ours, theirs = llama.complete(model, question), llama.complete(by_hand, Question(text))
    assert ours.tokens_in == theirs.tokens_in
    assert ours.answer == theirs.answer


def test_an_answer_ends_at_the_end_mark_which_is_not_shown(llama: LlamaCpp, model: ModelSpec) -> None:
    done = llama.complete(model, Question("What is 2+2?"))
    assert "4" in done.answer
    assert (done.finish, "<|" in done.answer) == ("stop", False)
    assert done.tokens_out < 24
    more = llama.complete(model, Question("What is 2+2?", to_the_limit=True))
    assert more.answer.startswith(done.answer)
    assert (more.finish, more.tokens_out) == ("length", 24)


@pytest.mark.parametrize("isolate", [False, True])
def test_emoji_and_chinese_arrive_as_whole_characters(llama: LlamaCpp, model: ModelSpec, isolate: bool) -> None:
    pieces: list[str] = []
    question = Question("Repeat: 你好世界 🎈🎉", history=REPEATED)
    done = llama.complete(replace(model, isolate=isolate), question, pieces.append)
    assert "".join(pieces) == done.answer
    assert done.answer.strip() == "你好世界 🎈🎉"
    assert len(pieces) > 3
    assert not any("\ufffd" in piece for piece in pieces)
    assert done.tokens_out > len(done.answer)  # a character takes several tokens


def test_the_system_message_replaces_the_templates_own(llama: LlamaCpp, model: ModelSpec) -> None:
    pirate = "Your name is Zorblax. You are a pirate."
    question = Question("What do you do for a living?")
    usual, told = llama.complete(model, question), llama.complete(replace(model, system=pirate), question)
    assert told.tokens_in - usual.tokens_in == tokens(llama, model, pirate) - tokens(llama, model, SYSTEM)
    assert "pirate" in told.answer
    assert "pirate" not in usual.answer


def tokens(llama: LlamaCpp, model: ModelSpec, text: str) -> int:
    """Return the number of tokens of a text within a chat."""
    plain = replace(model, chat_template="\n{{ messages[0].content }}<|im_end|>")
    return llama.complete(plain, Question(text, max_tokens=1)).tokens_in


def test_log_probabilities_are_those_of_the_weights_in_the_file(llama: LlamaCpp, model: ModelSpec) -> None:
    """NumPy computes them from the same weights; llama.cpp also rounds what flows between the layers."""
    plain, loaded = PlainLlama(smollm2_file()), llama._loaded(model)[0]
    for prompt, most in (("What is 2+2?", 24), ("Say hello.", 6)):
        done = llama.complete(model, Question(prompt, max_tokens=most, logprob=True))
        head = chat(("user", prompt))
        read = loaded.tokens(head)
        whole = loaded.tokens(head + done.answer + ("<|im_end|>" if done.finish == "stop" else ""))
        assert len(whole) == len(read) + done.tokens_out
        expected = plain.logprobs(whole)[np.arange(len(read) - 1, len(whole) - 1), whole[len(read) :]]
        assert done.logprob == pytest.approx(expected.mean(), abs=0.15)


def test_the_same_seed_gives_the_same_answer_here_and_in_a_worker(llama: LlamaCpp, model: ModelSpec) -> None:
    def answer(seed: int, spec: ModelSpec = model) -> str:
        return llama.complete(spec, Question("Write a poem.", temperature=1.0, seed=seed)).answer

    first = answer(7)
    assert answer(8) != first
    assert answer(7) == first
    assert answer(7, replace(model, isolate=True)) == first
    with LlamaCpp() as other:
        assert other.complete(model, Question("Write a poem.", temperature=1.0, seed=7)).answer == first


def test_a_prompt_that_overflows_the_context_is_refused_with_what_to_cut(llama: LlamaCpp, model: ModelSpec) -> None:
    narrow = replace(model, n_ctx=64)
    with pytest.raises(PromptTooLongError, match=r"has [\d,]+ tokens, but the context holds 64") as raised:
        llama.complete(narrow, Question("river " * 200))
    assert 0.5 < raised.value.excess < 1.0
    full = llama.complete(narrow, Question("river " * 20, max_tokens=500, to_the_limit=True))
    assert (full.finish, full.tokens_in + full.tokens_out) == ("length", 65)


def test_a_chat_that_outgrows_its_context_goes_on_with_its_latest_turns(llama: LlamaCpp, model: ModelSpec) -> None:
    warnings: list[str] = []
    narrow, history = replace(model, n_ctx=160), ()
    talk = LatestTurns(llama, warnings.append)
    for turn in range(6):
        done = talk.complete(narrow, Question(f"Tell me about river number {turn}.", history=history))
        assert done.answer
        assert done.tokens_in + done.tokens_out <= 161
        history = (*history, (f"Tell me about river number {turn}.", done.answer))
    assert len(warnings) == 1
    assert "no longer sees the oldest turns" in warnings[0]
    alone = llama.complete(narrow, Question("Why?"))
    assert talk.complete(narrow, Question("Why?", history=history)).tokens_in > alone.tokens_in


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the worker is killed by its id")
def test_an_isolated_model_that_is_killed_loses_one_answer(llama: LlamaCpp, model: ModelSpec) -> None:
    apart = replace(model, isolate=True, n_ctx=512)
    here = llama.complete(replace(apart, isolate=False), Question("What is 2+2?"))
    there = llama.complete(apart, Question("What is 2+2?"))
    assert (there.answer, there.tokens_in, there.tokens_out) == (here.answer, here.tokens_in, here.tokens_out)
    worker = llama._loaded(apart)[0]

    def kill(_text: str) -> None:
        os.kill(worker.pid, signal.SIGKILL)

    with pytest.raises(CrashedError, match="was ended by SIGKILL"):
        llama.complete(apart, Question("Tell me a long story.", max_tokens=200), kill)
    assert llama.complete(apart, Question("What is 2+2?")).answer == here.answer


def test_two_processes_at_once_answer_as_one_alone(model: ModelSpec, tmp_path: Path) -> None:
    """Both share one state, and both requests are in its log."""
    (tmp_path / "zoo.yaml").write_text(
        f"models: [{{name: smol, path: '{model.path}', n_ctx: 1024, temperature: 0, max_tokens: 24}}]\n"
    )

    def ask(prompt: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "messctl", "ask", prompt, "--state", "state", "--json"]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, env=dict(os.environ)
        )

    def answers(*asked: subprocess.Popen[str]) -> list[str]:
        outputs = [each.communicate(timeout=300) for each in asked]
        assert [each.returncode for each in asked] == [0] * len(asked), outputs
        return [json.loads(out)["answer"] for out, _ in outputs]

    prompts = ("What is 2+2?", "Tell me about rivers.")
    alone = [answers(ask(prompt))[0] for prompt in prompts]
    assert answers(*[ask(prompt) for prompt in prompts]) == alone
    command = [sys.executable, "-m", "messctl", "log", "--state", "state", "--json"]
    log = json.loads(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout)
    assert sorted(each["prompt"] for each in log) == sorted(2 * prompts)
