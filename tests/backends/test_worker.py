"""Models in worker processes: they answer as in this process, and a crash loses one answer at most."""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from live_making import Terminal

from messctl.backends import LlamaCpp
from messctl.backends.worker_messages import ANSWER, STOPPED, TEXT, Ask, Reply, Stop, receive, send
from messctl.costs.meter_choice import meter_for
from messctl.errors import (
    BackendError,
    CrashedError,
    MissingExtraError,
    ModelFileError,
    PromptTooLongError,
    UnknownNameError,
)
from messctl.live.router import Router
from messctl.records import Completion, Decision, Question
from messctl.state.outages import FIRST_PAUSE_S
from messctl.state.store import Store
from messctl.zoo import PACKAGED_FILE, ModelSpec, load_zoo

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
making = pytest.importorskip("backends_files", reason="gguf is not installed")

if not sys.platform.startswith("linux"):
    pytest.skip("processes are counted in /proc", allow_module_level=True)

SAYS = "hé!"
LONGEST_WAIT_S = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small models: one repeats a fixed answer, one never ends, one has an answer that depends on the whole prompt."""
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
def workers() -> Iterator[LlamaCpp]:
    before = processes()
    with LlamaCpp() as backend:
        yield backend
    assert processes() == before


OTHERS: set[int] = set()
"""Processes that other tests have started and that are still running, such as joblib's."""


@pytest.fixture(autouse=True)
def _others() -> Iterator[None]:
    OTHERS.update(processes())
    yield
    OTHERS.clear()


def processes(of: int | None = None) -> set[int]:
    """Return the children of a process, by default of this one; zombies count, processes in OTHERS do not."""
    return {int(pid) for pid, parent in parents().items() if parent == (of or os.getpid())} - OTHERS


def parents() -> dict[int, int]:
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    return found


