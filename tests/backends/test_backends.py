"""Backends: one suite for all of them, then tests with real models in real llama.cpp."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from messctl.backends import Backend, LlamaCpp, Scripted
from messctl.backends.answer_text import AnswerText
from messctl.errors import BackendError, MissingExtraError
from messctl.records import Completion, Question
from messctl.zoo import ModelSpec

SAYS = "hé!"  # four bytes, so four tokens and the end mark

FEW = st.text(alphabet="ab<é€🙂", max_size=12)


@dataclass(frozen=True)
class Files:
    """Small models on disk: one repeats a fixed answer, one never ends, one has random weights."""

    rote: Path
    endless: Path
    random: Path
    write: Callable[..., Path]
    tokens: tuple[str, ...]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    pytest.importorskip("gguf", reason="gguf is not installed")
    import backends_files as making

    folder = tmp_path_factory.mktemp("models")
    return Files(
        making.write_gguf(folder / "rote.gguf", making.says(SAYS.encode())),
        making.write_gguf(folder / "endless.gguf", {making.ANSWER: "a", "a": "a"}),
        making.write_gguf(folder / "random.gguf"),
        making.write_gguf,
        making.TOKENS,
    )


def spec(path: Path, **settings: Any) -> ModelSpec:
    return ModelSpec(path.stem, path, **{"n_ctx": 64, "n_threads": 1, "temperature": 0.0, **settings})


@pytest.fixture
def llama(files: Files) -> Iterator[LlamaCpp]:
    with LlamaCpp() as backend:
        yield backend


# --- every backend ---------------------------------------------------------------------------------------------


@pytest.fixture(params=["scripted", "llama.cpp"])
def backend(request: pytest.FixtureRequest) -> Iterator[tuple[Backend, ModelSpec]]:
    if request.param == "scripted":
        yield Scripted({"rote": SAYS}), ModelSpec("rote", Path("nowhere"))
    else:
        with LlamaCpp() as real:
            yield real, spec(request.getfixturevalue("files").rote)


def test_an_answer_streams_and_is_counted(backend: tuple[Backend, ModelSpec]) -> None:
    running, model = backend
    pieces: list[str] = []
    done = running.complete(model, Question("yo"), pieces.append)
    assert done.model == "rote"
    assert done.answer == SAYS == "".join(pieces)
    assert done.finish == "stop"
    assert done.tokens_in > 0
    assert done.tokens_out > 0
    assert done.latency_s >= 0
    assert done.load_s >= 0
    assert "" not in pieces


def test_the_same_question_has_the_same_answer(backend: tuple[Backend, ModelSpec]) -> None:
    running, model = backend
    first, second = (running.complete(model, Question("yo", seed=1)) for _ in range(2))
    running.close()
    third = running.complete(model, Question("yo", seed=1))
    assert first == replace(second, latency_s=first.latency_s, load_s=first.load_s)
    assert first == replace(third, latency_s=first.latency_s, load_s=first.load_s)


def test_a_token_limit_ends_the_answer(backend: tuple[Backend, ModelSpec]) -> None:
    running, model = backend
    question = Question("yo", max_tokens=1)
    done = running.complete(model, question)
    assert done.tokens_out == 1
    assert SAYS.startswith(done.answer)
    assert done.finish == ("length" if isinstance(running, LlamaCpp) else "stop")  # Scripted's answer is one word


def test_a_missing_model_is_a_one_line_error_and_others_still_answer(backend: tuple[Backend, ModelSpec]) -> None:
    running, model = backend
    with pytest.raises(BackendError) as caught:
        running.complete(replace(model, name="other", path=Path("nowhere")), Question("yo"))
    assert "\n" not in str(caught.value)
    assert running.complete(model, Question("yo")).answer == SAYS


@pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError])
def test_an_exception_in_on_text_reaches_the_caller(
    backend: tuple[Backend, ModelSpec], error: type[BaseException]
) -> None:
    running, model = backend

    def listener(_text: str) -> None:
        raise error

    with pytest.raises(error):
        running.complete(model, Question("yo"), listener)
    assert running.complete(model, Question("yo")).answer == SAYS


def test_many_threads_can_use_a_backend_at_once(backend: tuple[Backend, ModelSpec]) -> None:
    running, model = backend
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(running.complete, model, Question("yo")) for _ in range(40)]
        assert {each.result().answer for each in asked} == {SAYS}


def test_closing_twice_is_harmless(backend: tuple[Backend, ModelSpec]) -> None:
    running, _ = backend
    running.close()
    running.close()


# --- the scripted backend ------------------------------------------------------------------------------------------


def test_scripted_counts_words_and_cuts_at_the_limit() -> None:
    model = ModelSpec("m", Path("nowhere"), system="be brief")
    scripted = Scripted(lambda spec, question: f"{spec.name} heard  {question.prompt}\n", delay_s=0.01)
    pieces: list[str] = []
    whole = scripted.complete(model, Question("one two", history=(("a", "b c"),)), pieces.append)
    assert whole == Completion("m", "m heard  one two\n", 7, 4, 0.01, 0.0, "stop")
    assert pieces == ["m", " heard", "  one", " two\n"]
    assert scripted.complete(model, Question("one", max_tokens=2)).answer == "m heard"
    assert scripted.complete(model, Question("one", max_tokens=2)).finish == "length"


def test_scripted_failures_and_empty_answers() -> None:
    scripted = Scripted({"silent": ""}, failures={"broken": "out of order"})
    assert scripted.complete(ModelSpec("silent", Path("nowhere")), Question("yo")).tokens_out == 0
    with pytest.raises(BackendError, match="^out of order$"):
        scripted.complete(ModelSpec("broken", Path("nowhere")), Question("yo"))
    with pytest.raises(BackendError, match="'other' has no scripted answer"):
        scripted.complete(ModelSpec("other", Path("nowhere")), Question("yo"))


# --- text as it grows ------------------------------------------------------------------------------------------


@given(text=FEW, stops=st.lists(st.sampled_from(["<", "ab", "b<a", "é€", ""]), max_size=2), cuts=st.data())
def test_text_is_emitted_in_whole_characters_and_ends_at_a_stop_string(text: str, stops: list[str], cuts: Any) -> None:
    data, pieces = text.encode(), []
    growing = AnswerText(stops, pieces.append)
    stopped = False
    while data and not stopped:
        size = cuts.draw(st.integers(1, len(data)))
        stopped, data = growing.add(data[:size]), data[size:]
    ends = [text.find(stop) for stop in stops if stop and stop in text]
    expected = text[: min(ends, default=len(text))]
    assert growing.finish() == expected == "".join(pieces)
    assert "\ufffd" not in expected


def test_invalid_bytes_become_replacement_characters() -> None:
    growing = AnswerText(["stop"])
    for piece in (b"a\xff", b"\xc3", b"b", b"\xe2\x82"):
        assert not growing.add(piece)
    assert growing.finish() == "a\ufffd\ufffdb\ufffd"


# --- the prompt ------------------------------------------------------------------------------------------------


def test_tokens_are_counted_as_the_model_sees_them(llama: LlamaCpp, files: Files) -> None:
    model = spec(files.rote)
    frame = 3  # <s> <|user|> … <|answer|>
    assert llama.complete(model, Question("yo")).tokens_in == frame + 2
    assert llama.complete(model, Question("yo")).tokens_out == len(SAYS.encode()) + 1
    assert llama.complete(model, Question("yo", system="S")).tokens_in == frame + 2 + 3
    assert llama.complete(replace(model, system="S"), Question("yo")).tokens_in == frame + 2 + 3
    assert llama.complete(replace(model, system="S"), Question("yo", system="")).tokens_in == frame + 2 + 2
    assert llama.complete(model, Question("yo", history=(("q", "a"),))).tokens_in == frame + 2 + 5


def test_a_prompt_has_one_begin_mark_with_or_without_one_in_the_template(llama: LlamaCpp, files: Files) -> None:
    for template in ("{{ bos_token }}{{ messages[-1].content }}<|answer|>", "{{ messages[-1].content }}<|answer|>"):
        done = llama.complete(spec(files.rote, chat_template=template), Question("yo"))
        assert (done.tokens_in, done.answer) == (4, SAYS)


def test_a_model_without_template_gets_plain_text_and_one_warning(files: Files, tmp_path: Path) -> None:
    model = spec(files.write(tmp_path / "bare.gguf", {"o": "k"}, template=None))
    warnings: list[str] = []
    with LlamaCpp(warnings.append) as backend:
        for _ in range(2):
            done = backend.complete(model, Question("yo", system="S", max_tokens=1))
    assert (done.tokens_in, done.answer) == (1 + len("S\n\nyo"), "k")
    assert len(warnings) == 1
    assert "'bare' has no chat template" in warnings[0]
    assert "chat_template in zoo.yaml" in warnings[0]


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{% if", "unexpected 'end of template'"),
        ("{{ raise_exception('no\nsystem\x1b[2J') }}", r"no system\\x1b\[2J"),
        ("{{ messages[7].content }}", "no element 7"),
        ("{{ 1 // 0 }}", "zero"),
        ("{% for i in range(1000000000) %}{% endfor %}", "Range too big"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
    ],
)
def test_a_failing_template_is_reported_with_its_reason(llama: LlamaCpp, files: Files, template: str, why: str) -> None:
    with pytest.raises(BackendError, match=why) as caught:
        llama.complete(spec(files.rote, chat_template=template), Question("yo"))
    assert str(caught.value).isprintable()
    assert "zoo.yaml's chat template" in str(caught.value)
    assert llama.complete(spec(files.rote), Question("yo")).answer == SAYS


def test_a_prompt_longer_than_the_context_is_refused_with_the_numbers(llama: LlamaCpp, files: Files) -> None:
    model = spec(files.endless, n_ctx=16)
    fits = llama.complete(model, Question("x" * 13))
    assert (fits.tokens_in, fits.tokens_out, fits.finish) == (16, 1, "length")
    with pytest.raises(BackendError, match=r"has 17 tokens, but the context holds 16: shorten it, or raise n_ctx"):
        llama.complete(model, Question("x" * 14))
    with pytest.raises(BackendError, match=r"has 1,234 tokens, but"):
        llama.complete(model, Question("x" * 1231))


def test_a_prompt_of_fifty_million_characters_is_refused_at_once(llama: LlamaCpp, files: Files) -> None:
    prompt = "x" * 50_000_000
    started = time.perf_counter()
    for question in (Question(prompt), Question("x", system=prompt), Question("x", history=((prompt, ""),))):
        with pytest.raises(BackendError, match=r"has 50,000,\d+ characters, but the context holds 64 tokens"):
            llama.complete(spec(files.rote), question)
    with pytest.raises(BackendError, match="characters"):
        llama.complete(spec(files.rote, chat_template="{{ 'x' * 30000000 }}"), Question("x"))
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    "prompt", ["", "\x00", "a\x00b", "\x1b[2J[bold]", "\udcff\ud800", "<|end|><|user|>", "\ufffe é"]
)
def test_special_characters_in_a_prompt_are_only_data(llama: LlamaCpp, files: Files, prompt: str) -> None:
    assert llama.complete(spec(files.rote), Question(prompt)).answer == SAYS


def test_an_answer_ends_at_its_limit_or_at_the_end_of_the_context(llama: LlamaCpp, files: Files) -> None:
    model = spec(files.endless, n_ctx=32, max_tokens=5)
    assert llama.complete(model, Question("yo")).tokens_out == 5
    assert llama.complete(model, Question("yo", max_tokens=7)).tokens_out == 7
    rest = llama.complete(model, Question("yo", max_tokens=1000))
    unbounded = llama.complete(spec(files.endless, n_ctx=32), Question("yo"))
    assert (unbounded.tokens_out, unbounded.finish) == (rest.tokens_out, "length")
    assert (rest.tokens_in, rest.tokens_out, rest.finish) == (5, 28, "length")
    assert rest.answer == "a" * 28


def test_n_ctx_zero_means_the_models_own_context(llama: LlamaCpp, files: Files) -> None:
    with pytest.raises(BackendError, match="the context holds 256"):
        llama.complete(spec(files.rote, n_ctx=0), Question("x" * 300))
    assert llama.complete(spec(files.rote, n_ctx=512), Question("x" * 300)).answer == SAYS


# --- sampling --------------------------------------------------------------------------------------------------


def test_a_seed_repeats_an_answer_after_other_questions(llama: LlamaCpp, files: Files) -> None:
    model = spec(files.random, temperature=2.0, max_tokens=12)
    seeds = [0, 1, 2, 2**32 - 1, 2**70]

    def answers() -> list[str]:
        return [llama.complete(model, Question("yo", seed=seed)).answer for seed in seeds]

    first = answers()
    llama.complete(model, Question("something else", seed=5))
    assert first == answers()
    assert len(set(first)) >= len(seeds) - 1  # seeds have 32 bits in llama.cpp, so two of these may be equal
    assert len({llama.complete(model, Question("yo")).answer for _ in range(5)}) > 1


def test_temperature_zero_takes_the_likeliest_token(llama: LlamaCpp, files: Files) -> None:
    model = spec(files.random, temperature=2.0, max_tokens=12)
    greedy = {llama.complete(model, Question("yo", temperature=0.0, seed=seed)).answer for seed in range(4)}
    assert len(greedy) == 1
    for narrow in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}):
        settings = replace(model, **{"top_k": 0, "top_p": 1.0, "min_p": 0.0, **narrow})
        assert {llama.complete(settings, Question("yo", seed=3)).answer} == greedy


def test_an_answer_does_not_depend_on_earlier_questions(llama: LlamaCpp, files: Files) -> None:
    model = spec(files.random, max_tokens=12)
    alone = llama.complete(model, Question("what is it"))
    llama.complete(model, Question("what is"))
    llama.complete(model, Question("another thing altogether"))
    again = llama.complete(model, Question("what is it"))
    assert (alone.answer, alone.tokens_in) == (again.answer, again.tokens_in)
    assert alone.answer != llama.complete(model, Question("what is")).answer


# --- faults -------------------------------------------------------------------------------------------


def _cut(files: Files, path: Path, size: int) -> Path:
    path.write_bytes(files.rote.read_bytes()[:size])
    return path


def _bytes(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


DAMAGE: dict[str, tuple[Callable[[Files, Path], Path], str]] = {
    "missing": (lambda _, path: path, "there is no such model file; correct its path"),
    "directory": (lambda _, path: path.parent, "is a folder"),
    "fifo": (lambda _, path: _fifo(path), "is not an ordinary file"),
    "empty": (lambda _, path: _bytes(path, b""), "is empty; download it again"),
    "garbage": (lambda _, path: _bytes(path, b"\x1b[2J" * 500), "is not a GGUF file"),
    "other version": (
        lambda _, path: _bytes(path, b"GGUF\1\0\0\0" + b"\0" * 99),
        "is GGUF version 1, but messctl reads versions 2 and 3",
    ),
    "only a magic": (lambda _, path: _bytes(path, b"GGUF"), "ends within its header"),
    "cut in the header": (lambda files, path: _cut(files, path, 700), "ends within its header"),
    "cut in the tensors": (lambda files, path: _cut(files, path, 500_000), "is cut short: it should have"),
    "wrong architecture": (lambda files, path: files.write(path, architecture="lama"), "architecture: 'lama'"),
    "no such tensor": (lambda files, path: files.write(path, omit="output_norm.weight"), "output_norm.weight"),
    "no numbers": (lambda files, path: files.write(path, broken_weights=True), "weights are damaged"),
    "no vocabulary": (lambda files, path: files.write(path, tokenizer="none"), "has no vocabulary"),
    "unknown vocabulary": (lambda files, path: files.write(path, tokenizer="gtp"), "unknown tokenizer"),
    "not all bytes": (lambda files, path: files.write(path, tokenizer="llama"), "without all 256 bytes"),
    "a token twice": (lambda files, path: files.write(path, tokens=("b", *files.tokens[1:])), "holds a token twice"),
    "no layers": (lambda files, path: files.write(path, blocks=0), "states 0 layers"),
    "too many layers": (lambda files, path: files.write(path, blocks=513), "states 513 layers"),
    "whole numbers": (
        lambda files, path: files.write(path, other_weights={"output.weight": np.ones((261, 32), np.int32)}),
        "has weights of type I32",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_reported_and_other_models_still_answer(
    llama: LlamaCpp, files: Files, tmp_path: Path, damage: str
) -> None:
    make, why = DAMAGE[damage]
    path = make(files, tmp_path / "bad.gguf")
    assert llama.complete(spec(files.rote), Question("yo")).answer == SAYS
    for _ in range(2):
        with pytest.raises(BackendError) as caught:
            llama.complete(replace(spec(path), name="bad"), Question("yo"))
        assert why in str(caught.value)
        assert str(caught.value).startswith(f"model 'bad' ({path}): ")
        assert str(caught.value).isprintable()
    assert llama.complete(spec(files.rote), Question("yo")).answer == SAYS


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission_is_reported(llama: LlamaCpp, tmp_path: Path) -> None:
    path = _bytes(tmp_path / "bad.gguf", b"GGUF")
    path.chmod(0)
    with pytest.raises(BackendError, match="cannot be read: Permission denied"):
        llama.complete(spec(path), Question("yo"))


def test_the_default_context_is_at_most_the_models_own(llama: LlamaCpp, files: Files) -> None:
    with pytest.raises(BackendError, match=r"the prompt has 303 tokens, but the context holds 256"):
        llama.complete(spec(files.rote, n_ctx=None), Question("x" * 300))
    assert llama.complete(spec(files.rote, n_ctx=512), Question("x" * 300)).answer == SAYS


def test_a_context_larger_than_the_free_memory_is_refused(
    llama: LlamaCpp, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BackendError, match=r"cannot have a context of 2,147,483,647 tokens: set n_ctx"):
        llama.complete(spec(files.rote, n_ctx=2**31 - 1), Question("yo"))
    monkeypatch.setattr("messctl.backends.llama_model.free_memory", lambda: 10**6)
    with pytest.raises(BackendError, match=r"needs 1\.14 GB for a context of 1,048,576 tokens, but 1 MB are free"):
        llama.complete(spec(files.rote, n_ctx=2**20, gpu="off"), Question("yo"))  # a GPU's memory is not checked
    assert llama.complete(spec(files.rote), Question("yo")).answer == SAYS


@pytest.mark.parametrize("settings", [{"n_threads": 2}, {"n_gpu_layers": 0}, {"n_gpu_layers": 7}, {"top_k": 0}])
def test_settings_that_do_not_change_the_answer(llama: LlamaCpp, files: Files, settings: dict[str, Any]) -> None:
    assert llama.complete(spec(files.rote, **settings), Question("yo")).answer == SAYS


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from messctl.backends.llama_library import LlamaLibrary

    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(
        MissingExtraError, match=r"answering with a GGUF model needs llama-cpp-python: .*messctl\[llama\]"
    ):
        LlamaLibrary()


# --- threads, signals, output ----------------------------------------------------------------------------------


def test_a_model_is_loaded_once_and_loading_is_not_part_of_latency(
    llama: LlamaCpp, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    from messctl.backends.llama_model import LlamaModel

    loads: list[ModelSpec] = []

    def load(library: Any, model: ModelSpec) -> LlamaModel:
        loads.append(model)
        time.sleep(0.2)
        return LlamaModel(library, model)

    monkeypatch.setattr("messctl.backends.llama_cpp.LlamaModel", load)
    model = spec(files.rote)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(llama.complete, model, Question("yo")) for _ in range(4)]
        done = [each.result() for each in asked]
    assert len(loads) == 1
    assert all(each.load_s >= 0.1 for each in done)
    assert min(each.latency_s for each in done) < 0.2
    assert llama.complete(model, Question("yo")).load_s == 0
    llama.complete(replace(model, name="twin", temperature=1.0, system="S"), Question("yo"))
    assert len(loads) == 1
    llama.complete(replace(model, n_ctx=32), Question("yo"))
    assert len(loads) == 2


def test_close_waits_for_a_running_answer(llama: LlamaCpp, files: Files) -> None:
    started, go = threading.Event(), threading.Event()

    def listener(_text: str) -> None:
        started.set()
        go.wait(5)

    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(llama.complete, spec(files.rote), Question("yo"), listener)
        assert started.wait(5)
        closed = pool.submit(llama.close)
        time.sleep(0.05)
        assert not closed.done()
        go.set()
        closed.result(5)
        assert asked.result(5).answer == SAYS


def test_ctrl_c_ends_an_answer_and_leaves_the_model_usable(llama: LlamaCpp, files: Files) -> None:
    pieces: list[str] = []

    def listener(text: str) -> None:
        pieces.append(text)
        if len(pieces) == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        llama.complete(spec(files.endless), Question("yo"), listener)
    assert pieces == ["a"] * 3
    assert llama.complete(spec(files.endless), Question("yo", max_tokens=2)).answer == "aa"


def test_importing_the_backends_does_not_load_llama_cpp() -> None:
    code = "import sys, messctl.backends as b; b.LlamaCpp(); sys.exit('llama_cpp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


QUIET = """
import os, sys, threading
from pathlib import Path
from messctl.backends import LlamaCpp
from messctl.errors import BackendError
from messctl.records import Question
from messctl.zoo import ModelSpec

