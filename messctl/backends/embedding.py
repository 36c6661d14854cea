"""Features of prompts from a GGUF embedding model: they describe a prompt's meaning instead of its words.

The model's embedding of the prompt, scaled to length 2, fills the columns that otherwise hold words. It is pooled as
the file says, or else is the mean over the tokens. A larger embedding is folded into the columns with fixed signs. The
columns of the prompt's properties stay the same.
"""

from __future__ import annotations

import hashlib
import os
import threading
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from messctl.backends.llama_library import load_library
from messctl.backends.machine import physical_cores
from messctl.display.text import plain
from messctl.errors import BackendError, ModelFileError
from messctl.gguf import read_header
from messctl.inputs import open_plain
from messctl.learning.features import PROPERTY_COUNT, WORDS, Features, WordEncoder, width

_LENGTH = 2.0
"""About half of it is common to all prompts, so the part that differs is as long as the features of words."""
_LONGEST_PROMPT = 2048
"""A longer prompt is cut after this number of tokens, which is enough to know its subject."""


class GgufEncoder:
    """An `Encoder` that uses the GGUF embedding model at `path`; thread-safe.

    The model is loaded at the first prompt. Raises BackendError if the file cannot be used, MissingExtraError if
    llama-cpp-python is not installed.
    """

    kept_from = 100
    """See `Encoder`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._words = WordEncoder()
        self._lock = threading.Lock()
        self._latest: tuple[str, Features] | None = None
        try:
            read_header(path)
        except ModelFileError as error:
            raise BackendError(f"features ({plain(str(error.path))}): {plain(error.what)}") from error

    @cached_property
    def version(self) -> str:
        """Identifies the features: it changes with this code and with the file's bytes."""
        with open_plain(self._path) as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=12)).hexdigest()
        return f"gguf-1 {digest} {self._words.version}"

    def one(self, prompt: str) -> Features:
        """Return the features of one prompt, a single row."""
        # A decision on a prompt and learning from it need the same features.
        latest = self._latest
        if latest is None or latest[0] != prompt:
            self._latest = latest = (prompt, self._rows([prompt], self._words.one(prompt)))
        return latest[1]

    def column(self, prompts: pa.LargeStringArray) -> Features:
        """Return the features of a column of prompts without nulls, one row each."""
        return self._rows(prompts.to_pylist(), self._words.column(prompts))

    def _rows(self, prompts: list[str], words: Features) -> Features:
        """Return the features with embeddings in the columns of words."""
        properties = np.zeros((len(prompts), PROPERTY_COUNT), np.float32)
        row = np.repeat(np.arange(len(prompts)), np.diff(words.starts))
        kept = words.indices >= WORDS
        properties[row[kept], words.indices[kept] - WORDS] = words.values[kept]
        with self._lock:
            embeddings = [self._model.embed(prompt) for prompt in prompts]
        dense = np.concatenate([np.array(embeddings, np.float32).reshape(len(prompts), WORDS), properties], axis=1)
        starts = np.arange(len(prompts) + 1, dtype=np.int64) * width()
        indices = np.tile(np.arange(width(), dtype=np.int32), len(prompts))
        return Features(starts, indices, dense.reshape(-1), width())

    @cached_property
    def _model(self) -> _EmbeddingModel:
        return _EmbeddingModel(self._path)


class _EmbeddingModel:
    """The loaded model and its context."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._library = load_library()
        self._api = api = self._library.api
        self._library.clear_log()
        self._model: Any = api.llama_model_load_from_file(os.fsencode(path), self._library.model_params())
        if self._model is None:
            errors = self._library.last_errors()
            raise self._failure(f"cannot be loaded: {errors}: download the file again, or use another one")
        self._vocabulary = api.llama_model_get_vocab(self._model)
        self._reads = api.llama_encode if api.llama_model_has_encoder(self._model) else api.llama_decode
        self.n_ctx = min(_LONGEST_PROMPT, max(1, api.llama_model_n_ctx_train(self._model)))
        self._context = self._new_context(api.LLAMA_POOLING_TYPE_UNSPECIFIED)
        if self._context is not None and api.llama_pooling_type(self._context) == api.LLAMA_POOLING_TYPE_NONE:
            api.llama_free(self._context)
            self._context = self._new_context(api.LLAMA_POOLING_TYPE_MEAN)
        if self._context is None:
            raise self._failure(f"cannot embed: {self._library.last_errors()}: use an embedding model")
        self._size = api.llama_model_n_embd_out(self._model)
        self._memory = api.llama_get_memory(self._context)

    def _new_context(self, pooling: int) -> Any:
        params = self._api.llama_context_default_params()
        # A prompt is read in one batch, because attention in both directions needs all of it.
        params.n_ctx = params.n_batch = params.n_ubatch = self.n_ctx
        params.n_threads = params.n_threads_batch = physical_cores()
        params.embeddings = True
        params.pooling_type = pooling
        return self._api.llama_init_from_model(self._model, params)

    def embed(self, text: str) -> npt.NDArray[np.float32]:
        """Return the folded embedding of a text, shape (WORDS,); all 0 if the text has no tokens."""
        api, data = self._api, text.encode("utf-8", "replace")[: 64 * self.n_ctx]
        room = len(data) + 8
        space = (api.llama_token * room)()
        found = api.llama_tokenize(self._vocabulary, data, len(data), space, room, True, False)
        tokens = space[: min(max(found, 0), self.n_ctx)]
        if not tokens:
            return np.zeros(WORDS, np.float32)
        if self._memory is not None:
            api.llama_memory_clear(self._memory, True)
        self._library.clear_log()
        read = (api.llama_token * len(tokens))(*tokens)  # the batch points to it
        batch = api.llama_batch_get_one(read, len(tokens))
        pooled = None
        if self._reads(self._context, batch) == 0:
            pooled = api.llama_get_embeddings_seq(self._context, 0)
        if not pooled:
            raise self._failure(f"cannot embed a prompt: {self._library.last_errors()}: use an embedding model")
        return folded(np.ctypeslib.as_array(pooled, shape=(self._size,)).astype(np.float64))

    def _failure(self, what: str) -> BackendError:
        return BackendError(f"features ({plain(str(self._path))}): {what}")


def folded(embedding: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return an embedding (any length) as a vector of shape (WORDS,) and length 2; 0 stays 0.

    Number i is added to column i mod WORDS with a fixed sign; the first WORDS numbers keep their signs. Raises
    BackendError for numbers that are not finite.
    """
    if not np.isfinite(embedding).all():
        raise BackendError(
            "features: the model computes values that are not numbers, so its weights are damaged: "
            "download the file again"
        )
    places = np.arange(len(embedding))
    signs = np.where((places // WORDS) * (places % WORDS + 1) % 2 == 1, -1.0, 1.0)
    columns = np.bincount(places % WORDS, signs * embedding, minlength=WORDS)
    length = float(np.sqrt(columns @ columns))
    return (columns * (_LENGTH / length) if length else columns).astype(np.float32)
