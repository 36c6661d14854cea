"""The backend that runs GGUF models in this process, through llama.cpp."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self

from messctl.backends.answer import AnswerText
from messctl.backends.base import OnText
from messctl.backends.chat import ChatTemplate, Prompt, TemplateError, as_it_is
from messctl.backends.library import interrupts_held, library
from messctl.backends.loaded import Loaded, Sampling, failure, too_long
from messctl.records import Completion, Question
from messctl.zoo import ModelSpec

OnWarning = Callable[[str], None]
"""Hears one line on what may not be as its owner meant it."""

_BYTES_PER_TOKEN = 256
_ROOM = 4  # a conversation leaves a quarter of the context to the answer, unless its limit asks for less
_compiled = lru_cache(maxsize=64)(ChatTemplate)


@dataclass(frozen=True, slots=True)
class _Instance:
    """What makes two specs the same model in memory."""

    path: Path
    n_ctx: int
    n_gpu_layers: int
    n_threads: int | None

    @classmethod
    def of(cls, spec: ModelSpec) -> _Instance:
        return cls(spec.file, spec.n_ctx, spec.n_gpu_layers, spec.n_threads)


class LlamaCpp:
    """Runs GGUF models through llama.cpp; loads each when it is first asked, and keeps it until `close`.

    May be used from several threads: different models answer at once, one model answers one question after the
    other, and one model is loaded at a time. `on_text` may not ask the same model in turn. llama.cpp's log is heard,
    not shown; the process's stdout and stderr are left alone. Ctrl-C ends an answer between two tokens, or two
    batches of the prompt, and leaves the model usable.
    """

    def __init__(self, on_warning: OnWarning | None = None) -> None:
        self._on_warning = on_warning
        self._models: dict[_Instance, Loaded] = {}
        self._loading = threading.Lock()

    def complete(self, model: ModelSpec, question: Question, on_text: OnText | None = None) -> Completion:
        """Return the model's answer; loads the model where it is not loaded yet.

        Raises BackendError, and MissingExtraError where llama-cpp-python is not installed.
        """
        started = time.perf_counter()
        while True:
            before = time.perf_counter()
            loaded, fresh = self._loaded(model)
            if fresh:
                load_s = time.perf_counter() - before
                started += load_s
            else:
                load_s = 0.0
            with loaded.lock:
                if not loaded.closed:  # by another thread, between the two lines above
                    return self._answer(loaded, model, question, on_text, started, load_s)

    def close(self) -> None:
        """Free all models, each when it has given the answer it is at. A model asked later is loaded again."""
        with self._loading:
            while self._models:
                _, loaded = self._models.popitem()
                with loaded.lock:
                    loaded.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _loaded(self, model: ModelSpec) -> tuple[Loaded, bool]:
        """Return the model in memory, and whether it had to be waited for."""
        key = _Instance.of(model)
        loaded = self._models.get(key)
        if loaded is not None:
            return loaded, False
        with self._loading, interrupts_held():
            if key not in self._models:
                self._models[key] = Loaded(library(), model)
            return self._models[key], True

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
        limit = model.max_tokens if question.max_tokens is None else question.max_tokens
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
                if loaded.ends(token) or answer.add(loaded.piece(token)):
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

    def _warn_once(self, loaded: Loaded, model: ModelSpec) -> None:
        if self._on_warning is not None and not loaded.warned:
            self._on_warning(
                f"model {model.name!r} has no chat template: prompts are passed to it as they are, to be continued; "
                "set chat_template in zoo.yaml if it is a chat model"
            )
        loaded.warned = True


def instance(model: ModelSpec) -> Hashable:
    """Return what is the same for models that are one in memory."""
    return _Instance.of(model)


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
