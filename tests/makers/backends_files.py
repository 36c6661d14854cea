"""Tiny GGUF models for tests, which llama.cpp can run and which are written in milliseconds.

A model with `follows` gives a fixed answer: its layers add nothing, so the last token alone decides the next one. A
model without it has random weights, and an answer that depends on the whole prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import gguf_making
import numpy as np
from gguf import GGUFWriter, TokenType
from gguf_making import TEMPLATE

BOS, END, USER, ANSWER = "<s>", "<|end|>", "<|user|>", "<|answer|>"


def _byte_names() -> list[str]:
    """Return the name of each of the 256 bytes in GPT-2's byte-level vocabulary."""
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    names, fresh = {}, 256
    for byte in range(256):
        if byte in kept:
            names[byte] = chr(byte)
        else:
            names[byte], fresh = chr(fresh), fresh + 1
    return [names[byte] for byte in range(256)]


# Token 257 is for the one merge that llama.cpp requires in such a vocabulary.
TOKENS = (*_byte_names(), "ab", BOS, END, USER, ANSWER)
ID = {name: place for place, name in enumerate(TOKENS)}
SPECIAL = (BOS, END, USER, ANSWER)


def token(what: str | int) -> int:
    """Return the id of a special token, of an ASCII character or of a byte."""
    return what if isinstance(what, int) else ID[what] if what in SPECIAL else ord(what)


def write_gguf(
    path: Path,
    follows: Mapping[str | int, str | int] | None = None,
    *,
    template: str | None = TEMPLATE,
    architecture: str = "llama",
    n_ctx: int = 256,
    blocks: int = 1,
    broken_weights: bool = False,
    omit: str | None = None,
    tokenizer: str = "gpt2",
    tokens: tuple[str, ...] = TOKENS,
    special: Sequence[str] = SPECIAL,
    other_weights: Mapping[str, np.ndarray[Any, Any]] | None = None,
) -> Path:
    """Write a model in which each token decides the next one (`follows`), or without it a model with random weights.

    `other_weights` replace weights of the same name.
    """
    size, heads = (272, 4) if follows is not None else (32, 4)

    def more(writer: GGUFWriter) -> None:
        writer.add_feed_forward_length(64)
        writer.add_rope_dimension_count(size // heads)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_vocab_size(len(TOKENS))
        writer.add_tokenizer_model(tokenizer)
        if tokenizer == "none":
            return
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_types([TokenType.CONTROL if name in special else TokenType.NORMAL for name in tokens])
        writer.add_token_merges(["a b"])
        writer.add_bos_token_id(ID[BOS])
        writer.add_eos_token_id(ID[END])
        writer.add_add_bos_token(True)

    weights = {name: array for name, array in _weights(size, follows).items() if name != omit}
    if broken_weights:
        weights = {name: np.full_like(array, np.nan) for name, array in weights.items()}
    return gguf_making.write_gguf(
        path,
        architecture=architecture,
        width=size,
        blocks=blocks,
        heads=heads,
        kv_heads=heads,
        context=n_ctx,
        template=template,
        tensors={**weights, **(other_weights or {})},
        file_type=None,
        vocabulary=None if tokenizer == "none" else tokens,
        more=more,
    )


def _weights(size: int, follows: Mapping[str | int, str | int] | None) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)

    def draw(rows: int, columns: int) -> np.ndarray[Any, Any]:
        return (rng.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)

    weights = {
        "token_embd.weight": draw(len(TOKENS), size),
        "output.weight": draw(len(TOKENS), size) * 3,
        "output_norm.weight": np.ones(size, np.float32),
        "blk.0.attn_norm.weight": np.ones(size, np.float32),
        "blk.0.ffn_norm.weight": np.ones(size, np.float32),
        **{f"blk.0.attn_{part}.weight": draw(size, size) * 2 for part in ("q", "k", "v", "output")},
        "blk.0.ffn_gate.weight": draw(64, size),
        "blk.0.ffn_up.weight": draw(64, size),
        "blk.0.ffn_down.weight": draw(size, 64),
    }
    if follows is not None:
        weights["token_embd.weight"] = np.eye(len(TOKENS), size, dtype=np.float32)
        weights["output.weight"] = np.zeros((len(TOKENS), size), np.float32)
        for before, after in follows.items():
            weights["output.weight"][token(after), token(before)] = 2.0
        weights["blk.0.attn_output.weight"] *= 0
        weights["blk.0.ffn_down.weight"] *= 0
    return weights


def says(answer: bytes) -> dict[str | int, str | int]:
    """Return `follows` for a model that always answers `answer`, in which no byte may occur twice."""
    assert len(set(answer)) == len(answer)
    chain: list[str | int] = [ANSWER, *answer, END]
    return dict(pairwise(chain))
