"""Models in processes of their own: the same answers as in this one, and what becomes of them when processes die."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from messctl.backends import LlamaCpp, Workers
from messctl.errors import BackendError, MissingExtraError, ModelFileError, PromptTooLongError, UnknownNameError
from messctl.records import Completion, Question
from messctl.zoo import PACKAGED_FILE, ModelSpec, load_zoo

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
making = pytest.importorskip("backends_files", reason="gguf is not installed")

if not sys.platform.startswith("linux"):
    pytest.skip("processes are counted in /proc", allow_module_level=True)

SAYS = "hé!"
LONGEST_WAIT_S = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small models: one answers by rote, one never ends, one answers by all that it has read."""
    folder = tmp_path_factory.mktemp("models")
    making.write_gguf(folder / "rote.gguf", making.says(SAYS.encode()))
    making.write_gguf(folder / "bare.gguf", making.says(SAYS.encode()), template=None)
    making.write_gguf(folder / "endless.gguf", {making.ANSWER: "a", "a": "a"})
    making.write_gguf(folder / "random.gguf")
    making.write_gguf(folder / "damaged.gguf", broken_weights=True)
    (folder / "cut.gguf").write_bytes((folder / "rote.gguf").read_bytes()[:500_000])
    return folder


@pytest.fixture
def spec(folder: Path) -> Callable[..., ModelSpec]:
    def make(name: str, **settings: Any) -> ModelSpec:
        return ModelSpec(
            name,
            folder / f"{name}.gguf",
            **{"n_ctx": 64, "n_threads": 1, "temperature": 0.0, "isolate": True, **settings},
        )

    return make


@pytest.fixture
def workers() -> Iterator[Workers]:
    before = processes()
    with Workers() as backend:
        yield backend
    assert processes() == before


def processes(of: int | None = None) -> set[int]:
    """Return the processes that a process, by default this one, has started and that are not gone; zombies count."""
    return {int(pid) for pid, parent in parents().items() if parent == (of or os.getpid())}


def parents() -> dict[int, int]:
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    return found


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def wait_until(true: Callable[[], bool], seconds: float = LONGEST_WAIT_S) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it does not come true"
        time.sleep(0.01)


def kill(pids: set[int], how: signal.Signals = signal.SIGKILL) -> None:
    """Kill processes at rest, and wait until they are zombies."""
    for pid in pids:
        os.kill(pid, how)
        wait_until(lambda pid=pid: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")


def without_times(completion: Completion) -> Completion:
    return replace(completion, latency_s=0.0, load_s=0.0)


# --- the same as in this process ---------------------------------------------------------------------------------


QUESTIONS: list[tuple[str, dict[str, Any], Question]] = [
    ("rote", {}, Question("yo")),
    ("rote", {}, Question("yo", system="S", history=(("q", "a"), ("r", "b")))),
    ("rote", {}, Question("\udcff\ud800\x00\x1b[2J é🙂")),
    ("endless", {"max_tokens": 5}, Question("yo")),
    ("endless", {}, Question("yo", max_tokens=1)),
    ("random", {"max_tokens": 12}, Question("yo", logprob=True)),
    ("random", {"max_tokens": 30}, Question("yo", temperature=2.0, seed=7, logprob=True)),
    ("random", {"temperature": 2.0, "top_k": 3, "min_p": 0.0}, Question("yo", seed=2**70)),
]


@pytest.mark.parametrize(("name", "settings", "question"), QUESTIONS)
def test_answers_are_those_of_this_process_token_for_token(workers, spec, name, settings, question) -> None:
    model = spec(name, **settings)
    told: list[list[str]] = []
    done: list[Completion] = []
    with LlamaCpp() as here:
        for backend in (here, workers):
            told.append([])
            done.append(backend.complete(model, question, told[-1].append))
    assert without_times(done[0]) == without_times(done[1])
    assert told[0] == told[1]
    assert without_times(workers.complete(model, question)) == without_times(done[0])


def test_box_answers_are_those_of_this_process() -> None:
    prompts = ["What is 17 + 25?", "Reverse the word stone.", "Is 7 odd or even?", "What is the capital of Italy?"]
    with LlamaCpp() as here, Workers() as apart:
        for model in load_zoo(PACKAGED_FILE).models:
            for prompt in prompts:
                question = Question(prompt, logprob=True)
                assert without_times(here.complete(model, question)) == without_times(apart.complete(model, question))


WRONG: list[tuple[str, dict[str, Any], Question]] = [
    ("cut", {}, Question("yo")),
    ("damaged", {}, Question("yo")),
    ("absent", {}, Question("yo")),
    ("rote", {"n_ctx": 2**31 - 1}, Question("yo")),
    ("rote", {"n_ctx": 16}, Question("x" * 20)),
    ("rote", {}, Question("x" * 3_000_000)),
    ("rote", {"n_ctx": 16}, Question("x", history=(("q" * 4, "a" * 4),))),
    ("rote", {"chat_template": "{{ raise_exception('no\nsystem\x1b[2J') }}"}, Question("yo")),
]


@pytest.mark.parametrize(("name", "settings", "question"), WRONG)
def test_errors_are_those_of_this_process_and_the_worker_stays(workers, spec, name, settings, question) -> None:
    model = spec(name, **settings)
    errors: list[BackendError] = []
    with LlamaCpp() as here:
        for backend in (here, workers, workers):
            with pytest.raises(BackendError) as caught:
                backend.complete(model, question)
            errors.append(caught.value)
    assert len({(type(error), str(error), getattr(error, "excess", None)) for error in errors}) == 1
    assert len(processes()) == 1


def test_a_warning_comes_through_once(spec) -> None:
    heard: list[list[str]] = [[], []]
    for backend, warnings in zip((LlamaCpp(heard[0].append), Workers(heard[1].append)), heard, strict=True):
        with backend:
            for _ in range(2):
                assert backend.complete(spec("bare"), Question("yo", max_tokens=1)).tokens_out == 1
        assert len(warnings) == 1
    assert heard[0] == heard[1]


def test_starting_is_loading_and_is_told_apart(workers, spec) -> None:
    model = spec("rote")
    called = time.perf_counter()
    first = workers.complete(model, Question("yo"))
    took = time.perf_counter() - called
    assert 0 < first.load_s < took
    assert 0 < first.latency_s < took
    assert first.load_s + first.latency_s == pytest.approx(took, abs=0.05)
    assert workers.complete(model, Question("yo")).load_s == 0
    with ThreadPoolExecutor(4) as pool:
        others = [pool.submit(workers.complete, spec("random"), Question("yo", max_tokens=2)) for _ in range(4)]
    assert all(other.result().load_s > 0 for other in others)  # each has waited for it
    workers.complete(replace(model, name="twin", temperature=1.0, system="S"), Question("yo"))
    assert len(processes()) == 2


@pytest.mark.parametrize(
    "error",
    [
        ModelFileError(Path("a"), "is no file"),
        PromptTooLongError("too long", 0.25),
        BackendError("busy", again_after_s=3.0),
        MissingExtraError("a", "b", "c"),
        UnknownNameError("model", "a", ["ab"]),
    ],
)
def test_errors_travel(error: Exception) -> None:
    there = pickle.loads(pickle.dumps(error))
    assert (type(there), str(there), vars(there)) == (type(error), str(error), vars(error))
