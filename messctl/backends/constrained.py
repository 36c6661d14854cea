"""Drawing tokens under a grammar. llama.cpp ends the process if no token keeps to it, so that is looked at first."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from messctl.backends.llama_library import unprinted


class Constrained:
    """Draws tokens by a `chain` of samplers, of those that keep to a `grammar`. Free it with `close`.

    `api` is llama.cpp's, `vocabulary` the model's. Raises ValueError for an invalid grammar.
    """

    def __init__(self, api: Any, vocabulary: Any, chain: Any, grammar: str) -> None:
        self._api, self._chain = api, chain
        with unprinted():
            self._grammar = api.llama_sampler_init_grammar(vocabulary, grammar.encode(), b"root")
        if not self._grammar:
            raise ValueError("llama.cpp cannot read the grammar")
        size = api.llama_vocab_n_tokens(vocabulary)
        self._all = np.zeros(size, dtype=[("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])
        self._all["id"] = np.arange(size)

    def draw(self, logits: npt.NDArray[np.float32]) -> int | None:
        """Return the next token; None if none keeps to the grammar."""
        candidates = self._all.copy()
        candidates["logit"] = logits
        array = self._api.llama_token_data_array()
        array.data = candidates.ctypes.data_as(ctypes.POINTER(self._api.llama_token_data))
        array.size, array.selected, array.sorted = len(candidates), -1, False
        self._api.llama_sampler_apply(self._grammar, ctypes.byref(array))
        if not np.isfinite(candidates["logit"][: array.size]).any():
            return None
        self._api.llama_sampler_apply(self._chain, ctypes.byref(array))
        token = int(array.data[array.selected].id)
        self._api.llama_sampler_accept(self._grammar, token)
        self._api.llama_sampler_accept(self._chain, token)
        return token

    def close(self) -> None:
        """Free the grammar; the chain is the caller's."""
        self._api.llama_sampler_free(self._grammar)
