"""A zoo larger than the memory: which models are loaded, and which are evicted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messctl.backends import LlamaCpp
from messctl.backends.residency import Memory, OverBudgetError, Residency
from messctl.errors import BackendError, NoRoomError
from messctl.gguf import read_header
from messctl.records import Completion, Question
from messctl.zoo import ModelSpec
from messctl.zoo.memory import CPU, GPU, memory_needed
from messctl.zoo.models import BOX

NAMES = ("pico-34k", "nano-109k", "micro-400k", "mini-1m")
ASK = Question("What is 3 + 4?", temperature=0.0)
ROOM_S = 0.05


class Held:
    """A model that takes no memory."""

    def __init__(self) -> None:
        self.lock, self.closed = threading.Lock(), False

    def close(self) -> None:
        assert not self.closed
        self.closed = True


def box(name: str) -> ModelSpec:
    """A model in the box, on the processor, whose memory the budgets limit."""
    return ModelSpec(name, BOX / f"{name}.gguf", n_ctx=0, temperature=0.0, max_tokens=32, n_threads=1, gpu="off")


def size(name: str) -> float:
    return float(read_header(BOX / f"{name}.gguf").memory_bytes(0))


# --- the bookkeeping ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uses", "left"),
    [
        ("a", "a"),
        ("ab", "ab"),
        ("abc", "bc"),
        ("abac", "ac"),
        ("abacb", "cb"),
        ("abab", "ab"),
        ("abcabc", "bc"),
        ("abD", "D"),
        ("Dab", "ab"),
    ],
)
def test_the_least_recently_used_model_is_evicted(uses: str, left: str) -> None:
    residency: Residency[str, Held] = Residency({CPU: 2})
    for use in uses:
        if residency.get(use) is None:
            residency.load(use, {CPU: 2 if use == "D" else 1}, Held)
    assert "".join(residency.resident()) == left


NEEDS = st.fixed_dictionaries({CPU: st.integers(0, 4), GPU: st.integers(0, 4)})


@given(st.integers(4, 9), st.integers(4, 9), st.lists(st.tuples(st.sampled_from("abcde"), NEEDS)))
def test_eviction_equals_that_of_a_plain_list(cpu: int, gpu: int, uses: list[tuple[str, dict[str, int]]]) -> None:
    """With two devices. The list is searched again from the start for each model to evict."""
    budget = {CPU: cpu, GPU: gpu}
    memory: Memory[str] = Memory(budget)
    plain: list[tuple[str, dict[str, int]]] = []

    def over(device: str, need: dict[str, int]) -> bool:
        return need[device] > 0 and sum(taken[device] for _, taken in plain) + need[device] > budget[device]

    for key, need in uses:
        known = [each for each in plain if each[0] == key]
        if known:
            plain = [each for each in plain if each[0] != key] + known
            memory.use(key)
        else:
            going = memory.to_evict(need)
            assert going is not None
            gone = []
            while full := [device for device in budget if over(device, need)]:
                oldest = next(each for each in plain if any(each[1][device] for device in full))
                plain.remove(oldest)
                gone.append(oldest[0])
            assert list(going) == gone
            for other in going:
                memory.free(other)
            plain.append((key, need))
            memory.take(key, need)
        assert list(memory) == [name for name, _ in plain]


def test_busy_models_are_never_evicted() -> None:
    memory: Memory[str] = Memory({CPU: 3})
    for key in "abc":
        memory.take(key, {CPU: 1})
    assert memory.to_evict({CPU: 1}, "a") == ("b",)
    assert memory.to_evict({CPU: 2}, "b") == ("a", "c")
    assert memory.to_evict({CPU: 3}, "b") is None
    assert memory.to_evict({GPU: 9}) == ()
    assert (memory.too_large({CPU: 4}), memory.too_large({CPU: 3, GPU: 9})) == (CPU, None)


@pytest.mark.parametrize(
    ("layers", "offload", "on_gpu"),
    [(-1, True, 1.0), (0, True, 0.0), (2, True, 0.5), (99, True, 1.0), (-1, False, 0.0)],
)
def test_memory_is_divided_between_devices_by_layers(layers: int, offload: bool, on_gpu: float) -> None:
    header = replace(read_header(BOX / "mini-1m.gguf"), block_count=3)
    total = header.memory_bytes(0)
    parts = {CPU: total * (1 - on_gpu), GPU: total * on_gpu}
    spec = replace(box("mini-1m"), n_gpu_layers=layers, gpu="auto")
    assert memory_needed(spec, header, offload=offload) == {device: part for device, part in parts.items() if part}


# --- loading and evicting ----------------------------------------------------------------------------------------


def test_a_load_without_enough_memory_is_tried_again_after_evicting_all() -> None:
    residency: Residency[str, Held] = Residency({})
    models = {key: residency.load(key, {}, Held) for key in "abc"}
    tries = []

    def second() -> Held:
        tries.append("".join(residency.resident()))
        if len(tries) < 2:
            raise NoRoomError("too little")
        return Held()

    with residency.using(models["b"]) as there:
        assert there
        residency.load("d", {}, second)
    assert tries == ["abc", "b"]
    assert "".join(residency.resident()) == "bd"
    assert [key for key, model in models.items() if model.closed] == ["a", "c"]


@pytest.mark.parametrize(("error", "left"), [(BackendError("damaged"), "ab"), (NoRoomError("far too large"), "")])
def test_a_failed_load_evicts_only_for_lack_of_memory(error: BackendError, left: str) -> None:
    """Other errors leave the loaded models in memory. After any error, other models can be loaded."""
    residency: Residency[str, Held] = Residency({})
    for key in "ab":
        residency.load(key, {}, Held)

    def broken() -> Held:
        raise error

    with pytest.raises(type(error)):
        residency.load("c", {}, broken)
    assert "".join(residency.resident()) == left
    residency.load("d", {}, Held)
    assert residency.holds("d")


def test_a_load_evicts_another_model_or_waits_for_one_that_answers() -> None:
    residency: Residency[str, Held] = Residency({CPU: 2})
    first, second = (residency.load(key, {CPU: 1}, Held) for key in "ab")
    with ThreadPoolExecutor(1) as pool:
        with residency.using(first):
            pool.submit(residency.load, "c", {CPU: 1}, Held).result(5)
            assert (first.closed, second.closed) == (False, True)
            waiting = pool.submit(residency.load, "d", {CPU: 2}, Held)
            time.sleep(ROOM_S)
            assert not waiting.done()
            assert not first.closed
        waiting.result(5)
    assert "".join(residency.resident()) == "d"


def test_a_load_within_an_answer_fails_instead_of_waiting_for_itself() -> None:
    residency: Residency[str, Held] = Residency({CPU: 1})
    model = residency.load("a", {CPU: 1}, Held)
    with residency.using(model), pytest.raises(OverBudgetError, match="that are answering"):
        residency.load("b", {CPU: 1}, Held)
    assert not model.closed


# --- the models in the box ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def expected() -> dict[str, Completion]:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    with LlamaCpp() as backend:
        return {name: backend.complete(box(name), ASK) for name in NAMES}


@pytest.fixture
def two(expected: dict[str, Completion]) -> Iterator[LlamaCpp]:
    """A backend whose budget holds any two of the four models, but no third one beside the two largest."""
    with LlamaCpp(budget={CPU: size("micro-400k") + size("mini-1m")}) as backend:
        yield backend


def loaded(backend: LlamaCpp) -> set[str]:
    return {name for name in NAMES if backend.resident(box(name))}


def test_four_models_answer_with_memory_for_two(two: LlamaCpp, expected: dict[str, Completion]) -> None:
    budget = size("micro-400k") + size("mini-1m")
    for name in (*NAMES, *NAMES, *reversed(NAMES)):
        there = name in loaded(two)
        completion = two.complete(box(name), ASK)
        assert (completion.answer, completion.tokens_out) == (expected[name].answer, expected[name].tokens_out)
        assert (completion.load_s == 0.0) == there
        assert name in loaded(two)
        assert sum(map(size, loaded(two))) <= budget
    two.close()
    two.complete(box("micro-400k"), ASK)
    two.complete(box("mini-1m"), ASK)
    assert loaded(two) == {"micro-400k", "mini-1m"}
    two.complete(box("micro-400k"), ASK)
    two.complete(box("pico-34k"), ASK)
    assert loaded(two) == {"micro-400k", "pico-34k"}


def test_a_model_larger_than_the_budget_is_refused(expected: dict[str, Completion]) -> None:
    with LlamaCpp(budget={CPU: size("nano-109k")}) as backend:
        backend.complete(box("nano-109k"), ASK)
        with pytest.raises(NoRoomError, match="model 'mini-1m' .* 4.77 MB, but memory.cpu_gb .* 1.01 MB"):
            backend.complete(box("mini-1m"), ASK)
        assert backend.complete(box("nano-109k"), ASK).load_s == 0.0


def test_threads_use_four_models_with_memory_for_two(two: LlamaCpp, expected: dict[str, Completion]) -> None:
    asked = [*NAMES, *reversed(NAMES)] * 5
    with ThreadPoolExecutor(4) as pool:
        answers = [each.result(60).answer for each in [pool.submit(two.complete, box(name), ASK) for name in asked]]
    assert answers == [expected[name].answer for name in asked]


def test_within_an_answer_another_model_answers_if_there_is_room(
    two: LlamaCpp, expected: dict[str, Completion]
) -> None:
    """Two threads each need memory that the other one uses: both get an error, and neither waits for ever."""
    both, tried = threading.Barrier(2), []

    def ask(name: str, other: str) -> str:
        def listener(_text: str) -> None:
            if other not in tried:
                tried.append(other)
                both.wait(30)
                with pytest.raises(BackendError, match="beside the models that are answering"):
                    two.complete(box(other), ASK)
                both.wait(30)

        return two.complete(box(name), ASK, listener).answer

    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask, "mini-1m", "pico-34k"), pool.submit(ask, "micro-400k", "nano-109k")]
        assert [each.result(60) for each in asked] == [expected["mini-1m"].answer, expected["micro-400k"].answer]


def test_a_context_too_large_for_memory_leaves_other_models_working(
    expected: dict[str, Completion], monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [0, size("mini-1m")]
    with LlamaCpp() as backend:
        backend.complete(box("nano-109k"), ASK)
        with monkeypatch.context() as patched:
            patched.setattr("messctl.backends.llama_model.free_memory", lambda: free.pop(0))
            assert backend.complete(box("mini-1m"), ASK).answer == expected["mini-1m"].answer
        assert loaded(backend) == {"mini-1m"}
        monkeypatch.setattr("messctl.backends.llama_model.free_memory", lambda: 0)
        with pytest.raises(NoRoomError, match="lower n_ctx"):
            backend.complete(box("micro-400k"), ASK)
        monkeypatch.undo()
        for name in NAMES:
            assert backend.complete(box(name), ASK).answer == expected[name].answer


def test_a_damaged_file_evicts_no_model(expected: dict[str, Completion], tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes((BOX / "pico-34k.gguf").read_bytes()[:20000])
    with LlamaCpp() as backend:
        backend.complete(box("nano-109k"), ASK)
        with pytest.raises(BackendError, match="bad.gguf"):
            backend.complete(ModelSpec("bad", bad), ASK)
        assert backend.complete(box("nano-109k"), ASK).load_s == 0.0
