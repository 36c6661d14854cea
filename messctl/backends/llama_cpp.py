"""The backend that runs GGUF models in this process, through llama.cpp."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self

from messctl.backends.answer import AnswerText
from messctl.backends.base import OnText
from messctl.backends.chat import ChatTemplate, Prompt, TemplateError, as_it_is
from messctl.backends.library import library
from messctl.backends.loaded import Loaded, Sampling, failure, no_room, too_long
from messctl.backends.offload import Offload, lacking
from messctl.backends.residency import OverBudgetError, Residency
from messctl.backends.worker import Worker
from messctl.display.text import plain
from messctl.errors import ModelFileError
from messctl.gguf import read_header
from messctl.records import Completion, Question
from messctl.zoo import ModelSpec
from messctl.zoo.memory import Bytes, needed

OnWarning = Callable[[str], None]
"""Hears one line on what may not be as its owner meant it."""

_BYTES_PER_TOKEN = 256
_ROOM = 4  # a conversation leaves a quarter of the context to the answer, unless its limit asks for less
_compiled = lru_cache(maxsize=64)(ChatTemplate)


@dataclass(frozen=True, slots=True)
class _Instance:
    """What makes two specs the same model in memory."""

    path: Path
    n_ctx: int | None
    n_threads: int | None
    placed: tuple[object, ...]
    isolate: bool

    @classmethod
    def of(cls, spec: ModelSpec) -> _Instance:
        placed = (spec.gpu, spec.gpu_layers, spec.main_gpu, spec.split_mode, spec.tensor_split)
        return cls(
            spec.file,
            spec.n_ctx,
            spec.n_threads,
            (*placed, spec.flash_attn, spec.cache_type_k, spec.cache_type_v),
            spec.isolate,
        )


class LlamaCpp:
    """Runs GGUF models through llama.cpp; loads each when it is first asked, and keeps it until `close`,
    or until another needs its place within the memory `budget` (see `Residency`).

    May be used from several threads: different models answer at once, one model answers one question after the
    other, and one model is loaded at a time. `on_text` may not ask the same model in turn. llama.cpp's log is heard,
    not shown; the process's stdout and stderr are left alone. Ctrl-C ends an answer between two tokens, or two
    batches of the prompt, and leaves the model usable. A model with `isolate` runs in a process of its own: when that
    dies, its answer is lost, and the next request starts another.
    """

    def __init__(self, on_warning: OnWarning | None = None, budget: Bytes | None = None) -> None:
        self._on_warning = on_warning
        self._residency: Residency[_Instance, Loaded | Worker] = Residency(budget or {})
        self._warned_of_cpu = False

    def complete(self, model: ModelSpec, question: Question, on_text: OnText | None = None) -> Completion:
        """Return the model's answer; loads the model where it is not loaded yet.

        Raises BackendError, and MissingExtraError where llama-cpp-python is not installed.
        """
        started, load_s = time.perf_counter(), 0.0
        while True:
            before = time.perf_counter()
            loaded, fresh = self._loaded(model)
            if fresh:
                took_s = time.perf_counter() - before
                started, load_s = started + took_s, load_s + took_s
            with self._residency.using(loaded) as there:
                if not there:
                    continue  # another thread has evicted it since
                if isinstance(loaded, Worker):
                    if loaded.died:  # between two answers, of which none is lost
                        loaded.close()
                        self._residency.drop(_Instance.of(model), loaded)
                        continue
                    return self._answer_apart(loaded, model, question, on_text, load_s)
                return self._answer(loaded, model, question, on_text, started, load_s)

    def offload(self, model: ModelSpec) -> Offload:
        """Return where a model's parts are, by llama.cpp's own report; loads it where it is not loaded yet.

        Raises as `complete` does.
        """
        loaded, _ = self._loaded(replace(model, isolate=False))
        assert isinstance(loaded, Loaded)
        return loaded.offload

    def close(self) -> None:
        """Free all models, each when it has given the answer it is at. A model asked later is loaded again."""
        self._residency.close()

    def load(self, model: ModelSpec) -> None:
        """Load a model where it is not loaded yet. Raises as `complete`."""
        self._loaded(model)

    def resident(self, model: ModelSpec) -> bool:
        """Whether a model is in memory."""
        return self._residency.holds(_Instance.of(model))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _loaded(self, model: ModelSpec) -> tuple[Loaded | Worker, bool]:
        """Return the model in memory, and whether it had to be waited for."""
        key = _Instance.of(model)
        loaded = self._residency.get(key)
        if loaded is not None:
            return loaded, False
        try:
            loaded = self._residency.load(key, self._need(model), lambda: _load(model))
        except OverBudgetError as error:
            raise no_room(model, str(error)) from None
        if not model.isolate:  # else llama.cpp is there, and not here
            self._warn_of_cpu(model)
        return loaded, True

    def _need(self, model: ModelSpec) -> Bytes:
        """Return what the model will take, where that matters."""
        if not self._residency.budget:
            return {}
        try:
            header = read_header(model.file)
        except ModelFileError as error:
            raise failure(model, plain(error.what), error.path) from error
        return needed(model, header, offload=library().api.llama_supports_gpu_offload())

    def _answer_apart(
        self, worker: Worker, model: ModelSpec, question: Question, on_text: OnText | None, load_s: float
    ) -> Completion:
        try:
            completion = worker.complete(model, question, on_text)
        finally:
            if worker.closed:
                self._residency.drop(_Instance.of(model), worker)
            warnings, worker.warnings = worker.warnings, []
            if self._on_warning is not None:
                for warning in warnings:
                    self._on_warning(warning)
        return replace(completion, load_s=load_s)

    def _answer(
        self,
        loaded: Loaded,
        model: ModelSpec,
        question: Question,
        on_text: OnText | None,
        started: float,
        load_s: float,
    ) -> Completion:
        prompt = self._prompt(loaded, model, question)
        tokens = loaded.tokens(prompt.text)
        limit = model.answer_limit(question.max_tokens)
        room = loaded.n_ctx - len(tokens) + 1
        wanted = min(limit, loaded.n_ctx // _ROOM)
        if question.history and room < wanted:
            raise too_long(
                model,
                f"the conversation leaves {room:,} tokens of {loaded.n_ctx:,} for the answer: shorten it",
                (wanted - room) / len(tokens),
            )
        limit = max(1, min(limit, room))
        answer, drawn, finish, sure = AnswerText(prompt.stops, on_text), 0, "length", 0.0
        with closing(loaded.generate(tokens, _sampling(model, question), limit)) as answering:
            for token in answering:
                drawn += 1
                if question.logprob:
                    sure += loaded.logprob(token)
                done = loaded.ends(token) or answer.add(loaded.piece(token))
                if done and not question.to_the_limit:
                    finish = "stop"
                    break
        text = answer.finish()
        latency_s = time.perf_counter() - started
        logprob = sure / drawn if question.logprob else None
        return Completion(model.name, text, len(tokens), drawn, latency_s, load_s, finish, logprob)

    def _prompt(self, loaded: Loaded, model: ModelSpec, question: Question) -> Prompt:
        """Return what the model reads. Nothing is done with a text that cannot possibly fit."""
        system = model.system if question.system is None else question.system
        texts = [question.prompt, system or "", *(text for turn in question.history for text in turn)]
        _check_length(loaded, model, texts)
        source = loaded.template() if model.chat_template is None else model.chat_template
        if source is None:
            self._warn_once(loaded, model)
            return as_it_is(question, system)
        try:
            prompt = _compiled(source, *loaded.marks()).prompt(question, system)
        except TemplateError as error:
            whose = "the file's" if model.chat_template is None else "zoo.yaml's"
            raise failure(
                model, f"{whose} chat template fails: {error}: set chat_template in zoo.yaml to one that works"
            ) from error
        _check_length(loaded, model, [prompt.text])
        return prompt

    def _warn_of_cpu(self, model: ModelSpec) -> None:
        """Warn, once for all models, where layers were to go to a GPU and cannot."""
        wanted = None if self._warned_of_cpu else lacking(library().api, model)
        if wanted and self._on_warning is not None:
            self._on_warning(f"model {model.name!r} {wanted}; `gpu: off` in zoo.yaml says that this is meant")
            self._warned_of_cpu = True

    def _warn_once(self, loaded: Loaded, model: ModelSpec) -> None:
        if self._on_warning is not None and not loaded.warned:
            self._on_warning(
                f"model {model.name!r} has no chat template: prompts are passed to it as they are, to be continued; "
                "set chat_template in zoo.yaml if it is a chat model"
            )
        loaded.warned = True


def _load(model: ModelSpec) -> Loaded | Worker:
    return Worker(model) if model.isolate else Loaded(library(), model)


def _sampling(model: ModelSpec, question: Question) -> Sampling:
    temperature = model.temperature if question.temperature is None else question.temperature
    return Sampling(temperature, model.top_k, model.top_p, model.min_p, question.seed)


def _check_length(loaded: Loaded, model: ModelSpec, texts: list[str]) -> None:
    """Raise PromptTooLongError for a prompt that no tokenizer makes fit: to find out by tokenising it takes minutes."""
    length, most = sum(map(len, texts)), _BYTES_PER_TOKEN * loaded.n_ctx
    if length > most:
        raise too_long(
            model,
            f"the prompt has {length:,} characters and the context holds {loaded.n_ctx:,} tokens: shorten it",
            1 - most / length,
        )