def state_of(pid: int) -> str:
    """Return the state of a process as one letter: running (R), zombie (Z), gone (X) …"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def wait_until(true: Callable[[], bool], seconds: float = LONGEST_WAIT_S) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "the condition is still false"
        time.sleep(0.01)


def kill(pids: set[int], how: signal.Signals = signal.SIGKILL) -> None:
    """Kill processes and wait until they are zombies."""
    for pid in pids:
        os.kill(pid, how)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def without_times(completion: Completion) -> Completion:
    return replace(completion, latency_s=0.0, load_s=0.0)


# --- same as in this process ---------------------------------------------------------------------------------


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
def test_a_worker_answers_exactly_as_this_process_does(workers, spec, name, settings, question) -> None:
    model = spec(name, **settings)
    pieces: list[list[str]] = []
    done: list[Completion] = []
    with LlamaCpp() as here:
        for backend, asked in ((here, replace(model, isolate=False)), (workers, model)):
            pieces.append([])
            done.append(backend.complete(asked, question, pieces[-1].append))
    assert without_times(done[0]) == without_times(done[1])
    assert pieces[0] == pieces[1]
    assert without_times(workers.complete(model, question)) == without_times(done[0])


def test_workers_with_the_models_in_the_box_answer_as_this_process_does() -> None:
    prompts = ["What is 17 + 25?", "Reverse the word stone.", "Is 7 odd or even?", "What is the capital of Italy?"]
    with LlamaCpp() as backend:
        for model in load_zoo(PACKAGED_FILE).models:
            for prompt in prompts:
                question = Question(prompt, logprob=True)
                here, there = (backend.complete(replace(model, isolate=apart), question) for apart in (False, True))
                assert without_times(here) == without_times(there)


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


@pytest.mark.slow
@pytest.mark.parametrize(("name", "settings", "question"), WRONG)
def test_a_worker_raises_the_same_errors_as_this_process(workers, spec, name, settings, question) -> None:
    model = spec(name, **settings)
    errors: list[BackendError] = []
    for apart in (False, True, True):
        with pytest.raises(BackendError) as caught:
            workers.complete(replace(model, isolate=apart), question)
        errors.append(caught.value)
    assert len({(type(error), str(error), getattr(error, "excess", None)) for error in errors}) == 1


def test_a_warning_of_a_worker_arrives_once(spec) -> None:
    warnings: list[str] = []
    with LlamaCpp(warnings.append) as backend:
        for apart in (False, True):
            for _ in range(2):
                assert backend.complete(spec("bare", isolate=apart), Question("yo", max_tokens=1)).tokens_out == 1
    assert len(warnings) == 2
    assert warnings[0] == warnings[1]


def test_starting_a_worker_counts_as_loading_and_not_as_latency(workers, spec) -> None:
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
    assert all(other.result().load_s > 0 for other in others)  # each of them waited for the load
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
def test_errors_survive_pickling(error: Exception) -> None:
    there = pickle.loads(pickle.dumps(error))
    assert (type(there), str(there), vars(there)) == (type(error), str(error), vars(error))


# --- crashes --------------------------------------------------------------------------------------------------------

LONG = {"n_ctx": 30_000, "max_tokens": 30_000}


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV, signal.SIGTERM])
def test_a_crash_during_an_answer_loses_only_that_answer(workers, spec, how) -> None:
    other, model = spec("rote"), spec("endless", **LONG)
    assert workers.complete(other, Question("yo")).answer == SAYS
    (bystander,) = processes()
    before, pieces = descriptors(), []

    def listener(text: str) -> None:
        if not pieces:
            (victim,) = processes() - {bystander}
            os.kill(victim, how)
        pieces.append(text)

    for _ in range(2):
        pieces.clear()
        with pytest.raises(CrashedError) as caught:
            workers.complete(model, Question("yo"), listener)
        message = str(caught.value)
        assert message.startswith(f"model 'endless' ({model.path}): its worker process was ended by {how.name}")
        assert ": this answer is lost; the next request starts a new one; if it dies again, " in message
        assert ("memory runs out" in message) == (how == signal.SIGKILL)
        assert message.isprintable()
        assert 0 < len(pieces) < 30_000
        assert processes() == {bystander}
        assert descriptors() == before
        assert workers.complete(other, Question("yo")).answer == SAYS
    assert workers.complete(model, Question("yo", max_tokens=3)).answer == "aaa"


def test_a_crash_between_answers_loses_nothing(workers, spec) -> None:
    for _ in range(3):
        assert workers.complete(spec("rote"), Question("yo")).answer == SAYS
        kill(processes())
    assert workers.complete(spec("rote"), Question("yo")).load_s > 0


def test_an_abort_of_llama_cpp_is_reported_with_its_reason(workers, spec, tmp_path, monkeypatch) -> None:
    """It is llama.cpp's own abort, which prints the reason and ends the process."""
    (tmp_path / "sitecustomize.py").write_text(
        "import ctypes, importlib.util, pathlib\n"
        "from messctl.backends.llama_model import LlamaModel\n"
        "def generate(self, prompt, sampling, limit):\n"
        "    folder = pathlib.Path(importlib.util.find_spec('llama_cpp').origin).parent / 'lib'\n"
        "    library = ctypes.CDLL(str(next(folder.glob('*ggml-base*'))))\n"
        "    library.ggml_abort(b'ggml.c', 7, b'GGML_ASSERT(%s) failed', b'n > 0')\n"
        "LlamaModel.generate = generate\n"
    )
    with monkeypatch.context() as patched:
        patched.syspath_prepend(str(tmp_path))
        with pytest.raises(BackendError, match=r"was ended by SIGABRT \(ggml.c:7: GGML_ASSERT\(n > 0\) failed\): "):
            workers.complete(spec("rote"), Question("yo"))
    assert workers.complete(spec("rote"), Question("yo")).answer == SAYS