done = threading.Event()
def tick():
    count = 0
    while not done.is_set() or count < 100:
        print("tick", flush=True)
        os.write(2, b"tock\\n")
        count += 1
    print("count", count, flush=True)
ticking = threading.Thread(target=tick)
ticking.start()
good, *bad = map(Path, sys.argv[1:])
for turn in range(10):
    with LlamaCpp() as backend:
        assert backend.complete(ModelSpec("m", good, temperature=0.0), Question("yo")).answer == "h\\u00e9!"
        for path in bad:
            try:
                backend.complete(ModelSpec("m", path), Question("yo"))
            except BackendError:
                pass
done.set()
ticking.join()
"""


def test_llama_cpp_prints_nothing_and_no_other_output_is_lost(files: Files, tmp_path: Path) -> None:
    bad = [
        _cut(files, tmp_path / "cut.gguf", 500_000),
        files.write(tmp_path / "bad.gguf", architecture="lama"),
        files.write(tmp_path / "part.gguf", omit="output_norm.weight"),
    ]
    command = [sys.executable, "-c", QUIET, str(files.rote), *map(str, bad)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    *ticks, last = ran.stdout.splitlines()
    count = int(last.removeprefix("count "))
    assert count >= 100
    assert ticks == ["tick"] * count
    assert ran.stderr.splitlines() == ["tock"] * count
