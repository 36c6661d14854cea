"""A process per model: the same answers and errors, and one that is killed loses one answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("llama_cpp")

from backends_files import ANSWER, write_gguf

from messctl.backends import LlamaCpp
from messctl.errors import BackendError, PromptTooLongError
from messctl.records import Question
from messctl.zoo import ModelSpec
from messctl.zoo.models import BOX

NAMES = ("pico-34k", "nano-109k", "micro-400k", "mini-1m")
ASKED = 120
ASK = Question("What is 3 + 4?", temperature=0.0)


def box(name: str, *, isolate: bool = False) -> ModelSpec:
    return ModelSpec(name, BOX / f"{name}.gguf", n_ctx=0, temperature=0.0, max_tokens=32, isolate=isolate)


@pytest.fixture
def apart() -> Iterator[LlamaCpp]:
    with LlamaCpp() as backend:
        yield backend


def _worker(backend: LlamaCpp):
    (model,) = backend._residency._models.values()
    return model


def _gone(pid: int) -> bool:
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True  # of a parent that was killed: whoever adopts it reaps it
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("name", NAMES)
def test_a_worker_answers_as_the_model_here_token_for_token(apart: LlamaCpp, name: str) -> None:
    here: list[str] = []
    there: list[str] = []
    question = Question("Reverse the word lamp.", temperature=0.8, seed=5, logprob=True)
    with LlamaCpp() as backend:
        expected = backend.complete(box(name), question, here.append)
    done = apart.complete(box(name, isolate=True), question, there.append)
    assert there == here
    assert (done.answer, done.tokens_in, done.tokens_out, done.finish, done.logprob) == (
        expected.answer, expected.tokens_in, expected.tokens_out, expected.finish, expected.logprob,
    )  # fmt: skip
    assert done.load_s > 0
    pid = _worker(apart).pid
    apart.close()
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_a_killed_worker_loses_one_answer(apart: LlamaCpp, number: signal.Signals, tmp_path: Path) -> None:
    # Its answer does not end by itself before the first letter of it has come here.
    path = write_gguf(tmp_path / "endless.gguf", {ANSWER: "a", "a": "a"}, n_ctx=8192)
    model = ModelSpec("endless", path, n_ctx=0, temperature=0.0, isolate=True)
    short = Question("yo", max_tokens=3)
    expected = apart.complete(model, short).answer
    assert expected == "aaa"
    pid = _worker(apart).pid

    def kill(_text: str) -> None:
        if not _gone_now(pid):
            os.kill(pid, number)

    with pytest.raises(BackendError, match=f"'endless'.*{number.name}.*next request starts it again"):
        apart.complete(model, Question("yo", max_tokens=8000), kill)
    assert not apart.resident(model)
    assert not Path(f"/proc/{pid}").exists()  # no zombie
    assert apart.complete(model, short).answer == expected
    assert _worker(apart).pid != pid


def _gone_now(pid: int) -> bool:
    return (
        not Path(f"/proc/{pid}").exists() or Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    )


def test_a_worker_between_two_answers_may_die(apart: LlamaCpp) -> None:
    model = box("pico-34k", isolate=True)
    apart.complete(model, ASK)
    os.kill(_worker(apart).pid, signal.SIGKILL)
    with pytest.raises(BackendError, match="SIGKILL"):
        apart.complete(model, ASK)
    assert apart.complete(model, ASK).answer


def test_a_worker_says_what_is_wrong_as_the_model_here_does(apart: LlamaCpp, tmp_path: Path) -> None:
    model = box("pico-34k", isolate=True)
    with pytest.raises(PromptTooLongError) as raised:
        apart.complete(model, Question("a" * 9000))
    assert 0 < raised.value.excess < 1
    assert apart.complete(model, ASK).load_s == 0
    bad = tmp_path / "bad.gguf"
    bad.write_bytes((BOX / "pico-34k.gguf").read_bytes()[:20000])
    with pytest.raises(BackendError, match="bad.gguf"):
        apart.complete(ModelSpec("bad", bad, isolate=True), ASK)


def test_an_interrupted_answer_leaves_the_worker_usable(apart: LlamaCpp) -> None:
    model = box("mini-1m", isolate=True)
    apart.complete(model, ASK)
    pid = _worker(apart).pid

    def interrupt(_text: str) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        apart.complete(model, ASK, interrupt)
    assert apart.complete(model, ASK).answer
    assert _worker(apart).pid == pid


PARENT = """
import sys
from pathlib import Path
from messctl.backends import LlamaCpp
from messctl.records import Question
from messctl.zoo import ModelSpec
backend = LlamaCpp()
backend.complete(ModelSpec("m", Path(sys.argv[1]), n_ctx=0, isolate=True), Question("What is 3 + 4?"))
(worker,) = backend._residency._models.values()
print(worker.pid, flush=True)
sys.stdin.read()
"""


def test_a_worker_ends_when_its_parent_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(BOX / "pico-34k.gguf")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        pid = int(parent.stdout.readline())
        assert not _gone_now(pid)
        parent.kill()
    assert _gone(pid)
