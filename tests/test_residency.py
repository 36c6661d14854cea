"""A zoo larger than the memory: what is loaded, what makes room, what a load costs, and workers that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("llama_cpp")

from backends_files import ANSWER, write_gguf

from messctl.backends import LlamaCpp
from messctl.backends.residency import Residency
from messctl.errors import BackendError, NoRoomError, PromptTooLongError
from messctl.gguf_header import read_header
from messctl.loads import Loads
from messctl.records import Decision, Question, Request, Weighed
from messctl.zoo import CostPerToken, ModelSpec, check_zoo, load_zoo
from messctl.zoo.models import BOX

NAMES = ("pico-34k", "nano-109k", "micro-400k", "mini-1m")
ASKED = 120
ASK = Question("What is 3 + 4?", temperature=0.0)


class Held:
    """A model that takes no memory."""

    def __init__(self) -> None:
        self.lock, self.closed = threading.Lock(), False

    def close(self) -> None:
        self.closed = True


def box(name: str, *, isolate: bool = False) -> ModelSpec:
    return ModelSpec(name, BOX / f"{name}.gguf", n_ctx=0, temperature=0.0, max_tokens=32, isolate=isolate)


def needs(name: str) -> int:
    return read_header(BOX / f"{name}.gguf").memory_bytes(0)


@pytest.mark.parametrize(
    ("uses", "left", "loads"),
    [
        ("a", "a", 1),
        ("ab", "ab", 2),
        ("abc", "bc", 3),
        ("abac", "ac", 3),
        ("abacb", "cb", 4),
        ("abab", "ab", 2),
        ("abcabc", "bc", 6),
        ("abD", "D", 3),
        ("Dab", "ab", 3),
    ],
)
def test_the_least_recently_used_makes_room(uses: str, left: str, loads: int) -> None:
    loaded = []
    residency: Residency[str, Held] = Residency(2)
    for use in uses:
        if residency.get(use) is None:
            residency.load(use, 2 if use == "D" else 1, lambda use=use: loaded.append(use) or Held())
    assert residency.resident() == tuple(left)
    assert len(loaded) == loads


@given(st.integers(4, 9), st.lists(st.sampled_from([("a", 1), ("b", 2), ("c", 3), ("d", 4)])))
def test_residency_is_a_plain_lru_list(budget: int, uses: list[tuple[str, int]]) -> None:
    residency: Residency[str, Held] = Residency(budget)
    plain: list[tuple[str, int]] = []
    held: dict[str, Held] = {}
    for key, size in uses:
        if residency.get(key) is None:
            held[key] = residency.load(key, size, Held)
        plain = [each for each in plain if each[0] != key]
        while sum(other for _, other in plain) + size > budget:
            plain.pop(0)
        plain.append((key, size))
        assert residency.resident() == tuple(name for name, _ in plain)
        assert {name for name, model in held.items() if not model.closed} == set(residency.resident())


def test_a_failed_load_is_tried_again_with_more_room_and_leaves_the_others_otherwise() -> None:
    residency: Residency[str, Held] = Residency()
    for key in "abc":
        residency.load(key, 1, Held)
    tries = []

    def second() -> Held:
        tries.append(residency.resident())
        if len(tries) < 2:
            raise NoRoomError("too little")
        return Held()

    residency.load("d", 1, second)
    assert tries == [("a", "b", "c"), ("b", "c")]

    def broken() -> Held:
        raise BackendError("damaged")

    with pytest.raises(BackendError, match="damaged"):
        residency.load("e", 1, broken)
    assert residency.resident() == ("b", "c", "d")


def test_a_model_that_answers_is_waited_for_and_never_by_itself() -> None:
    residency: Residency[str, Held] = Residency(1)
    first = residency.load("a", 1, Held)
    with ThreadPoolExecutor(1) as pool:
        with residency.using(first) as there:
            assert there
            with pytest.raises(NoRoomError, match="answering"):
                residency.load("b", 1, Held)
            waiting = pool.submit(residency.load, "b", 1, Held)
            time.sleep(0.05)
            assert not waiting.done()
            assert not first.closed
        waiting.result(5)
    assert first.closed
    assert residency.resident() == ("b",)


def test_a_budget_that_holds_two_of_the_models_in_the_box() -> None:
    budget = needs("micro-400k") + needs("mini-1m")
    with LlamaCpp() as free:
        expected = {name: free.complete(box(name), ASK).answer for name in NAMES}
    with LlamaCpp(budget_bytes=budget) as backend:
        for _ in range(2):
            for name in NAMES:
                assert backend.complete(box(name), ASK).answer == expected[name]
                assert sum(needs(each) for each in NAMES if backend.resident(box(each))) <= budget
        assert backend.complete(box("mini-1m"), ASK).load_s == 0
        assert backend.complete(box("pico-34k"), ASK).load_s > 0


def test_a_model_larger_than_the_budget_is_told() -> None:
    with LlamaCpp(budget_bytes=needs("nano-109k")) as backend:
        backend.complete(box("nano-109k"), ASK)
        with pytest.raises(NoRoomError, match="'mini-1m'.*memory budget"):
            backend.complete(box("mini-1m"), ASK)
        assert backend.complete(box("nano-109k"), ASK).load_s == 0


def test_threads_share_a_small_budget() -> None:
    with LlamaCpp(budget_bytes=needs("mini-1m")) as backend, ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda name: backend.complete(box(name), ASK), NAMES * 6))
    assert [each.model for each in done] == [*NAMES] * 6
    assert all(each.answer for each in done)


# --- what a load costs -------------------------------------------------------------------------------------------


def _decided(served: str, surcharge: dict[str, float], **weights: float) -> Decision:
    total = {name: weight + 0.5 * surcharge.get(name, 0.0) for name, weight in weights.items()}
    request = Request("r", "p", surcharge=surcharge)
    return Decision(request, 1, served, (served,), weighed=Weighed({"all": total}, {}))


def test_regret_buys_the_load_once_doing_without_has_cost_as_much() -> None:
    spec = ModelSpec("cold", Path("/x.gguf"), cost=CostPerToken("J", 1, 1, load=10.0))
    loads, surcharges = Loads(), []
    while extra := loads.surcharge([spec]):
        surcharges.append(extra["cold"])
        loads.regret(_decided("warm", dict(extra), cold=0.0, warm=2.0), _decided("cold", {}, cold=0.0, warm=2.0))
    assert surcharges == [10.0, 6.0, 2.0]  # a gain of 2, where a unit of cost weighs 0.5, is 4 units
    loads.observe(spec, 10.0, 0.1)
    assert loads.surcharge([spec]) == {"cold": 10.0}


def test_loads_cost_what_is_stated_or_their_seconds() -> None:
    stated = ModelSpec("m", Path("/x.gguf"), cost=CostPerToken("J", 1, 1, load=10.0))
    silent = ModelSpec("m", Path("/x.gguf"), cost=CostPerToken("J", 1, 1))
    plain = ModelSpec("m", Path("/x.gguf"))
    assert (Loads().cost(stated, 2.0), Loads().cost(stated, 0.0), Loads().cost(silent, 2.0)) == (10.0, 0.0, 0.0)
    assert (Loads(30.0).cost(plain, 2.0), Loads().cost(plain, 2.0)) == (60.0, 0.0)
    loads = Loads(30.0)
    assert loads.surcharge([plain]) == {}
    for load_s in (1.0, 3.0, 0.0):
        loads.observe(plain, 30.0 * load_s, load_s)
    assert loads.surcharge([plain]) == {"m": 60.0}


# --- a process per model -----------------------------------------------------------------------------------------


@pytest.fixture
def apart() -> Iterator[LlamaCpp]:
    with LlamaCpp() as backend:
        yield backend


def _worker(backend: LlamaCpp):
    ((model, _),) = backend._residency._models.values()
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
    pid = _worker(apart).pid
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert apart.complete(model, ASK).load_s > 0


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
((worker, _),) = backend._residency._models.values()
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


@pytest.mark.parametrize(
    ("factor", "fatal", "text"), [(1.0, False, "holds at most 3 of 4"), (0.6, True, "never loads")]
)
def test_the_check_says_what_fits_the_budget(tmp_path: Path, factor: float, fatal: bool, text: str) -> None:
    path = tmp_path / "zoo.yaml"
    lines = "".join(f"- {{name: {name}, path: 'box:{name}.gguf', n_ctx: 0}}\n" for name in NAMES)
    path.write_text(f"memory: {{budget_gb: {factor * needs('mini-1m') / 1e9!r}}}\nmodels:\n{lines}")
    problems = check_zoo(load_zoo(path), None).problems
    assert [problem.fatal for problem in problems] == [fatal]
    assert text in str(problems[0])