def test_a_worker_that_cannot_start_is_reported(workers, spec, tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", str(tmp_path / "python"))
        with pytest.raises(BackendError, match=r"model 'rote' .*: its worker process cannot start: No such file"):
            workers.complete(spec("rote"), Question("yo"))
    (tmp_path / "sitecustomize.py").write_text("import os; os.write(2, b'no\\x1b[2J\\n\\n'); os._exit(3)")
    with monkeypatch.context() as patched:
        patched.syspath_prepend(str(tmp_path))
        with pytest.raises(
            BackendError, match=r"cannot be loaded: its worker process ended with exit code 3 \(no\\x1b\[2J\): "
        ):
            workers.complete(spec("rote"), Question("yo"))
    assert workers.complete(spec("rote"), Question("yo")).answer == SAYS


@pytest.mark.slow
def test_many_threads_ask_while_workers_are_killed(workers, spec) -> None:
    """Every kill loses one request at most; all others get the right answer."""
    models = [spec("rote"), spec("random", max_tokens=8), spec("endless", max_tokens=20)]
    right = {model.name: workers.complete(model, Question("yo")).answer for model in models}
    before, killed, coin = descriptors(), threading.Event(), random.Random(0)

    def ask(n: int) -> tuple[str, str]:
        model = models[n % len(models)]
        try:
            return model.name, workers.complete(model, Question("yo"), lambda _: None).answer
        except BackendError as error:
            return model.name, str(error)

    def attack(kills: int) -> None:
        for _ in range(kills):
            time.sleep(coin.uniform(0.2, 0.6))
            wait_until(lambda: bool(processes()))
            os.kill(coin.choice(sorted(processes())), signal.SIGKILL)
        killed.set()

    answers = []
    with ThreadPoolExecutor(1) as killer, ThreadPoolExecutor(8) as pool:
        attacked = killer.submit(attack, 8)
        while not killed.is_set():
            answers += pool.map(ask, range(30))
        attacked.result()
    lost = [(name, text) for name, text in answers if text != right[name]]
    assert 0 < len(lost) <= 8
    assert all("was ended by SIGKILL" in text for _, text in lost)
    assert len(processes()) <= len(models)
    for model in models:
        assert workers.complete(model, Question("yo")).answer == right[model.name]
    assert descriptors() == before


@pytest.mark.slow
def test_nothing_is_left_after_close(spec) -> None:
    processes_before, descriptors_before, threads_before = processes(), descriptors(), threading.active_count()
    with LlamaCpp() as workers:
        for _ in range(3):
            for name in ("rote", "random"):
                workers.complete(spec(name), Question("yo", max_tokens=2))
            assert len(processes() - processes_before) == 2
            workers.close()
            workers.close()
            assert processes() == processes_before
            assert descriptors() == descriptors_before
            assert threading.active_count() == threads_before


def test_close_waits_for_a_running_answer(workers, spec) -> None:
    started, go = threading.Event(), threading.Event()

    def listener(_text: str) -> None:
        started.set()
        go.wait(LONGEST_WAIT_S)

    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(workers.complete, spec("rote"), Question("yo"), listener)
        assert started.wait(LONGEST_WAIT_S)
        closed = pool.submit(workers.close)
        time.sleep(0.05)
        assert not closed.done()
        go.set()
        closed.result(LONGEST_WAIT_S)
        assert asked.result(LONGEST_WAIT_S).answer == SAYS
    assert not processes()


def test_close_kills_a_worker_that_does_not_respond(workers, spec, monkeypatch) -> None:
    monkeypatch.setattr("messctl.backends.worker._PATIENCE_S", 0.1)
    workers.complete(spec("rote"), Question("yo"))
    (pid,) = processes()
    os.kill(pid, signal.SIGSTOP)
    workers.close()
    assert not processes()


# --- Ctrl-C, and the end of the parent process -----------------------------------------------------------------


def test_ctrl_c_ends_an_answer_and_leaves_the_worker_usable(workers, spec) -> None:
    model, pieces = spec("endless", **LONG), []

    def listener(text: str) -> None:
        pieces.append(text)
        if len(pieces) == 3:
            signal.raise_signal(signal.SIGINT)

    for _ in range(3):
        pieces.clear()
        with pytest.raises(KeyboardInterrupt):
            workers.complete(model, Question("yo"), listener)
        assert pieces == ["a"] * 3
        pids = processes()
        assert len(pids) == 1
        assert workers.complete(model, Question("yo", max_tokens=2)).answer == "aa"
        assert processes() == pids


@pytest.mark.parametrize("error", [BrokenPipeError, ValueError])
def test_an_exception_in_on_text_reaches_the_caller(workers, spec, error) -> None:
    def listener(_text: str) -> None:
        raise error

    with pytest.raises(error):
        workers.complete(spec("rote"), Question("yo"), listener)
    assert workers.complete(spec("rote"), Question("yo")).answer == SAYS


@pytest.mark.slow
def test_ctrl_c_at_any_instant_leaves_the_backend_usable(workers, spec) -> None:
    """While the worker starts, loads, reads, answers, and between: the result is KeyboardInterrupt or the answer."""
    model, coin, interrupted = spec("random", n_ctx=4096, max_tokens=200), random.Random(0), 0
    question = Question("x" * 2000)
    right = workers.complete(model, question).answer
    for turn in range(40):
        if turn % 8 == 0:
            workers.close()
        timer = threading.Timer(coin.uniform(0, 0.8 if turn % 8 == 0 else 0.2), os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            assert workers.complete(model, question, lambda _: None).answer == right
            timer.join()
            time.sleep(1)  # the interrupt comes here
        except KeyboardInterrupt:
            interrupted += 1
        timer.join()
        assert len(processes()) <= 1
    assert interrupted == 40
    assert workers.complete(model, question).answer == right


def test_ctrl_c_while_a_long_prompt_is_sent_ends_only_the_worker(workers, spec) -> None:
    """The worker has received half a message, so it could not read another one."""
    assert workers.complete(spec("rote"), Question("yo")).answer == SAYS
    (pid,) = processes()
    os.kill(pid, signal.SIGSTOP)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        timer.start()
        workers.complete(spec("rote"), Question("x" * 3_000_000))
    timer.join()
    assert workers.complete(spec("rote"), Question("yo")).answer == SAYS
    assert pid not in processes()


@pytest.fixture
def wired(spec) -> Iterator[Callable[..., Any]]:
    """A worker's process, used as `Worker` does: a function sends messages and returns all replies to the last one.

    After the reply number `after`, it calls `then`.
    """
    command = [sys.executable, "-m", "messctl.backends.worker_main"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:

        def talk(*messages: Ask | Stop, after: int = 0, then: Callable[..., None] = print) -> list[Reply]:
            for message in messages:
                send(worker.stdin, message)
            replies: list[Reply] = []
            while not replies or replies[-1].kind == TEXT:
                if after and len(replies) == after:
                    then(worker)
                replies.append(receive(worker.stdout))
            return replies

        yield talk
        worker.stdin.close()
        assert worker.wait(LONGEST_WAIT_S) == 0


@pytest.mark.slow
def test_a_worker_stops_for_a_stop_message_and_not_for_ctrl_c(wired, spec) -> None:
    model, question, long = spec("endless", **LONG), Question("yo"), Question("yo", max_tokens=2000)
    assert wired(Ask(1, model, question, True), Stop(1)) == [Reply(1, STOPPED, None)]
    short = Ask(2, model, Question("yo", max_tokens=3), False)
    assert wired(short, Stop(1))[-1].value.answer == "aaa"  # question 1 is over
    replies = wired(Ask(3, model, long, True), after=2, then=lambda worker: worker.send_signal(signal.SIGINT))
    assert (len(replies), replies[-1].kind) == (2001, ANSWER)  # a worker ignores Ctrl-C
    stop = Stop(4)
    replies = wired(
        Ask(4, model, question, True),
        after=2,
        then=lambda worker: send(worker.stdin, stop),
    )
    assert replies[-1] == Reply(4, STOPPED, None)
    assert len(replies) < 30_000


ASKING = """
import sys, time
from pathlib import Path
from messctl.backends import LlamaCpp
from messctl.records import Question
from messctl.zoo import ModelSpec

model = ModelSpec("endless", Path(sys.argv[1]), n_ctx=30000, max_tokens=30000, temperature=0.0, isolate=True)
workers = LlamaCpp()
workers.complete(model, Question("yo", max_tokens=1))
print("rests", flush=True)
if sys.argv[2] == "answering":
    workers.complete(model, Question("yo"), lambda text: print(text, flush=True))
sys.stdin.read()
if sys.argv[2] == "leaving":
    sys.exit()
"""


@pytest.mark.slow
@pytest.mark.parametrize("state", ["resting", "answering", "leaving"])
def test_a_worker_ends_with_the_process_that_started_it(folder, state) -> None:
    command = [sys.executable, "-c", ASKING, str(folder / "endless.gguf"), state]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as asking:
        assert asking.stdout.readline() == b"rests\n"
        if state == "answering":
            assert asking.stdout.readline() == b"a\n"
        (worker,) = processes(asking.pid)
        if state == "leaving":
            asking.stdin.close()
        else:
            asking.kill()
        asking.stdout.read()
    wait_until(lambda: state_of(worker) in "XZ")


QUIET = """
import sys
from pathlib import Path
from messctl.backends import LlamaCpp
from messctl.errors import BackendError
from messctl.records import Question
from messctl.zoo import ModelSpec

with LlamaCpp() as workers:
    for path in map(Path, sys.argv[1:]):
        model = ModelSpec("m", path, n_ctx=64, temperature=0.0, isolate=True)
        try:
            print(workers.complete(model, Question("yo", max_tokens=9)).answer)
        except BackendError:
            print("error")
"""


@pytest.mark.slow
def test_workers_print_nothing(folder) -> None:
    names = ("rote", "cut", "damaged", "absent")
    command = [sys.executable, "-W", "error", "-c", QUIET, *(str(folder / f"{name}.gguf") for name in names)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"{SAYS}\nerror\nerror\nerror\n", "")


# --- in use --------------------------------------------------------------------------------------------------------


@pytest.fixture
def routing(folder, tmp_path) -> Iterator[Router]:
    """A router with a cheap model that never ends and an expensive one, each in a process of its own."""
    (tmp_path / "zoo.yaml").write_text(
        f"""
sla: {{alpha: 0.5}}
defaults: {{n_ctx: 30000, max_tokens: 30000, temperature: 0, isolate: true}}
models:
- {{name: cheap, path: {folder}/endless.gguf, cost: {{unit: USD, prompt: 1, generated: 1}}}}
- {{name: dear, path: {folder}/rote.gguf, cost: {{unit: USD, prompt: 10, generated: 10}}}}
"""
    )
    zoo = load_zoo(tmp_path / "zoo.yaml")
    backend = LlamaCpp()
    with Store(tmp_path / "state") as store:
        yield Router({model.name: model for model in zoo.models}, zoo.settings, backend, meter_for(zoo), store)
        assert store.check() == []
    backend.close()
    assert not processes()


def test_another_model_answers_when_a_worker_is_killed(routing) -> None:
    question = Question("yo", max_tokens=9)

    def murder(_: object) -> None:
        wait_until(lambda: bool(processes()))
        for pid in processes():
            os.kill(pid, signal.SIGABRT)

    with ThreadPoolExecutor(1) as killer:
        decided: list[str] = []

        def on_decision(decision: Decision) -> None:
            decided.append(decision.served)
            if len(decided) == 1:
                killer.submit(murder, None)

        asked = routing.ask(question, on_decision=on_decision)
    assert len(decided) == 2
    assert set(decided) == {"cheap", "dear"}
    assert asked.attempts == tuple(decided)
    assert list(asked.failures) == decided[:1]
    assert "was ended by SIGABRT" in asked.failures[decided[0]]
    assert asked.completion.model == decided[1]


def test_a_worker_killed_after_its_first_text_loses_one_request(routing) -> None:
    def listener(_text: str) -> None:
        for pid in processes():
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(BackendError, match="was ended by SIGKILL.*; part of its answer was shown"):
        routing.ask(Question("yo"), model="cheap", on_text=listener)
    (lost,) = routing.ledger().lost.values()
    assert lost.attempts == 1
    assert lost.again_at <= lost.at  # it may be queried again at once
    decided = []
    asked = routing.ask(Question("yo", max_tokens=2), on_decision=decided.append)
    assert (decided[0].request.excluded, asked.failures) == (frozenset(), {})
    assert routing.ask(Question("yo", max_tokens=2), model="cheap").completion.answer == "aa"
    assert routing.ledger().lost["cheap"].again_at is None


def test_a_worker_that_dies_while_loading_is_left_alone_for_a_while(routing, tmp_path, monkeypatch) -> None:
    """It is not a crash during an answer, so the next request would probably fail too."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal\n"
        "from messctl.backends.llama_cpp import LlamaCpp\n"
        "LlamaCpp.load = lambda self, model: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with monkeypatch.context() as patched:
        patched.syspath_prepend(str(tmp_path))
        with pytest.raises(BackendError) as caught:
            routing.ask(Question("yo"), model="cheap")
    assert not isinstance(caught.value, CrashedError)
    message = str(caught.value)
    assert ": cannot be loaded: its worker process was ended by SIGKILL, as the system does when " in message
    assert message.endswith(": lower n_ctx or n_gpu_layers in zoo.yaml")
    lost = routing.ledger().lost["cheap"]
    assert lost.again_at - lost.at == FIRST_PAUSE_S
    decided = []
    assert routing.ask(Question("yo", max_tokens=2), on_decision=decided.append).decision.served == "dear"
    assert decided[0].request.excluded == {"cheap"}


def test_only_models_with_isolate_run_in_a_worker(spec) -> None:
    backend = LlamaCpp()
    assert backend.complete(spec("rote", isolate=False), Question("yo")).answer == SAYS
    assert not processes()
    assert backend.complete(spec("rote"), Question("yo")).answer == SAYS
    assert len(processes()) == 1
    backend.close()
    assert not processes()


@pytest.mark.slow
def test_ctrl_c_at_a_terminal_ends_the_answer_and_not_the_worker(folder, tmp_path, monkeypatch) -> None:
    """A terminal sends SIGINT to every process of the chat's process group."""
    monkeypatch.setenv("MESSCTL_STATE", str(tmp_path / "state"))
    zoo = tmp_path / "zoo.yaml"
    models = "\n".join(f"- {{name: {name}, path: {folder}/{name}.gguf}}" for name in ("endless", "rote"))
    zoo.write_text(f"defaults: {{n_ctx: 30000, max_tokens: 30000, temperature: 0, isolate: true}}\nmodels:\n{models}\n")
    prompt = rb"\x1b\[\?2004h.*?> ?\x08?.*?\x1b\[\?25h"
    with Terminal("chat", "--zoo", str(zoo), "--model", "endless") as terminal:
        terminal.until(prompt)
        for _ in range(2):
            terminal.type(b"yo\r")
            terminal.until(rb"aaaa")
            workers = processes(terminal.running.pid)
            assert len(workers) == 1
            terminal.type(b"\x03")
            terminal.until(prompt)
            assert processes(terminal.running.pid) == workers
        terminal.type(b"/model rote\r")
        terminal.until(prompt)
        terminal.type(b"yo\r")
        terminal.until(rb"h\xc3\xa9!")
        terminal.until(prompt)
        workers = processes(terminal.running.pid)
        assert len(workers) == 2
        terminal.type(b"\x04")
        assert terminal.end()[0] == 0
    assert {state_of(pid) for pid in workers} <= {"X", "Z"}
