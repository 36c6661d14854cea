"""A BERT computed plainly in NumPy from the files of Hugging Face, to hold embeddings of llama.cpp against."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
from minilm_gguf import safetensors
from scipy.special import erf

_PARTS = re.compile(r"[一-鿿]|\w+|[^\w\s]")


class Bert:
    """The model in a folder: `embed` returns the mean of its last layer, scaled to length 1."""

    def __init__(self, folder: Path) -> None:
        self._config = json.loads((folder / "config.json").read_text())
        self._weights: dict[str, Any] = dict(safetensors(folder / "model.safetensors"))
        words = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
        self._numbers = {word: number for number, word in enumerate(words) if word}

    def tokens(self, text: str) -> list[int]:
        """Return a text's tokens by WordPiece, between [CLS] and [SEP]."""
        plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
        found = [number for word in _PARTS.findall(plain) for number in self._pieces(word)]
        return [self._numbers["[CLS]"], *found, self._numbers["[SEP]"]]

    def embed(self, text: str) -> Any:
        """Return the embedding of a text, shape (hidden_size,)."""
        tokens = self.tokens(text)
        w, root = self._weights, "embeddings."
        x = w[f"{root}word_embeddings.weight"][tokens] + w[f"{root}position_embeddings.weight"][: len(tokens)]
        x = self._normed(x + w[f"{root}token_type_embeddings.weight"][0], f"{root}LayerNorm")
        for block in range(self._config["num_hidden_layers"]):
            x = self._block(x, f"encoder.layer.{block}.")
        mean = x.mean(axis=0)
        return mean / np.linalg.norm(mean)

    def _block(self, x: Any, at: str) -> Any:
        heads = self._config["num_attention_heads"]
        q, k, v = (
            self._linear(x, f"{at}attention.self.{name}").reshape(len(x), heads, -1).transpose(1, 0, 2)
            for name in ("query", "key", "value")
        )
        scores = np.exp(q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[2]))
        mixed = (scores / scores.sum(axis=2, keepdims=True) @ v).transpose(1, 0, 2).reshape(len(x), -1)
        x = self._normed(x + self._linear(mixed, f"{at}attention.output.dense"), f"{at}attention.output.LayerNorm")
        inner = self._linear(x, f"{at}intermediate.dense")
        inner = inner * (1 + erf(inner / np.sqrt(2))) / 2
        return self._normed(x + self._linear(inner, f"{at}output.dense"), f"{at}output.LayerNorm")

    def _linear(self, x: Any, name: str) -> Any:
        return x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _normed(self, x: Any, name: str) -> Any:
        centred = x - x.mean(axis=1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=1, keepdims=True) + self._config["layer_norm_eps"])
        return centred / spread * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]

    def _pieces(self, word: str) -> list[int]:
        """Return the longest pieces that make up a word, from its start; [UNK] if there are none."""
        found, start = [], 0
        while start < len(word):
            spelt = ("##" if start else "") + word[start:]
            while spelt not in self._numbers:
                spelt = spelt[:-1]
                if spelt in ("", "##", "#"):
                    return [self._numbers["[UNK]"]]
            found.append(self._numbers[spelt])
            start += len(spelt) - (2 if start else 0)
        return found
