"""A Llama computed plainly in NumPy from a GGUF file, to hold log-probabilities of llama.cpp against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize


class PlainLlama:
    """The model in a file. `logprobs` returns what it thinks of the next token after each of these tokens."""

    def __init__(self, path: Path) -> None:
        reader = GGUFReader(path)
        self._fields = {name.partition(".")[2]: field for name, field in reader.fields.items()}
        self._weights = {each.name: dequantize(each.data, each.tensor_type) for each in reader.tensors}
        self._heads = self._value("attention.head_count")
        self._kv_heads = self._value("attention.head_count_kv")

    def logprobs(self, tokens: list[int]) -> Any:
        """Return natural log-probabilities, shape (tokens, vocabulary)."""
        x = self._weights["token_embd.weight"][tokens]
        for block in range(self._value("block_count")):
            x = self._block(x, f"blk.{block}.")
        output = self._weights.get("output.weight", self._weights["token_embd.weight"])
        logits = self._normed(x, "output_norm") @ output.T
        logits -= logits.max(axis=1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    def _block(self, x: Any, at: str) -> Any:
        normed = self._normed(x, f"{at}attn_norm")
        q = self._turned(normed @ self._weights[f"{at}attn_q.weight"].T, self._heads)
        k = self._turned(normed @ self._weights[f"{at}attn_k.weight"].T, self._kv_heads)
        v = (normed @ self._weights[f"{at}attn_v.weight"].T).reshape(len(x), self._kv_heads, -1).transpose(1, 0, 2)
        k, v = (np.repeat(each, self._heads // self._kv_heads, axis=0) for each in (k, v))
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[2])
        scores = np.where(np.tri(len(x), dtype=bool), scores, -np.inf)
        scores = np.exp(scores - scores.max(axis=2, keepdims=True))
        mixed = (scores / scores.sum(axis=2, keepdims=True) @ v).transpose(1, 0, 2).reshape(len(x), -1)
        x = x + mixed @ self._weights[f"{at}attn_output.weight"].T
        normed = self._normed(x, f"{at}ffn_norm")
        gate, up = (normed @ self._weights[f"{at}ffn_{name}.weight"].T for name in ("gate", "up"))
        return x + (gate / (1 + np.exp(-gate)) * up) @ self._weights[f"{at}ffn_down.weight"].T

    def _turned(self, x: Any, heads: int) -> Any:
        """Split into heads and turn each pair of numbers by the token's position; shape (heads, tokens, width)."""
        x = x.reshape(len(x), heads, -1).transpose(1, 0, 2)
        width = x.shape[2]
        angles = np.outer(np.arange(x.shape[1]), self._value("rope.freq_base") ** (-np.arange(0, width, 2) / width))
        even, odd = x[..., 0::2], x[..., 1::2]
        turned = np.empty_like(x)
        turned[..., 0::2] = even * np.cos(angles) - odd * np.sin(angles)
        turned[..., 1::2] = even * np.sin(angles) + odd * np.cos(angles)
        return turned

    def _normed(self, x: Any, name: str) -> Any:
        spread = np.sqrt((x**2).mean(axis=1, keepdims=True) + self._value("attention.layer_norm_rms_epsilon"))
        return x / spread * self._weights[f"{name}.weight"]

    def _value(self, name: str) -> Any:
        return self._fields[name].contents()
