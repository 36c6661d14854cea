"""One GGUF model in memory: its weights, its vocabulary, and one context in which it answers one question at a time.

This speaks llama.cpp's C interface, not llama-cpp-python's `Llama`: that class prints to stderr or redirects the
whole process's, picks a chat format by itself, and takes several times as long per token around a small model.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from messctl.backends import offload
from messctl.backends.library import Library
from messctl.backends.machine import free_memory, physical_cores
from messctl.display.text import plain
from messctl.errors import BackendError, CrashedError, ModelFileError, NoRoomError, PromptTooLongError
from messctl.gguf import read_header
from messctl.zoo import ModelSpec
from messctl.zoo.memory import amount

_BATCH = 512
_LONGEST_CONTEXT = 2**24
_MOST_THREADS = 512  # llama.cpp's own arrays end there, and nothing checks
_PARAMETERS_PER_THREAD = 10_000_000
_ALLOCATING = re.compile(r"allocat|out of memory|cannot reserve", re.IGNORECASE)
"""What llama.cpp says where the memory is too short."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn. `temperature` 0 takes the likeliest; `seed` None draws anew every time."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int | None


class Loaded:
    """A loaded model. Not thread-safe, as llama.cpp is not: whoever uses it holds `lock` and looks at `closed`."""

    n_ctx: int
    bos: int
    offload: offload.Offload

    def __init__(self, library: Library, spec: ModelSpec) -> None:
        self.lock = threading.Lock()
        self.closed = False
        self.warned = False
        self._library, self._api, self._spec = library, library.api, spec
        self._pieces: dict[int, bytes] = {}
        self._model: Any = None
        self._context: Any = None
        self._vocabulary: Any = None
        self._memory: Any = None
        self._wipes = self._adds_bos = False
        _check_file(spec)
        library.listen()
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    def _load(self) -> None:
        api, spec = self._api, self._spec
        params = api.llama_model_default_params()
        if spec.gpu == "require" and (wanted := offload.lacking(api, spec)):
            raise failure(spec, wanted)
        offload.put_model(api, params, spec)
        params.progress_callback = self._library.go_on
        self._model = api.llama_model_load_from_file(os.fsencode(spec.file), params)
        if self._model is None:
            complaint = self._library.complaint()
            if _ALLOCATING.search(complaint):
                raise no_room(spec, f"cannot be loaded: {complaint}: free some memory, or use a smaller file")
            raise failure(spec, f"cannot be loaded: {complaint}: {offload.cure(complaint)}")
        self._vocabulary = api.llama_model_get_vocab(self._model)
        self._check_kind()
        self.n_ctx = self._context_size()
        self._context = self._new_context()
        self._memory = api.llama_get_memory(self._context)
        self.offload = offload.Offload.heard(self._library.report())
        if self._memory is None:
            raise failure(spec, "is no model that answers (an embedding model?): use another one")
        # What such a model remembers is one running state, not a table of which parts can be masked out.
        self._wipes = bool(api.llama_model_is_recurrent(self._model) or api.llama_model_is_hybrid(self._model))
        self.bos = api.llama_vocab_bos(self._vocabulary)
        self._adds_bos = self.bos >= 0 and bool(api.llama_vocab_get_add_bos(self._vocabulary))

    def _check_kind(self) -> None:
        """Refuse what llama.cpp loads and then aborts on."""
        api = self._api
        if api.llama_model_has_encoder(self._model) or not api.llama_model_has_decoder(self._model):
            raise failure(self._spec, "is an encoder model, which messctl does not run: use a decoder-only one")
        if api.llama_model_is_diffusion(self._model):
            raise failure(self._spec, "is a diffusion model, which messctl does not run: use another one")

    def _context_size(self) -> int:
        spec, size = self._spec, self._spec.context(self._api.llama_model_n_ctx_train(self._model))
        if not 0 < size <= _LONGEST_CONTEXT:
            raise failure(spec, f"cannot have a context of {size:,} tokens: set n_ctx in zoo.yaml, e.g. 4096")
        needed, free = size * self._cache_per_token(), free_memory()
        if free is not None and needed > free:
            raise no_room(
                spec,
                f"needs {amount(needed)} for a context of {size:,} tokens and {amount(free)} are free: "
                "lower n_ctx in zoo.yaml",
            )
        return size

    def _cache_per_token(self) -> int:
        """Return the bytes that a token takes in the cache, where that is plain, else 0.

        llama.cpp fills the cache with zeros, and the system kills whoever fills more than there is.
        """
        api, model = self._api, self._model
        unusual = ("attention.kv_lora_rank", "attention.sliding_window", "attention.head_count_kv")
        on_gpu = self._spec.gpu_layers != 0 and api.llama_supports_gpu_offload()
        if on_gpu or api.llama_model_is_recurrent(model) or api.llama_model_is_hybrid(model):
            return 0
        if any(self._about(key) is not None for key in unusual[:2]) or not (self._about(unusual[2]) or "0").isdecimal():
            return 0
        heads, kv_heads = api.llama_model_n_head(model), api.llama_model_n_head_kv(model)
        usual = api.llama_model_n_embd(model) // max(heads, 1)
        sizes = [self._about(f"attention.{part}_length") for part in ("key", "value")]
        widths = sum(int(size) if size is not None and size.isdecimal() else usual for size in sizes)
        return int(2 * api.llama_model_n_layer(model) * kv_heads * widths)

    def _about(self, key: str) -> str | None:
        """Return what the file says about its architecture under this key."""
        architecture = self._metadata("general.architecture")
        return self._metadata(f"{architecture}.{key}")

    def _metadata(self, key: str) -> str | None:
        buffer = ctypes.create_string_buffer(256)
        size = self._api.llama_model_meta_val_str(self._model, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if size >= 0 else None

    def _new_context(self) -> Any:
        # A small model's threads would wait for each other longer than they work, on a busy machine for seconds.
        useful = self._api.llama_model_n_params(self._model) // _PARAMETERS_PER_THREAD
        threads = min(self._spec.n_threads or max(1, min(useful, physical_cores())), _MOST_THREADS)
        params = self._api.llama_context_default_params()
        params.n_ctx = self.n_ctx
        params.n_batch = params.n_ubatch = min(_BATCH, self.n_ctx)
        params.n_threads = params.n_threads_batch = threads
        offload.put_context(self._api, params, self._spec)
        context = self._api.llama_init_from_model(self._model, params)
        if context is None:
            raise no_room(
                self._spec,
                f"cannot have a context of {self.n_ctx:,} tokens: {self._library.complaint()}: "
                "lower n_ctx in zoo.yaml, or free some memory",
            )
        return context

    def close(self) -> None:
        """Free the context and the weights; may be called twice."""
        self.closed = True
        context, self._context = self._context, None
        model, self._model = self._model, None
        if context is not None:
            self._api.llama_free(context)
        if model is not None:
            self._api.llama_model_free(model)

    def template(self) -> str | None:
        """Return the chat template that the file contains."""
        source = self._api.llama_model_chat_template(self._model, None)
        return source.decode("utf-8", "replace") if source else None

    def marks(self) -> tuple[str, str]:
        """Return how the vocabulary writes the begin and the end mark; empty where it has none."""
        tokens = (self.bos, self._api.llama_vocab_eos(self._vocabulary))
        texts = [self._api.llama_vocab_get_text(self._vocabulary, token) if token >= 0 else b"" for token in tokens]
        return texts[0].decode("utf-8", "replace"), texts[1].decode("utf-8", "replace")

    def tokens(self, text: str) -> list[int]:
        """Return a prompt's tokens, special ones understood, one begin mark at most. Raises PromptTooLongError.

        A whole prompt of the context's size is fine: the first token of an answer needs no place of its own.
        """
        data = text.encode("utf-8", "replace")  # what is left of invalid input would make llama.cpp abort
        space = (self._api.llama_token * (self.n_ctx + 1))()
        found = self._api.llama_tokenize(self._vocabulary, data, len(data), space, len(space), False, True)
        tokens = list(space[: max(found, 0)])
        if self._adds_bos and tokens[:1] != [self.bos]:
            tokens.insert(0, self.bos)
        count = len(tokens) if found >= 0 else -found
        if count > self.n_ctx:
            raise too_long(
                self._spec,
                f"the prompt has {count:,} tokens and the context holds {self.n_ctx:,}: shorten it",
                1 - self.n_ctx / count,
            )
        if not tokens:
            raise failure(self._spec, "the prompt is empty: ask something")
        return tokens

    def generate(self, prompt: Sequence[int], sampling: Sampling, limit: int) -> Generator[int, None, None]:
        """Yield an answer's tokens, `limit` at most; whoever iterates ends it at an end mark.

        All that was read before is forgotten first, so that no request's cost depends on another's.
        """
        api, context = self._api, self._context
        self._library.listen()
        api.llama_memory_clear(self._memory, self._wipes)
        sampler = self._sampler(sampling)
        try:
            for start in range(0, len(prompt), _BATCH):
                self._read(prompt[start : start + _BATCH])
            self._check_numbers()
            latest = (api.llama_token * 1)()
            batch = api.llama_batch_get_one(latest, 1)
            for _ in range(limit - 1):
                token = latest[0] = api.llama_sampler_sample(sampler, context, -1)
                yield token
                if api.llama_decode(context, batch) != 0:
                    raise self._stuck()
            yield api.llama_sampler_sample(sampler, context, -1)
        finally:
            api.llama_sampler_free(sampler)

    def _read(self, tokens: Sequence[int]) -> None:
        space = (self._api.llama_token * len(tokens))(*tokens)
        if self._api.llama_decode(self._context, self._api.llama_batch_get_one(space, len(tokens))) != 0:
            raise self._stuck()

    def _stuck(self) -> BackendError:
        return failure(self._spec, f"cannot go on: {self._library.complaint()}: shorten the prompt, or try again")

    def logprob(self, token: int) -> float:
        """Return the log-probability of the token that `generate` has just yielded, at temperature 1."""
        logits = self._logits().astype(np.float64)
        top = logits.max()
        return float(logits[token] - top - np.log(np.exp(logits - top).sum()))

    def _logits(self) -> Any:
        """Return the logits of the next token, as a view of llama.cpp's own memory."""
        count = self._api.llama_vocab_n_tokens(self._vocabulary)
        return np.ctypeslib.as_array(self._api.llama_get_logits_ith(self._context, -1), shape=(count,))

    def _check_numbers(self) -> None:
        """Refuse to draw from what is no number, as damaged weights give."""
        logits = self._logits()
        if not np.isfinite(logits).any() or np.isnan(logits).any():
            raise failure(self._spec, "computes what is no number, its weights are damaged: get the file again")

    def _sampler(self, sampling: Sampling) -> Any:
        api = self._api
        chain = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
        if sampling.temperature <= 0:
            api.llama_sampler_chain_add(chain, api.llama_sampler_init_greedy())
            return chain
        # llama.cpp takes the largest seed to mean "any", and seeds have 32 bits.
        seed = api.LLAMA_DEFAULT_SEED if sampling.seed is None else sampling.seed % api.LLAMA_DEFAULT_SEED
        for part in (
            api.llama_sampler_init_top_k(sampling.top_k),
            api.llama_sampler_init_top_p(sampling.top_p, 1),
            api.llama_sampler_init_min_p(sampling.min_p, 1),
            api.llama_sampler_init_temp(sampling.temperature),
            api.llama_sampler_init_dist(seed),
        ):
            api.llama_sampler_chain_add(chain, part)
        return chain

    def ends(self, token: int) -> bool:
        """Return whether a token is an end mark."""
        return bool(self._api.llama_vocab_is_eog(self._vocabulary, token))

    def piece(self, token: int) -> bytes:
        """Return the bytes of a token; none for a special one."""
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = self._spell(token, 64)
        return piece

    def _spell(self, token: int, room: int) -> bytes:
        space = ctypes.create_string_buffer(room)
        size = self._api.llama_token_to_piece(self._vocabulary, token, space, room, 0, False)
        return space.raw[:size] if size >= 0 else self._spell(token, -size)


def failure(spec: ModelSpec, what: str, path: Path | None = None) -> BackendError:
    """Return the error that says what is wrong with a model, which one, and where its file is, or that part of it."""
    return BackendError(_about(spec, what, path or spec.place))


def no_room(spec: ModelSpec, what: str) -> NoRoomError:
    """Return the error that says that the memory does not hold a model."""
    return NoRoomError(_about(spec, what, spec.place))


def crashed(spec: ModelSpec, what: str) -> CrashedError:
    """Return the error that says that a model's own process has died within an answer."""
    return CrashedError(_about(spec, what, spec.place))


def too_long(spec: ModelSpec, what: str, excess: float) -> PromptTooLongError:
    """Return the error that says that a prompt is too long, what to do, and which share of it has to go."""
    return PromptTooLongError(_about(spec, f"{what}, or raise n_ctx in zoo.yaml", spec.place), excess)


def _about(spec: ModelSpec, what: str, path: Path | str) -> str:
    return f"model {plain(repr(spec.name))} ({plain(str(path))}): {what}"


def _check_file(spec: ModelSpec) -> None:
    """Raise BackendError where llama.cpp has no words, or would end the process."""
    try:
        read_header(spec.file)
    except ModelFileError as error:
        raise failure(spec, plain(error.what), error.path) from error
