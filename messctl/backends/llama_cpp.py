"""The backend that runs GGUF models in this process, through llama.cpp."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Self

from messctl.backends.answer_text import AnswerText
from messctl.backends.base import OnText
from messctl.backends.chat import ChatTemplate, Prompt, TemplateError, chat_messages, without_template
from messctl.backends.grammar import grammar_of
from messctl.backends.llama_errors import failure, no_room, too_long, unsuitable
from messctl.backends.llama_library import load_library
from messctl.backends.llama_model import LlamaModel, Sampling
from messctl.backends.local_chat import number_of, stops_of
from messctl.backends.offload import Offload, missing_gpu
from messctl.backends.residency import OverBudgetError, Residency
from messctl.backends.worker import Worker
from messctl.display.text import plain
from messctl.errors import ModelFileError
from messctl.gguf import read_header
from messctl.records import Completion, Question
from messctl.zoo import ModelSpec
from messctl.zoo.memory import Bytes, memory_needed

OnWarning = Callable[[str], None]
"""Receives a warning of one line."""

_BYTES_PER_TOKEN = 256
_ANSWER_SHARE = 4  # a conversation leaves a quarter of the context for the answer, or less if its limit is lower
_compiled = lru_cache(maxsize=64)(ChatTemplate)


@dataclass(frozen=True, slots=True)
class _ModelKey:
    """The settings that decide whether two specs can share one model in memory."""

    path: Path
    n_ctx: int | None
    n_threads: int | None
    placed: tuple[object, ...]
    isolate: bool

    @classmethod
    def of(cls, spec: ModelSpec) -> _ModelKey:
        placed = (spec.gpu, spec.gpu_layers, spec.main_gpu, spec.split_mode, spec.tensor_split)
        return cls(
            spec.file,
            spec.n_ctx,
            spec.n_threads,
            (*placed, spec.flash_attn, spec.cache_type_k, spec.cache_type_v),
            spec.isolate,
        )


class LlamaCpp:
    """Runs GGUF models through llama.cpp.

    A model is loaded at its first question. It stays in memory until `close`, or until another model needs its place
    within the memory `budget`, in bytes by device (see `Residency`). A model with `isolate` runs in a process of its
    own: if that dies, its answer is lost, and the next question starts a new process.

    Thread-safe: different models answer at the same time, one model answers one question after the other, and one model
    is loaded at a time. `on_text` must not ask the same model. Ctrl-C ends an answer between two tokens, or between two
    batches of the prompt, and leaves the model usable. llama.cpp prints nothing to the process's stdout and stderr.
    """

    def __init__(self, on_warning: OnWarning | None = None, budget: Bytes | None = None) -> None:
        self._on_warning = on_warning
        self._residency: Residency[_ModelKey, LlamaModel | Worker] = Residency(budget or {})
        self._warned_of_cpu = False

    def complete(
        self,
        model: ModelSpec,
        question: Question,
        on_text: OnText | None = None,
        on_thinking: OnText | None = None,
    ) -> Completion:
        """Return the model's answer; load the model first if it is not loaded.

        Raises BackendError, and MissingExtraError if llama-cpp-python is not installed.
        """
        started, load_s = time.perf_counter(), 0.0
        while True:
            before = time.perf_counter()
            loaded, fresh = self._loaded(model)
            if fresh:
                took_s = time.perf_counter() - before
                started, load_s = started + took_s, load_s + took_s
            with self._residency.using(loaded) as in_memory:
                if not in_memory:
                    continue  # another thread has evicted it
                if isinstance(loaded, Worker):
                    if loaded.died:  # between two answers, so none is lost
                        loaded.close()
                        self._residency.drop(_ModelKey.of(model), loaded)
                        continue
                    return self._answer_in_worker(loaded, model, question, on_text, on_thinking, load_s)
                return self._answer(loaded, model, question, on_text, on_thinking, started, load_s)

    def offload(self, model: ModelSpec) -> Offload:
        """Return llama.cpp's report of where a model is; load the model first if it is not loaded.

        Raises as `complete` does.
        """
        loaded, _ = self._loaded(replace(model, isolate=False))
        assert isinstance(loaded, LlamaModel)
        return loaded.offload

    def close(self) -> None:
        """Free all models; one that is answering is freed after its answer. A later question loads its model again."""
        self._residency.close()

    def load(self, model: ModelSpec) -> None:
        """Load a model if it is not loaded. Raises as `complete` does."""
        self._loaded(model)

    def resident(self, model: ModelSpec) -> bool:
        """Return whether a model is in memory."""
        return self._residency.holds(_ModelKey.of(model))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _loaded(self, model: ModelSpec) -> tuple[LlamaModel | Worker, bool]:
        """Return the loaded model, and whether this call waited for it to load."""
        key = _ModelKey.of(model)
        loaded = self._residency.get(key)
        if loaded is not None:
            return loaded, False
        try:
            loaded = self._residency.load(key, self._need(model), lambda: _load(model))
        except OverBudgetError as error:
            raise no_room(model, str(error)) from None
        if not model.isolate:  # its worker warns by itself
            self._warn_of_cpu(model)
        return loaded, True

    def _need(self, model: ModelSpec) -> Bytes:
        """Return the bytes that the model will take, by device; nothing without a budget."""
        if not self._residency.budget:
            return {}
        try:
            header = read_header(model.file)
        except ModelFileError as error:
            raise failure(model, plain(error.what), error.path) from error
        return memory_needed(model, header, offload=load_library().api.llama_supports_gpu_offload())

    def _answer_in_worker(
        self,
        worker: Worker,
        model: ModelSpec,
        question: Question,
        on_text: OnText | None,
        on_thinking: OnText | None,
        load_s: float,
    ) -> Completion:
        try:
            completion = worker.complete(model, question, on_text, on_thinking)
        finally:
            if worker.closed:
                self._residency.drop(_ModelKey.of(model), worker)
            warnings, worker.warnings = worker.warnings, []
            if self._on_warning is not None:
                for warning in warnings:
                    self._on_warning(warning)
        return replace(completion, load_s=load_s)

    def _answer(
        self,
        loaded: LlamaModel,
        model: ModelSpec,
        question: Question,
        on_text: OnText | None,
        on_thinking: OnText | None,
        started: float,
        load_s: float,
    ) -> Completion:
        prompt = self._prompt(loaded, model, question)
        tokens = loaded.tokens(prompt.text)
        limit = model.answer_limit(question.max_tokens)
        room = loaded.n_ctx - len(tokens) + 1
        wanted = min(limit, loaded.n_ctx // _ANSWER_SHARE)
        if question.history and room < wanted:
            raise too_long(
                model,
                f"the conversation leaves {room:,} of {loaded.n_ctx:,} tokens for the answer: shorten it",
                (wanted - room) / len(tokens),
            )
        limit = max(1, min(limit, room))
        answer = AnswerText((*prompt.stops, *stops_of(question.chat)), on_text, on_thinking, prompt.opened)
        generated, finish, logprobs = 0, "length", 0.0
        watching = {} if question.recipient is None else {"check": question.recipient.check}
        with closing(loaded.generate(tokens, _sampling(model, question), limit, **watching)) as answering:
            for token in answering:
                generated += 1
                if question.logprob:
                    logprobs += loaded.logprob(token)
                done = loaded.ends(token) or answer.add(loaded.piece(token))
                if done and not question.to_the_limit:
                    finish = "stop"
                    break
        text = answer.finish()
        latency_s = time.perf_counter() - started
        logprob = logprobs / generated if question.logprob else None
        return Completion(
            model.name,
            text,
            len(tokens),
            generated,
            latency_s,
            load_s,
            finish,
            logprob,
            thinking=answer.thinking,
        )

    def _prompt(self, loaded: LlamaModel, model: ModelSpec, question: Question) -> Prompt:
        """Return the text that the model reads. Raises PromptTooLongError at once for text that can never fit."""
        messages = chat_messages(model, question)
        _check_length(loaded, model, [message["content"] for message in messages])
        source = loaded.chat_template() if model.chat_template is None else model.chat_template
        if source is None:
            self._warn_of_template(loaded, model)
            return without_template(messages)
        try:
            prompt = _compiled(source, *loaded.begin_and_end()).prompt(messages)
        except TemplateError as error:
            if question.chat is not None:  # a template may refuse the order of the roles
                what = f"its chat template refuses these messages: {error}: change their roles, or ask another model"
                raise unsuitable(model, what) from error
            whose = "the file's" if model.chat_template is None else "zoo.yaml's"
            raise failure(
                model, f"{whose} chat template fails: {error}: set chat_template in zoo.yaml to one that works"
            ) from error
        _check_length(loaded, model, [prompt.text])
        return prompt

    def _warn_of_cpu(self, model: ModelSpec) -> None:
        """Warn, once for all models, if a model needs a GPU and there is none."""
        problem = None if self._warned_of_cpu else missing_gpu(load_library().api, model)
        if problem and self._on_warning is not None:
            self._on_warning(f"model {model.name!r} {problem}; set `gpu: off` in zoo.yaml to run it on the CPU")
            self._warned_of_cpu = True

    def _warn_of_template(self, loaded: LlamaModel, model: ModelSpec) -> None:
        if self._on_warning is not None and not loaded.warned:
            self._on_warning(
                f"model {model.name!r} has no chat template, so it continues each prompt as plain text; "
                "set chat_template in zoo.yaml if it is a chat model"
            )
        loaded.warned = True


def _load(model: ModelSpec) -> LlamaModel | Worker:
    return Worker(model) if model.isolate else LlamaModel(load_library(), model)


def _sampling(model: ModelSpec, question: Question) -> Sampling:
    temperature = model.temperature if question.temperature is None else question.temperature
    chat = question.chat
    wanted = None if chat is None else chat.parameters.get("response_format")
    return Sampling(
        temperature,
        int(number_of(chat, "top_k", model.top_k)),
        number_of(chat, "top_p", model.top_p),
        number_of(chat, "min_p", model.min_p),
        question.seed,
        number_of(chat, "frequency_penalty", 0.0),
        number_of(chat, "presence_penalty", 0.0),
        None if wanted is None else grammar_of(wanted),
    )


def _check_length(loaded: LlamaModel, model: ModelSpec, texts: list[str]) -> None:
    """Raise PromptTooLongError for text that is too long with any tokenizer; to tokenize it could take minutes."""
    length, most = sum(map(len, texts)), _BYTES_PER_TOKEN * loaded.n_ctx
    if length > most:
        raise too_long(
            model,
            f"the prompt has {length:,} characters, but the context holds {loaded.n_ctx:,} tokens: shorten it",
            1 - most / length,
        )
