"""One GGUF model in memory: its weights, its vocabulary, and one context that answers one question at a time.

The code calls llama.cpp's C interface, not llama-cpp-python's class `Llama`. That class prints to stderr or redirects
it for the whole process, chooses a chat format by itself, and needs several times as long per token of a small model.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from messctl.backends import offload
from messctl.backends.constrained import Constrained
from messctl.backends.llama_errors import failure, no_room, too_long, unsuitable
from messctl.backends.llama_library import LlamaLibrary
from messctl.backends.machine import free_memory, physical_cores
from messctl.backends.thinking import TAGS
from messctl.display.text import plain
from messctl.errors import BackendError, ModelFileError
from messctl.gguf import read_header
from messctl.zoo import ModelSpec
from messctl.zoo.memory import format_bytes

_BATCH = 512
_LONGEST_CONTEXT = 2**24
_MOST_THREADS = 512  # llama.cpp's own arrays end there, and nothing checks
_PARAMETERS_PER_THREAD = 10_000_000
_TAGS = frozenset(tag.encode() for pair in TAGS.items() for tag in pair)
_ALLOCATING = re.compile(r"allocat|out of memory|cannot reserve", re.IGNORECASE)
"""llama.cpp's errors about too little memory."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn: llama.cpp's parameters of the same names.

    `temperature` ≥ 0; at 0 the likeliest token is taken. `seed` ≥ 0; None draws differently each time. The penalties
    are of tokens that came already, -2..2. `grammar` (GBNF): only tokens that keep to it are drawn.
    """

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int | None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    grammar: str | None = None


class LlamaModel:
    """A loaded model, with a context of `n_ctx` tokens; `bos` is its begin mark, -1 without one.

    Not thread-safe, like llama.cpp: hold `lock` to use it, and check `closed` first. Raises BackendError if it cannot
    be loaded, NoRoomError if memory is too short for it.
    """

    n_ctx: int
    bos: int
    offload: offload.Offload

    def __init__(self, library: LlamaLibrary, spec: ModelSpec) -> None:
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
        library.clear_log()
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    def _load(self) -> None:
        api, spec = self._api, self._spec
        params = self._library.model_params()
        if spec.gpu == "require" and (problem := offload.missing_gpu(api, spec)):
            raise failure(spec, problem)
        offload.set_model_params(api, params, spec)
        params.progress_callback = self._library.keep_loading
        self._model = api.llama_model_load_from_file(os.fsencode(spec.file), params)
        if self._model is None:
            errors = self._library.last_errors()
            if _ALLOCATING.search(errors):
                raise no_room(spec, f"cannot be loaded: {errors}: free some memory, or use a smaller file")
            raise failure(spec, f"cannot be loaded: {errors}: {offload.load_remedy(errors)}")
        self._vocabulary = api.llama_model_get_vocab(self._model)
        self._check_kind()
        self.n_ctx = self._context_size()
        self._context = self._new_context()
        self._memory = api.llama_get_memory(self._context)
        self.offload = offload.Offload.from_log(self._library.placement_lines())
        if self._memory is None:
            raise failure(spec, "cannot generate answers, maybe it is an embedding model: use another one")
        # The memory of such a model is one running state, of which no part can be masked out.
        self._wipes = bool(api.llama_model_is_recurrent(self._model) or api.llama_model_is_hybrid(self._model))
        self.bos = api.llama_vocab_bos(self._vocabulary)
        self._adds_bos = self.bos >= 0 and bool(api.llama_vocab_get_add_bos(self._vocabulary))

    def _check_kind(self) -> None:
        """Refuse the kinds of models that llama.cpp can load but that abort the process when they run."""
        api = self._api
        if api.llama_model_has_encoder(self._model) or not api.llama_model_has_decoder(self._model):
            raise failure(self._spec, "is an encoder model, which messctl cannot run: use a decoder-only one")
        if api.llama_model_is_diffusion(self._model):
            raise failure(self._spec, "is a diffusion model, which messctl cannot run: use another one")

    def _context_size(self) -> int:
        spec, size = self._spec, self._spec.context(self._api.llama_model_n_ctx_train(self._model))
        if not 0 < size <= _LONGEST_CONTEXT:
            raise failure(spec, f"cannot have a context of {size:,} tokens: set n_ctx in zoo.yaml, e.g. 4096")
        needed, free = size * self._cache_per_token(), free_memory()
        if free is not None and needed > free:
            raise no_room(
                spec,
                f"needs {format_bytes(needed)} for a context of {size:,} tokens, but {format_bytes(free)} are free: "
                "lower n_ctx in zoo.yaml",
            )
        return size

    def _cache_per_token(self) -> int:
        """Return the bytes per token of a cache in f16; 0 if it is not on the CPU, or its size is not known.

        llama.cpp fills the cache with zeros, and the system kills a process that fills more than there is.
        """
        api, model = self._api, self._model
        unusual = ("attention.kv_lora_rank", "attention.sliding_window", "attention.head_count_kv")
        on_gpu = self._spec.gpu_layers != 0 and api.llama_supports_gpu_offload()
        if on_gpu or api.llama_model_is_recurrent(model) or api.llama_model_is_hybrid(model):
            return 0
        if any(self._field(key) is not None for key in unusual[:2]) or not (self._field(unusual[2]) or "0").isdecimal():
            return 0
        heads, kv_heads = api.llama_model_n_head(model), api.llama_model_n_head_kv(model)
        usual = api.llama_model_n_embd(model) // max(heads, 1)
        sizes = [self._field(f"attention.{part}_length") for part in ("key", "value")]
        widths = sum(int(size) if size is not None and size.isdecimal() else usual for size in sizes)
        return int(2 * api.llama_model_n_layer(model) * kv_heads * widths)

    def _field(self, key: str) -> str | None:
        """Return the file's field of this name about its architecture."""
        architecture = self._metadata("general.architecture")
        return self._metadata(f"{architecture}.{key}")

    def _metadata(self, key: str) -> str | None:
        buffer = ctypes.create_string_buffer(256)
        size = self._api.llama_model_meta_val_str(self._model, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if size >= 0 else None

    def _new_context(self) -> Any:
        # The threads of a small model would wait for each other longer than they work: seconds on a busy machine.
        useful = self._api.llama_model_n_params(self._model) // _PARAMETERS_PER_THREAD
        threads = min(self._spec.n_threads or max(1, min(useful, physical_cores())), _MOST_THREADS)
        params = self._api.llama_context_default_params()
        params.n_ctx = self.n_ctx
        params.n_batch = params.n_ubatch = min(_BATCH, self.n_ctx)
        params.n_threads = params.n_threads_batch = threads
        offload.set_context_params(self._api, params, self._spec)
        context = self._api.llama_init_from_model(self._model, params)
        if context is None:
            raise no_room(
                self._spec,
                f"cannot have a context of {self.n_ctx:,} tokens: {self._library.last_errors()}: "
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

    def chat_template(self) -> str | None:
        """Return the chat template (Jinja) in the file; None without one."""
        source = self._api.llama_model_chat_template(self._model, None)
        return source.decode("utf-8", "replace") if source else None

    def begin_and_end(self) -> tuple[str, str]:
        """Return the texts of the begin mark and the end mark; "" for a mark that the vocabulary lacks."""
        tokens = (self.bos, self._api.llama_vocab_eos(self._vocabulary))
        texts = [self._api.llama_vocab_get_text(self._vocabulary, token) if token >= 0 else b"" for token in tokens]
        return texts[0].decode("utf-8", "replace"), texts[1].decode("utf-8", "replace")

    def tokens(self, text: str) -> list[int]:
        """Return a prompt's tokens, `n_ctx` at most, special tokens included, with at most one begin mark.

        A prompt may fill the whole context: the first token of an answer needs no place in it. Raises
        PromptTooLongError, and BackendError for an empty prompt.
        """
        data = text.encode("utf-8", "replace")  # surrogates would make llama.cpp abort
        space = (self._api.llama_token * (self.n_ctx + 1))()
        found = self._api.llama_tokenize(self._vocabulary, data, len(data), space, len(space), False, True)
        tokens = list(space[: max(found, 0)])
        if self._adds_bos and tokens[:1] != [self.bos]:
            tokens.insert(0, self.bos)
        count = len(tokens) if found >= 0 else -found
        if count > self.n_ctx:
            raise too_long(
                self._spec,
                f"the prompt has {count:,} tokens, but the context holds {self.n_ctx:,}: shorten it",
                1 - self.n_ctx / count,
            )
        if not tokens:
            raise failure(self._spec, "the prompt is empty: write one")
        return tokens

    def generate(
        self, prompt: Sequence[int], sampling: Sampling, limit: int, check: Callable[[], None] = lambda: None
    ) -> Generator[int, None, None]:
        """Yield an answer's tokens, `limit` ≥ 1 at most. It does not stop at an end mark: that is up to the caller.

        The context is cleared first, so that no request's cost depends on an earlier one. `check` is called before each
        batch of the prompt and each token, and may raise. Raises BackendError.
        """
        api, context = self._api, self._context
        self._library.clear_log()
        api.llama_memory_clear(self._memory, self._wipes)
        sampler = self._sampler(sampling)
        draw, free = self._drawing(sampler, sampling.grammar)
        try:
            for start in range(0, len(prompt), _BATCH):
                check()
                self._read(prompt[start : start + _BATCH])
            self._check_numbers()
            latest = (api.llama_token * 1)()
            batch = api.llama_batch_get_one(latest, 1)
            for _ in range(limit - 1):
                check()
                token = latest[0] = draw()
                yield token
                if api.llama_decode(context, batch) != 0:
                    raise self._decode_error()
            yield draw()
        finally:
            free()
            api.llama_sampler_free(sampler)

    def _drawing(self, sampler: Any, grammar: str | None) -> tuple[Callable[[], int], Callable[[], None]]:
        """Return what draws the next token, and what frees it in the end. With a grammar it may raise PromptError."""
        if grammar is None:
            return lambda: int(self._api.llama_sampler_sample(sampler, self._context, -1)), lambda: None
        try:
            constrained = Constrained(self._api, self._vocabulary, sampler, grammar)
        except ValueError as error:
            self._api.llama_sampler_free(sampler)
            raise unsuitable(self._spec, f"{error}: change `response_format`") from None

        def draw() -> int:
            token = constrained.draw(self._logits())
            if token is None:
                what = "its vocabulary cannot write what `response_format` asks for: ask another model"
                raise unsuitable(self._spec, what)
            return token

        return draw, constrained.close

    def _read(self, tokens: Sequence[int]) -> None:
        space = (self._api.llama_token * len(tokens))(*tokens)
        if self._api.llama_decode(self._context, self._api.llama_batch_get_one(space, len(tokens))) != 0:
            raise self._decode_error()

    def _decode_error(self) -> BackendError:
        errors = self._library.last_errors()
        return failure(self._spec, f"cannot compute the next token: {errors}: shorten the prompt, or try again")

    def logprob(self, token: int) -> float:
        """Return the natural log-probability, at temperature 1, of the token that `generate` has just yielded."""
        logits = self._logits().astype(np.float64)
        top = logits.max()
        return float(logits[token] - top - np.log(np.exp(logits - top).sum()))

    def _logits(self) -> Any:
        """Return the logits of the next token, as a view of llama.cpp's own memory."""
        count = self._api.llama_vocab_n_tokens(self._vocabulary)
        return np.ctypeslib.as_array(self._api.llama_get_logits_ith(self._context, -1), shape=(count,))

    def _check_numbers(self) -> None:
        """Refuse to draw a token from logits that are not numbers, which come from damaged weights."""
        logits = self._logits()
        if not np.isfinite(logits).any() or np.isnan(logits).any():
            raise failure(
                self._spec, "computes values that are not numbers, so its weights are damaged: download the file again"
            )

    def _sampler(self, sampling: Sampling) -> Any:
        api = self._api
        chain = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
        if sampling.frequency_penalty or sampling.presence_penalty:
            start = api.llama_sampler_init_penalties
            size = [api.llama_vocab_n_tokens(self._vocabulary)] if len(start.argtypes) > 4 else []  # of some versions
            penalties = (self.n_ctx, 1.0, sampling.frequency_penalty, sampling.presence_penalty)
            api.llama_sampler_chain_add(chain, start(*size, *penalties))
        if sampling.temperature <= 0:
            api.llama_sampler_chain_add(chain, api.llama_sampler_init_greedy())
            return chain
        # Seeds have 32 bits, and the largest one means "random" in llama.cpp.
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
        """Return the bytes of a token; none for a special token, except for the tags around thinking."""
        piece = self._pieces.get(token)
        if piece is None:
            name = self._spell(token, 64, special=True)
            piece = self._pieces[token] = name if name in _TAGS else self._spell(token, 64)
        return piece

    def _spell(self, token: int, room: int, *, special: bool = False) -> bytes:
        space = ctypes.create_string_buffer(room)
        size = self._api.llama_token_to_piece(self._vocabulary, token, space, room, 0, special)
        return space.raw[:size] if size >= 0 else self._spell(token, -size, special=special)


def _check_file(spec: ModelSpec) -> None:
    """Raise BackendError for a file that makes llama.cpp fail without a reason, or abort the process."""
    try:
        read_header(spec.file)
    except ModelFileError as error:
        raise failure(spec, plain(error.what), error.path) from error
